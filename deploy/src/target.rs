//! What an attempt is given: the server, the credentials and the work. Plain values; nothing is fetched here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use slipway_protocol::names::{Host, HostKey, Port, RepositoryName, ServerHandle, Slug, UserName, VariableName};
use slipway_protocol::{Action, DeploymentId, ProjectReady};

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
    /// Its name in the inventory.
    pub handle: ServerHandle,
    /// Where it answers.
    pub address: Host,
    /// SSH port.
    pub ssh_port: Port,
    /// SSH user.
    pub ssh_user: UserName,
    /// How it proves itself.
    pub host_key: HostKeyPolicy,
    /// The private key to log in with, in OpenSSH or PEM form.
    pub ssh_key: SecretString,
}

/// One deployment to be carried out.
#[derive(Debug, Clone)]
pub struct DeploymentWork {
    /// Its id.
    pub deployment: DeploymentId,
    /// What to do.
    pub action: Action,
    /// Undeploy: with all data.
    pub remove_volumes: bool,
    /// Undeploy: whether the repository's secrets at GitHub serve another deployment as well, and have to stay.
    pub shares_repository: bool,
    /// What was asked for; for anything but a deployment, the version that it's done with.
    pub request: ProjectReady,
    /// Where to.
    pub target: Target,
    /// The opened secrets of the request.
    pub secrets: BTreeMap<VariableName, SecretString>,
    /// Keyed digests of the GitHub secrets written by earlier deployments of this project to this target, by name.
    pub github_digests: BTreeMap<String, String>,
    /// The right to do so.
    pub hold: LeaseGuard,
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

/// A credential that may read packages from the registry; GitHub App tokens can't (field notes, trap 9).
#[derive(Debug, Clone)]
pub struct RegistryCredential {
    /// Registry host, such as `ghcr.io`.
    pub registry: String,
    /// User name.
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
    /// Key of the digests that tell whether a GitHub secret changed; at least 32 bytes.
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

/// An absolute directory on a server, in plain characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePath(String);

impl RemotePath {
    /// Checks that `value` is absolute, has no empty, `.` or `..` part and holds letters, digits, `.`, `_`, `-` only.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let part = |p: &str| {
            !matches!(p, "" | "." | "..")
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part)).then(|| Self(value.to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of a project below this one.
    #[must_use]
    pub fn of_project(&self, slug: &Slug) -> Self {
        Self(format!("{}/{slug}", self.0))
    }
}

/// Host and perhaps port of an image registry, in plain characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// Checks that `value` is `host` or `host:port`.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let (host, port) = value.split_once(':').map_or((value, None), |(host, port)| (host, Some(port)));
        let valid = Host::new(host).is_ok() && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
        valid.then(|| Self(value.to_owned()))
    }

    /// The host as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where git fetches from: an HTTP or HTTPS URL without credential, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl(String);

impl HttpsUrl {
    /// Checks `value`.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'[' | b']');
        (!rest.is_empty() && rest.bytes().all(plain)).then(|| Self(value.trim_end_matches('/').to_owned()))
    }

    /// The URL of a repository below this one.
    #[must_use]
    pub fn of_repository(&self, name: &RepositoryName) -> Self {
        Self(format!("{}/{name}.git", self.0))
    }

    /// The URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
