//! The endpoints: their paths, the permission each needs, and the page that documents it.
//!
//! Deliberately not here: what they do, and every endpoint that Slipway doesn't call.

use axum::http::Method;

use super::hosted_repository::RepoRef;
use super::permissions::{Level, Needs};

const fn read(permission: &'static str) -> Needs {
    Needs { permission, level: Level::Read }
}

const fn write(permission: &'static str) -> Needs {
    Needs { permission, level: Level::Write }
}

/// An endpoint outside repositories, or one within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    App,
    CreateToken { installation: u64 },
    RevokeToken,
    Repo { repo: RepoRef, endpoint: Endpoint },
}

/// What is asked of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Get,
    Installation,
    Commit { reference: String },
    Reference { reference: String },
    ListRuns,
    PublicKey,
    ListSecrets,
    GetSecret { name: String },
    PutSecret { name: String },
    DeleteSecret { name: String },
    ListDeployments,
    CreateDeployment,
    GetDeployment { id: u64 },
    ListStatuses { id: u64 },
    CreateStatus { id: u64 },
}

impl Route {
    /// `None` is GitHub's 404, for a wrong method as well.
    pub(super) fn parse(method: &Method, path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let verb = method.as_str();
        Some(match (verb, segments.as_slice()) {
            ("GET", ["app"]) => Self::App,
            ("POST", ["app", "installations", id, "access_tokens"]) => {
                Self::CreateToken { installation: id.parse().ok()? }
            }
            ("DELETE", ["installation", "token"]) => Self::RevokeToken,
            (_, ["repos", owner, name, rest @ ..]) => {
                let repo = RepoRef::Name((*owner).to_owned(), (*name).to_owned());
                Self::Repo { repo, endpoint: Endpoint::parse(verb, rest)? }
            }
            (_, ["repositories", id, rest @ ..]) => {
                Self::Repo { repo: RepoRef::Id(id.parse().ok()?), endpoint: Endpoint::parse(verb, rest)? }
            }
            _ => return None,
        })
    }

    /// The permission of a fine-grained token or installation that the endpoint needs.
    pub(super) fn needs(&self) -> Option<Needs> {
        match self {
            Self::Repo { endpoint, .. } => endpoint.needs(),
            _ => None,
        }
    }

    /// The page GitHub names in an error.
    pub(super) fn docs(&self) -> String {
        let page = match self {
            Self::App => "apps/apps#get-the-authenticated-app",
            Self::CreateToken { .. } => "apps/apps#create-an-installation-access-token-for-an-app",
            Self::RevokeToken => "apps/installations#revoke-an-installation-access-token",
            Self::Repo { endpoint, .. } => endpoint.docs(),
        };
        format!("https://docs.github.com/rest/{page}")
    }
}

impl Endpoint {
    fn parse(verb: &str, rest: &[&str]) -> Option<Self> {
        let owned = |name: &&str| (*name).to_owned();
        Some(match (verb, rest) {
            ("GET", []) => Self::Get,
            ("GET", ["installation"]) => Self::Installation,
            // A branch's name may hold slashes.
            ("GET", ["commits", reference @ ..]) if !reference.is_empty() => {
                Self::Commit { reference: reference.join("/") }
            }
            ("GET", ["git", "ref", "heads", branch @ ..]) if !branch.is_empty() => {
                Self::Reference { reference: format!("heads/{}", branch.join("/")) }
            }
            ("GET", ["actions", "runs"]) => Self::ListRuns,
            ("GET", ["actions", "secrets"]) => Self::ListSecrets,
            ("GET", ["actions", "secrets", "public-key"]) => Self::PublicKey,
            ("GET", ["actions", "secrets", name]) => Self::GetSecret { name: owned(name) },
            ("PUT", ["actions", "secrets", name]) => Self::PutSecret { name: owned(name) },
            ("DELETE", ["actions", "secrets", name]) => Self::DeleteSecret { name: owned(name) },
            ("GET", ["deployments"]) => Self::ListDeployments,
            ("POST", ["deployments"]) => Self::CreateDeployment,
            ("GET", ["deployments", id]) => Self::GetDeployment { id: id.parse().ok()? },
            ("GET", ["deployments", id, "statuses"]) => Self::ListStatuses { id: id.parse().ok()? },
            ("POST", ["deployments", id, "statuses"]) => Self::CreateStatus { id: id.parse().ok()? },
            _ => return None,
        })
    }

    pub(super) fn needs(&self) -> Option<Needs> {
        Some(match self {
            // Asked by the app itself, which has no permissions of its own.
            Self::Installation => return None,
            Self::Get => read("metadata"),
            Self::Commit { .. } | Self::Reference { .. } => read("contents"),
            Self::ListRuns => read("actions"),
            Self::PublicKey | Self::ListSecrets | Self::GetSecret { .. } => read("secrets"),
            Self::PutSecret { .. } | Self::DeleteSecret { .. } => write("secrets"),
            Self::ListDeployments | Self::GetDeployment { .. } | Self::ListStatuses { .. } => read("deployments"),
            Self::CreateDeployment | Self::CreateStatus { .. } => write("deployments"),
        })
    }

    fn docs(&self) -> &'static str {
        match self {
            Self::Get => "repos/repos#get-a-repository",
            Self::Installation => "apps/apps#get-a-repository-installation-for-the-authenticated-app",
            Self::Commit { .. } => "commits/commits#get-a-commit",
            Self::Reference { .. } => "git/refs#get-a-reference",
            Self::ListRuns => "actions/workflow-runs#list-workflow-runs-for-a-repository",
            Self::PublicKey => "actions/secrets#get-a-repository-public-key",
            Self::ListSecrets => "actions/secrets#list-repository-secrets",
            Self::GetSecret { .. } => "actions/secrets#get-a-repository-secret",
            Self::PutSecret { .. } => "actions/secrets#create-or-update-a-repository-secret",
            Self::DeleteSecret { .. } => "actions/secrets#delete-a-repository-secret",
            Self::ListDeployments => "deployments/deployments#list-deployments",
            Self::CreateDeployment => "deployments/deployments#create-a-deployment",
            Self::GetDeployment { .. } => "deployments/deployments#get-a-deployment",
            Self::ListStatuses { .. } => "deployments/statuses#list-deployment-statuses",
            Self::CreateStatus { .. } => "deployments/statuses#create-a-deployment-status",
        }
    }
}
