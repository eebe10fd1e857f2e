//! What an attempt is given: the server, the credentials and the work. Plain values; nothing is fetched here, and what a
//! stage finds or does is in `stages`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName, VariableName};
use slipway_protocol::{Action, DeploymentId, MoveData, ProjectId, ProjectReady};

use crate::{Allowance, CredentialSource, FrontDoor, LeaseGuard, ProjectLimits};

/// How the server proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// It must show this key.
    Pinned(HostKey),
    /// No key is known, and the first one shown is recorded (switched on for this server by an operator).
    TrustOnFirstUse,
    /// No key is known, and none is accepted.
    Refuse,
}

/// A server to deploy to, as the inventory (or, for an unknown server, the event) describes it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name in the inventory.
    pub handle: ServerHandle,
    /// Host name or IP address.
    pub address: Host,
    /// The port of sshd.
    pub ssh_port: Port,
    /// The user that Slipway logs in as.
    pub ssh_user: UserName,
    /// Which host key the server must show.
    pub host_key: HostKeyPolicy,
    /// The private key to log in with, in OpenSSH or PEM form.
    pub ssh_key: SecretString,
    /// Whether it has a front door; as all servers have it when nothing was said for this one.
    pub front_door: Option<bool>,
}

/// The server that a move takes a project away from.
#[derive(Debug, Clone)]
pub struct Departure {
    /// The server.
    pub target: Target,
    /// The request of what is deployed there.
    pub request: ProjectReady,
    /// What becomes of its data.
    pub data: MoveData,
    /// Keyed digests of the GitHub secrets that were written for it, by name.
    pub github_digests: BTreeMap<String, String>,
}

/// One deployment to be carried out.
#[derive(Debug, Clone)]
pub struct DeploymentWork {
    /// The deployment's id, which doesn't change from attempt to attempt.
    pub deployment: DeploymentId,
    /// What is done; it decides which stages run.
    pub action: Action,
    /// Undeploy: whether the volumes, which hold the project's data, are removed as well.
    pub remove_volumes: bool,
    /// Move: what it takes the project away from.
    pub moving: Option<Departure>,
    /// Whether the repository's secrets at GitHub serve another deployment as well, and have to stay.
    pub shares_repository: bool,
    /// The projects that the slug was handed over from: what the server still has as theirs is this project's now.
    pub former_owners: Vec<ProjectId>,
    /// Why CI doesn't get secrets, though it's to deploy: the repository's are another project's.
    pub ci_taken: Option<String>,
    /// What was asked for; for anything but a deployment, the version that it's done with.
    pub request: ProjectReady,
    /// The server that it's done on.
    pub target: Target,
    /// The opened secrets of the request.
    pub secrets: BTreeMap<VariableName, SecretString>,
    /// How images are read that aren't public; none where nobody has given a credential.
    pub registry: Option<RegistryCredential>,
    /// The digests of the images that the recorded version ran, by variable; empty for anything but a rollback.
    pub images: BTreeMap<String, String>,
    /// What the requests before a rollback gave, for an `.env` that doesn't tell it; empty for anything else.
    pub earlier: EarlierRequests,
    /// Keyed digests of the GitHub secrets written by earlier deployments of this project to this target, by name.
    pub github_digests: BTreeMap<String, String>,
    /// What operators allow the project beyond what every project gets.
    pub allowances: Vec<Allowance>,
    /// The right to act on the project, and until when.
    pub lease: LeaseGuard,
}

/// What earlier requests gave, whatever became of it since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EarlierRequests {
    /// Plain variables: name and value.
    pub variables: BTreeSet<(String, String)>,
    /// Names of secrets.
    pub secrets: BTreeSet<String>,
}

impl EarlierRequests {
    /// Whether one of them may have given `name` this value.
    pub(crate) fn gave(&self, name: &str, value: &str) -> bool {
        self.secrets.contains(name) || self.variables.contains(&(name.to_owned(), value.to_owned()))
    }
}

/// How Slipway logs in to GitHub; files are read anew at each use.
#[derive(Debug, Clone)]
pub enum GithubCredential {
    /// As a GitHub App.
    App {
        /// The App's id or client id.
        id: String,
        /// Its RSA private key, PEM, PKCS#1 or PKCS#8.
        private_key: CredentialSource,
    },
    /// With a token (classic or fine-grained).
    Token(CredentialSource),
}

/// A credential for the registry that projects' images are in; tokens of a GitHub App can't read packages.
#[derive(Debug, Clone)]
pub struct RegistryCredential {
    /// The user that the token or password belongs to.
    pub username: String,
    /// Password or token.
    pub password: SecretString,
    /// Whose it is.
    pub source: RegistryCredentialSource,
}

/// Where a credential for the registry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryCredentialSource {
    /// The project's request brought it.
    Request {
        /// Whether the repository is to get it, for its CI to push with.
        for_ci: bool,
    },
    /// The workers have it for the repository's owner.
    Owner,
    /// The workers have it for all projects.
    Fleet,
}

impl RegistryCredentialSource {
    /// In words, for reports and plans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request { .. } => "request",
            Self::Owner => "owner",
            Self::Fleet => "fleet",
        }
    }
}

impl RegistryCredential {
    /// `user:password`, as Docker and HTTP have it in base64.
    #[must_use]
    pub fn login(&self) -> SecretString {
        format!("{}:{}", self.username, self.password.expose_secret()).into()
    }

    /// Whether it's the project's own, and not others' as well.
    #[must_use]
    pub fn is_the_projects(&self) -> bool {
        matches!(self.source, RegistryCredentialSource::Request { .. })
    }

    /// Whether the repository is to get it.
    pub(crate) fn is_for_ci(&self) -> bool {
        self.source == RegistryCredentialSource::Request { for_ci: true }
    }
}

/// What all attempts of a process share.
#[derive(Debug, Clone)]
pub struct DeployerConfig {
    /// Base URL of GitHub's REST API; `https://api.github.com`.
    pub github_api: String,
    /// Base URL of the git server; `https://github.com`.
    pub github_git: String,
    /// How to log in to GitHub.
    pub github: GithubCredential,
    /// Host of the registry that projects' images live in; `ghcr.io`.
    pub image_registry: String,
    /// The host that gives tokens for that registry, where it isn't the registry itself.
    pub registry_token_host: Option<String>,
    /// Key of the digests that show whether a GitHub secret changed; at least 32 bytes.
    pub digest_key: SecretString,
    /// Extra certificate authorities for HTTPS, a PEM file; for a private GitHub, and for domains whose certificates come from
    /// an authority of one's own.
    pub ca_file: Option<PathBuf>,
    /// Directory on the servers below which projects live; `/opt/services`.
    pub project_root: String,
    /// Longest time for one remote command.
    pub command_timeout: Duration,
    /// Longest time for a project to become healthy.
    pub health_timeout: Duration,
    /// What one project may take of a server.
    pub limits: ProjectLimits,
    /// The front door of servers that have one; without it none has.
    pub front_door: Option<FrontDoor>,
}
