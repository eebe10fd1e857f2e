//! What an attempt is given: the server, the credentials and the work. Plain values; nothing is fetched here, and what a
//! stage finds or does is in `stages`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName, VariableName};
use slipway_protocol::{Action, DeploymentId, ProjectId, ProjectReady};

use crate::LeaseGuard;

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
    /// The digests of the images that the recorded version ran, by variable; empty for anything but a rollback.
    pub images: BTreeMap<String, String>,
    /// What the requests before a rollback gave, for an `.env` that doesn't tell it; empty for anything else.
    pub earlier: EarlierRequests,
    /// Keyed digests of the GitHub secrets written by earlier deployments of this project to this target, by name.
    pub github_digests: BTreeMap<String, String>,
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

/// How Slipway logs in to GitHub.
#[derive(Debug, Clone)]
pub enum GithubCredential {
    /// As a GitHub App.
    App {
        /// The App's id or client id.
        id: String,
        /// Its RSA private key, PEM, PKCS#1 or PKCS#8.
        private_key: SecretString,
    },
    /// With a token (classic or fine-grained).
    Token(SecretString),
}

/// A credential that may read packages from the registry; tokens of a GitHub App can't.
#[derive(Debug, Clone)]
pub struct RegistryCredential {
    /// Registry host, such as `ghcr.io`.
    pub registry: String,
    /// The user that the token or password belongs to.
    pub username: String,
    /// Password or token.
    pub password: SecretString,
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
    /// How to log in to the registry; none for public images.
    pub registry: Option<RegistryCredential>,
    /// Host of the registry that projects' images live in; `ghcr.io`.
    pub image_registry: String,
    /// Key of the digests that show whether a GitHub secret changed; at least 32 bytes.
    pub digest_key: SecretString,
    /// Extra certificate authorities for HTTPS, a PEM file; for a private GitHub or the test world.
    pub ca_file: Option<PathBuf>,
    /// Directory on the servers below which projects live; `/opt/services`.
    pub project_root: String,
    /// Longest time for one remote command.
    pub command_timeout: Duration,
    /// Longest time for a project to become healthy.
    pub health_timeout: Duration,
}
