//! Error codes: one table, one class for each code, one next action.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an error calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// May pass by itself: retried.
    Transient,
    /// The same request can never succeed: not retried.
    Permanent,
    /// A person has to change something first: not retried.
    UserAction,
    /// A server or service is unfit: retried, then a matter for its operators.
    Infrastructure,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Transient, Self::Permanent, Self::UserAction, Self::Infrastructure];

    /// Whether another attempt can help without anybody's doing.
    #[must_use]
    pub fn retries(self) -> bool {
        matches!(self, Self::Transient | Self::Infrastructure)
    }

    /// The name, as in events and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::UserAction => "user_action",
            Self::Infrastructure => "infrastructure",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! codes {
    ($($(#[$head:meta])* $variant:ident $name:literal $class:ident $meaning:literal $action:literal;)*) => {
        /// A stable error code. Codes are added, never renamed and never given another class.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, as in events and tables.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The one class of this code.
            #[must_use]
            pub fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }

            /// What has happened, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do next, in one sentence.
            #[must_use]
            pub fn next_action(self) -> &'static str {
                match self { $(Self::$variant => $action,)* }
            }
        }
    };
}

codes! {
    // Requests
    NotJson "not-json" Permanent "The message isn't JSON" "Publish a CloudEvent as JSON (structured mode) or with ce- headers (binary mode)";
    NotACloudEvent "not-a-cloud-event" Permanent "The message isn't a CloudEvent 1.0" "Set specversion, id, source and type as CloudEvents 1.0 asks";
    UnsupportedType "unsupported-type" Permanent "Nobody here handles events of this type" "Compare the event's type with the names of the JSON Schemas, which are those that are known";
    UnsupportedVersion "unsupported-version" Permanent "The version of this event isn't known here" "Send a version that these workers know, or upgrade the workers first";
    MissingField "missing-field" Permanent "A required field is missing" "Add the field that the message names, as the JSON Schema describes it";
    InvalidField "invalid-field" Permanent "A field breaks its rule" "Correct the field that the message names, as the JSON Schema describes it";
    PlaintextSecret "plaintext-secret" Permanent "A secret arrived in plain text" "Treat that secret as leaked and replace it, then send it as a box sealed to the workers' public key";
    MessageTooLarge "message-too-large" Permanent "The message is larger than the workers accept" "Send at most 1 MiB; move large values into the project or mounted secrets";
    ExpiredEvent "expired-event" Permanent "The request came after its expiry time" "Emit the event anew if the project should still be deployed";
    UnknownSealingKey "unknown-sealing-key" UserAction "A secret is sealed to a key that the workers don't hold" "Seal to a current public key of the workers (`slipway keys public` prints them), or mount the old key and replay";
    SealingKeyUnusable "sealing-key-unusable" UserAction "A key that opens sealed secrets is mounted into the workers and can't be used" "Repair the file that the message names, then replay: it's read anew at each use";
    SealedSecretUnreadable "sealed-secret-unreadable" Permanent "A sealed secret can't be opened with the key it names" "Seal the value anew with X25519 sealed boxes (PyNaCl SealedBox)";
    UnknownSecretReference "unknown-secret-reference" UserAction "A secret refers to something that isn't mounted into the workers" "Mount the secret under that name and replay";
    UnknownServer "unknown-server" UserAction "The inventory doesn't know this server" "Correct the handle, or add the server with `slipway servers add`";
    ServerNotInInventory "server-not-in-inventory" Permanent "The inventory doesn't hold the server that the event describes" "Have an operator add it with `slipway servers add`, then emit the event again";
    SourceNotAllowed "source-not-allowed" Permanent "The request's source may not do that" "Have an operator look at `slipway sources list`, and allow it there if it's right";
    SecretNotForProject "secret-not-for-project" Permanent "A sealed secret was made for another project or another variable" "Seal the value anew for this project's id and this variable's name, as `seal` in the Python file does";
    UnknownProject "unknown-project" UserAction "No deployment of this project is known, so there is nothing to do it to" "Compare project id, slug and server with `slipway deployments list`; a project must have been deployed by Slipway first";
    AmbiguousServer "ambiguous-server" UserAction "The project is on several servers, and the request names none" "Send the request again with the server that it's meant for";
    NotDeployed "not-deployed" UserAction "The project isn't on the server any more" "Deploy it anew";
    SlugTaken "slug-taken" Permanent "Another project has this slug on this server" "Give the project another slug, or another server; where it's to have what the other one left there, its files, data and secrets, an operator says so with `slipway projects hand-over`, and the request is replayed";
    RepositoryTaken "repository-taken" Permanent "CI of this repository deploys another project, and one repository holds the secrets of one" "Set `pushes_deployed_by` to `webhook`, which needs none; or let an operator give the repository's CI to this project with `slipway projects hand-over`, and deploy it again";
    DomainTaken "domain-taken" UserAction "Another project has this domain" "Leave the domain out of this request, or take it from the project that the message names: by a request of that one without it, or by undeploying it; then replay";
    NoCapacity "no-capacity" Infrastructure "No server has room for the project" "Read in `data.placement` of the result what each server lacks; make room or add a server, then replay: `slipway placement explain` shows beforehand what would be chosen";
    UnknownVersion "unknown-version" UserAction "There is no such version to roll back to" "Choose one that `slipway projects versions` lists, or deploy the commit";
    UnknownDeployment "unknown-deployment" UserAction "No deployment of this id is known, so there is nothing to cancel yet" "Compare the id with `slipway deployments list`; should its request still arrive, it's cancelled at once";
    MissingHalf "missing-half" UserAction "The other half of what a deployment needs hasn't come in time" "Find out why the half that the message names was never published, and publish it: it's joined with this one, which is kept";
    AlreadyOnServer "already-on-server" UserAction "The project is to go to a server that it's on already" "Name another server, or none; what is left there of an earlier deployment goes with `slipway undeploy --server`";
    DeploymentUnderWay "deployment-under-way" Transient "A deployment of the project hasn't ended, and a move takes the version that it has" "Wait for the end of the deployment that the message names, then replay";
    DataInVolumes "data-in-volumes" UserAction "The project has data that the move wasn't told what becomes of, or can't copy" "Read in the message where they are. Volumes with a name: move it with `--data copy` (`data: copy` in the event), it's stopped while they are copied; files in its directory: have the project keep them in such a volume";
    FormerServerUnreachable "former-server-unreachable" Infrastructure "The server that a move takes the project away from can't be reached" "Check that the server runs and that its sshd takes the workers' key, then replay";
    CopyFailed "copy-failed" Infrastructure "The project's data couldn't be copied to the other server" "Read in the message which volume it was and why; the project serves where it was. Repair that, then replay";
    // The broker's own dead letters
    DeliveryLimitReached "delivery-limit-reached" Infrastructure "Workers took the message again and again and never finished taking it in" "Look at the workers' logs for crashes and lost connections, then replay";
    ExpiredInQueue "expired-in-queue" Infrastructure "The message waited in the queue for longer than the broker's policy allows" "Start workers, or take the time limit off slipway.deployments, then replay";
    QueueOverflow "queue-overflow" Infrastructure "The queue was full and the broker dropped its oldest message" "Start workers, or raise the limit that a policy sets on slipway.deployments, then replay";
    RejectedByConsumer "rejected-by-consumer" Infrastructure "Something that isn't a worker took the message from the queue and rejected it" "Find who else consumes slipway.deployments, stop it, then replay";
    IntakeFailed "intake-failed" Infrastructure "The message couldn't be taken in, again and again, though the database answered others" "Find in the message what the database fails at, such as a lock that somebody holds, end that, then replay";
    UnexplainedDeadLetter "unexplained-dead-letter" Infrastructure "The message lay among the dead letters, and nothing here knows why" "After a restored backup, replay it; otherwise find who publishes to slipway.dead-letters";
    // Engine
    InterruptedTooOften "interrupted-too-often" Infrastructure "Attempts were interrupted again and again without finishing" "Look at the workers' logs for crashes or kills, then replay";
    DeadlineExceeded "deadline-exceeded" Transient "The deadline passed before the work was done" "Look at what was slow; replay when it's fast again";
    StaleFence "stale-fence" Transient "A newer claim has acted on this project's directory on the server" "Find the other Slipway that deploys this project to this server, or the database whose clock ran ahead; the number stands in `.slipway/fence` in the project's directory and, once it was undeployed, in `.slipway-kept/SLUG/fence` beside that directory";
    ProjectBusy "project-busy" Transient "Something else works in the project's directory on the server" "Wait for CI's job or the process that the message names to end, then replay";
    DeploymentOverdue "deployment-overdue" Permanent "The deployment took longer than deployments may, retries included" "Repair what its attempts failed with, then replay; SLIPWAY_DEPLOYMENT_TIMEOUT sets the limit";
    InternalError "internal-error" Infrastructure "Slipway itself failed" "Report it with the deployment's id and the worker's log";
    // SSH
    ServerUnreachable "server-unreachable" Transient "No SSH connection to the server could be made" "Check that the server is up and that the workers may reach its SSH port";
    ServerConnectionLost "server-connection-lost" Transient "The SSH connection broke, or the server ended the command, while it ran" "Replay when the server is stable; every stage converges. If only commands end, look for a lack of memory in the server's kernel log";
    SshKeyRefused "ssh-key-refused" UserAction "The server refused the workers' SSH key" "Put the workers' public key into the user's authorized_keys, or correct the key in the inventory; where both are right, sshd's log on the server says why: a login shell that doesn't exist, AllowUsers, or who may write that file";
    SshKeyUnusable "ssh-key-unusable" UserAction "The SSH key for this server can't be read" "Mount the key, or store it again with `slipway servers add --key-file`";
    HostKeyUnknown "host-key-unknown" UserAction "The server's host key isn't pinned" "Compare the fingerprint, then pin it with `slipway servers add --host-key`, or allow trust on first use for this server";
    HostKeyMismatch "host-key-mismatch" UserAction "The server shows another host key than the pinned one" "If the server was reinstalled, pin the new key; otherwise somebody is in between: don't deploy";
    SshCommandRefused "ssh-command-refused" UserAction "The server lets the workers log in, and runs something else than their commands, or nothing" "Read in the message what it said: a forced command in authorized_keys or sshd_config, a login shell that runs nothing, an expired password; repair that, or store another user with `slipway servers add --user`";
    // Preflight
    UnsupportedOs "unsupported-os" UserAction "The server's system isn't supported" "Use Linux on x86_64 or aarch64";
    DockerMissing "docker-missing" UserAction "Docker isn't installed on the server" "Install Docker Engine 24 or later";
    DockerNotRunning "docker-not-running" Infrastructure "The Docker daemon doesn't answer" "Start the docker service and look at its log";
    DockerTooOld "docker-too-old" UserAction "Docker on the server is too old" "Upgrade to Docker Engine 24 or later";
    ComposeMissing "compose-missing" UserAction "The Docker Compose plugin isn't installed on the server" "Install Docker Compose 2.26.0 or later";
    ComposeTooOld "compose-too-old" UserAction "Docker Compose on the server is too old" "Upgrade to Docker Compose 2.26.0 or later, and past the version whose bug the message names";
    DockerConfined "docker-confined" UserAction "Docker on the server may not read the projects' files" "Remove the confined Docker (`snap remove docker`), and install Docker Engine from Docker's or the distribution's packages";
    GitMissing "git-missing" UserAction "Git isn't installed on the server" "Install git 2.0 or later";
    DiskFull "disk-full" Infrastructure "The server's disk is nearly full" "Free space on the server; old images and logs are the usual cause";
    InodesExhausted "inodes-exhausted" Infrastructure "The server's file system has no inodes left" "Delete small files on the server";
    MemoryLow "memory-low" Infrastructure "The server has too little free memory" "Stop something on the server, or allocate a larger one";
    ClockSkewed "clock-skewed" Infrastructure "The server's clock is far off" "Turn on time synchronisation on the server";
    ProjectRootNotWritable "project-root-not-writable" UserAction "The projects' directory on the server can't be written" "Give the SSH user the directory /opt/services, or passwordless sudo";
    PortOccupied "port-occupied" UserAction "Something else holds the project's port on the server" "Stop what the message names, or allocate another port";
    RegistryUnresolvable "registry-unresolvable" Infrastructure "The server can't resolve the registry's name" "Repair name resolution on the server (/etc/resolv.conf), then replay";
    FrontDoorFailed "front-door-failed" Infrastructure "The server's front door can't be installed or configured, or it's down and can't be repaired" "Read the message and the log of the container slipway-front-door on the server; `slipway servers check` shows when it's well again";
    DomainNotHere "domain-not-here" UserAction "A domain of the project doesn't lead to its server" "Create the DNS record that the message names, wait until it's published, and replay";
    CertificateFailed "certificate-failed" Transient "The certificate authority gave no certificate for a domain" "Read what it said in the message: a firewall that closes port 80 or 443, a CAA record and a rate limit are the usual causes";
    OutputTooLarge "output-too-large" UserAction "The server reported more than a deployment can need" "Look at what the message names on the server: a project with far too many files, or a program in another's place";
    SudoMissing "sudo-missing" UserAction "The SSH user is neither root nor may it become root" "Give the user passwordless sudo for all commands, or store root as the server's user with `slipway servers add`";
    ServerLacksIpv4 "server-lacks-ipv4" UserAction "The server has no IPv4, and a host that the deployment needs has nothing else" "Give the server an IPv4 address, or a resolver and a gateway that translate (DNS64 with NAT64), or proxies for git and for Docker's daemon; then replay";
    // Clone
    RepositoryNotFound "repository-not-found" UserAction "The repository doesn't exist, or Slipway's GitHub credential may not see it" "Check the name, and install the GitHub App on that repository";
    GitCredentialRefused "git-credential-refused" UserAction "The git server refused the credential" "Check the GitHub App's contents permission, or renew the token";
    CommitNotFound "commit-not-found" Permanent "The commit isn't in the repository" "Push the commit, or emit an event for one that exists";
    GitUnavailable "git-unavailable" Transient "The git server doesn't answer" "Wait for GitHub to recover, then replay";
    CheckoutFailed "checkout-failed" Infrastructure "The code couldn't be checked out on the server" "Read the tail of git's output and repair the project's directory; its .git may be moved away, it's made anew";
    EnvFileTracked "env-file-tracked" UserAction "The repository tracks .env, which holds secrets" "Remove .env from the repository and ignore it";
    UnsupportedRepository "unsupported-repository" UserAction "The repository uses submodules or LFS, which a deployment doesn't fetch, or a name that it can't take" "Move what is needed at run time into images, and rename what the message names";
    RepositoryTooLarge "repository-too-large" Permanent "The commit is larger than a project may be" "Move what the message names out of the repository, into images or volumes; SLIPWAY_REPOSITORY_MIB and SLIPWAY_REPOSITORY_FILES set the limits";
    // Env
    ComposeFileMissing "compose-file-missing" Permanent "The repository has no compose file at the expected place" "Add infra/compose.base.yml and infra/compose.prod.yml";
    MissingSecret "missing-secret" UserAction "The project requires a secret that nobody has given" "Ask the user for the secret that the message names, and emit the event again";
    ServiceMissing "service-missing" Permanent "The compose files don't define a service that the event asks for" "Correct the modules or allocations of the event, or the compose files";
    ComposeInvalid "compose-invalid" Permanent "Docker Compose refuses the project's files" "Correct the compose files; the tail shows what it refused";
    ComposeNotAllowed "compose-not-allowed" Permanent "The project's compose files ask for what no project gets: something of the server, or of another project" "Take out of the compose files what the message names, or have an operator allow it with `slipway projects allow`; then push a commit or replay";
    EnvContractInvalid "env-contract-invalid" Permanent "The project's env.contract.yaml can't be used" "Correct the file and the entry that the message names, and push a commit";
    EnvContractVersion "env-contract-version" Permanent "The project's env.contract.yaml is of a version that isn't known here" "Upgrade the workers, or write the contract in version \"1\"";
    VariableUnresolved "variable-unresolved" UserAction "The project's env.contract.yaml requires a variable whose value can't be found" "Give the variable or allocate the port in the event, or make the entry that the message names optional";
    EnvWriteFailed "env-write-failed" Infrastructure "The environment file couldn't be written" "Check disk and permissions of the project's directory";
    // Undeploy
    DirectoryNotOurs "directory-not-ours" UserAction "The project's directory on the server isn't one that Slipway made" "Look at the directory, and move or remove it by hand";
    UndeployFailed "undeploy-failed" Infrastructure "Something of the project couldn't be removed from the server" "Read the tail, remove on the server what is in the way, and replay";
    StopFailed "stop-failed" Infrastructure "The project's containers couldn't be stopped" "Read the tail of docker's output and look at the docker service of the server";
    // Compose
    RegistryCredentialRefused "registry-credential-refused" UserAction "The registry refused the credential, or it may not read this image" "Give the workers a registry credential that may read packages (a classic token with read:packages for ghcr.io)";
    RegistryCredentialUnusable "registry-credential-unusable" UserAction "A registry credential that is mounted into the workers can't be used" "Repair the file that the message names, then replay: it's read anew at each use";
    RegistryRealmUntrusted "registry-realm-untrusted" UserAction "The registry sends those who log in to another host for a token" "Find out whose host that is; if it's the registry's own, name it in SLIPWAY_REGISTRY_TOKEN_HOST, then replay";
    RegistryTlsFailed "registry-tls-failed" UserAction "The server can't make a trusted connection to the registry" "Install the registry's certificate authority on the server (/etc/docker/certs.d), or correct the registry's certificate or the server's clock, then replay";
    ImageBlocked "image-blocked" UserAction "A policy of the registry forbids to pull the image" "Read in the tail which policy it is, and repair the image or change the policy in the registry; then replay";
    WrongArchitecture "wrong-architecture" Permanent "An image isn't built for the server's processor" "Have CI build the image for the server's platform as well (docker buildx --platform), or deploy to a server that runs it";
    ImageNotFound "image-not-found" Transient "The image isn't in the registry (yet)" "Check that the project's CI has built and pushed this commit";
    RegistryUnavailable "registry-unavailable" Transient "The registry doesn't answer" "Wait for the registry to recover, then replay";
    RegistryRateLimited "registry-rate-limited" Transient "The registry's limit of pulls is used up" "Nothing: it's retried later; a registry credential raises Docker Hub's limit";
    PullFailed "pull-failed" Transient "The images couldn't be pulled" "Read the tail of docker's output";
    StartFailed "start-failed" Permanent "The containers couldn't be started" "Read the tail of docker's output and correct the project";
    NetworksExhausted "networks-exhausted" Infrastructure "Docker has no address range left for another network on the server" "Remove unused networks (`docker network prune`), or widen default-address-pools in /etc/docker/daemon.json";
    CrashLoop "crash-loop" Permanent "A container keeps exiting" "Read the tail of its log and correct the project";
    Unhealthy "unhealthy" Permanent "A container's health check doesn't pass" "Read the tail of its log and correct the project";
    // Firewall
    FirewallFailed "firewall-failed" Infrastructure "The firewall rule couldn't be set" "Do what the message says, else run `ufw status verbose` on the server and repair what it shows";
    // Verify
    NotListening "not-listening" Permanent "Nothing listens on the project's port on the server" "Compare the container port of the event with the port on which the service listens";
    NotReachable "not-reachable" Infrastructure "The port listens on the server but can't be reached from the workers" "Open the port in the firewall that the message names, or else in that of the server's provider";
    NotHealthy "not-healthy" Permanent "The project answers, but not as a healthy one does" "Read the status in the message and correct the project";
    WrongVersion "wrong-version" Permanent "The project answers, but as another commit than the one deployed" "Check that CI built the image that is tagged with this commit from this commit";
    // Secrets
    GithubCredentialRefused "github-credential-refused" UserAction "GitHub refused Slipway's credential" "Renew the token or the GitHub App's private key";
    GithubCredentialUnusable "github-credential-unusable" UserAction "The GitHub App's key or the token that is mounted into the workers can't be used" "Repair the file that the message names, then replay: it's read anew at each use";
    GithubNotInstalled "github-not-installed" UserAction "The GitHub App isn't installed on the repository" "Install the App on that repository and replay";
    GithubSuspended "github-suspended" UserAction "GitHub has suspended the App's installation, or the account of the token" "Unsuspend the installation and replay";
    GithubForbidden "github-forbidden" UserAction "Slipway's GitHub credential lacks a permission" "Grant the permission that the message names (contents: read, secrets: write, deployments: write)";
    GithubIpNotAllowed "github-ip-not-allowed" UserAction "The organization's IP allow list doesn't have the address of a worker or of the server" "Put the addresses with which the workers and the server go out on that list, or into the App's own one that organizations take over, and replay";
    GithubSsoRequired "github-sso-required" UserAction "The organization wants tokens to be authorized for its single sign-on (SAML)" "Authorize the token (Configure SSO on the page of personal access tokens), or use the GitHub App, and replay";
    GithubSecretsFull "github-secrets-full" UserAction "The repository has as many Actions secrets as GitHub allows" "Delete secrets that no workflow uses, or set `pushes_deployed_by` to `webhook`, which needs none; then replay";
    RepositoryMoved "repository-moved" UserAction "The repository has another name on GitHub by now, under which its CI keeps images" "Emit the event again with the name that the message says";
    GithubArchived "github-archived" UserAction "The repository is archived and read-only" "Unarchive the repository and replay";
    GithubRateLimited "github-rate-limited" Transient "GitHub's rate limit is used up" "Nothing: it's retried when the limit resets";
    GithubUnavailable "github-unavailable" Transient "GitHub's API doesn't answer" "Wait for GitHub to recover, then replay";
    GithubRefused "github-refused" Permanent "GitHub refused the request as invalid" "Report it with the deployment's id; the message holds GitHub's answer";
    SecretLeaked "secret-leaked" UserAction "A known secret stands on the server where it doesn't belong" "Remove it from the place that the message names, find out who put it there, and replace the secret";
    DeployKeyFailed "deploy-key-failed" Infrastructure "The project's deploy key couldn't be installed on the server" "Check authorized_keys of the SSH user on the server";
}

impl ErrorCode {
    /// Whether it says that somebody allows no more for now: that passes by itself, and says nothing about the deployment.
    #[must_use]
    pub fn is_rate_limit(self) -> bool {
        matches!(self, Self::GithubRateLimited | Self::RegistryRateLimited)
    }

    /// Whether it says that the server itself couldn't be reached or stopped answering, whatever was to be done there.
    /// Enough of these in a row open the server's circuit.
    #[must_use]
    pub fn is_connection_failure(self) -> bool {
        matches!(self, Self::ServerUnreachable | Self::ServerConnectionLost)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for ErrorCode {
    type Err = crate::names::InvalidName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|c| c.as_str() == value)
            .ok_or(crate::names::InvalidName { what: "error code", rule: "be one of the table of error codes" })
    }
}
