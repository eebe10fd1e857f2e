//! `slipway.project.ready.v1`: what the orchestrator knows when a project is ready to be deployed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{
    BranchName, CommitSha, Host, HostKey, Port, RegistryUser, RepositoryName, ServerHandle, ServiceName, Slug,
    UserName, VariableName,
};
use crate::rules::{self, BrokenRule, broken};
use crate::{Allocation, Correlation, DomainName, PlacementWish, ProjectId, Resources, SecretSource};

/// A project whose code is done, and which is to be deployed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectReady {
    /// Which project.
    pub project: Project,
    /// Which code.
    pub repository: Repository,
    /// Which server. Left out: Slipway chooses one, and the ports that the allocations don't give. A project that lives
    /// somewhere stays there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// What is asked of the server, where it's left out; without effect otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementWish>,
    /// What the project needs; as the workers are configured when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Host ports by service; one of them is the web service that is verified (`frontend` before `backend`).
    #[schemars(length(min = 1, max = 32))]
    pub allocations: Vec<Allocation>,
    /// The services that must run; databases and caches come with them through compose.
    #[schemars(length(min = 1, max = 32))]
    pub modules: BTreeSet<ServiceName>,
    /// Plain variables for the project's `.env`; none of them may be a secret. Each value: 32 KiB at most. What an earlier
    /// request gave and this one leaves out is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<VariableName, String>,
    /// Secrets for the project's `.env`, sealed or by reference. What an earlier request gave and this one leaves out is
    /// removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<VariableName, SecretSource>,
    /// This project's own credential for the registry that its images are in. Without it the workers use theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryAccess>,
    /// The producer's number of this request within the project; the highest wins. Without it the event's time decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9007199254740991u64))]
    pub sequence: Option<u64>,
    /// After this moment the request must not be acted on any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Opaque ids to echo in every event about this deployment.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

/// A credential for the image registry that belongs to one project. It never becomes a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryAccess {
    /// The user that the password or token belongs to.
    pub username: RegistryUser,
    /// The password or token, sealed or by reference, as the secret `REGISTRY_PASSWORD` would be.
    pub password: SecretSource,
    /// Whether it may push, and CI is to push images with it: the repository gets it as `REGISTRY_URL`, `REGISTRY_USER` and
    /// `REGISTRY_PASSWORD`. Left out: the repository gets nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_ci: bool,
}

impl RegistryAccess {
    /// The name under which its password is sealed.
    pub const PASSWORD: &str = "REGISTRY_PASSWORD";
}

/// Identity of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Project {
    /// The orchestrator's id.
    pub id: ProjectId,
    /// The one spelling that names directory and compose project.
    pub slug: Slug,
}

/// The code to deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repository {
    /// `owner/name` on GitHub.
    pub name: RepositoryName,
    /// The exact commit.
    pub commit: CommitSha,
    /// The branch whose pushes deploy from then on.
    pub branch: BranchName,
    /// Who deploys those pushes; the project's own CI when left out.
    #[serde(default, skip_serializing_if = "PushDeployer::is_default")]
    pub pushes_deployed_by: PushDeployer,
}

/// Who deploys what is pushed to a project's branch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PushDeployer {
    /// A job of the project's own CI, with a deploy key and secrets that Slipway keeps in the repository.
    #[default]
    CiJob,
    /// Slipway itself, once the runs of the pushed commit have succeeded. The repository gets no key and no secret.
    Webhook,
    /// CI's job; after it Slipway, which finds little or nothing left to do.
    Both,
}

impl PushDeployer {
    /// Its name in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CiJob => "ci_job",
            Self::Webhook => "webhook",
            Self::Both => "both",
        }
    }

    /// Whether Slipway looks for pushes itself.
    #[must_use]
    pub fn watches(self) -> bool {
        self != Self::CiJob
    }

    /// Whether CI's job gets what it deploys with.
    #[must_use]
    pub fn uses_ci(self) -> bool {
        self != Self::Webhook
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The server to deploy to. All but the handle is for a server that the inventory doesn't know; what the inventory
/// knows wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// The server's name in the inventory.
    pub handle: ServerHandle,
    /// Where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Host>,
    /// SSH port; 22 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_port: Option<Port>,
    /// SSH user; `root` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<UserName>,
    /// The host key to pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<HostKey>,
}

impl ProjectReady {
    /// Every domain that it's to be served under, with its service.
    pub fn domains(&self) -> impl Iterator<Item = (&ServiceName, &DomainName)> {
        self.allocations.iter().flat_map(|a| a.domains.iter().map(move |domain| (&a.service, domain)))
    }

    /// The JSON pointer of a port that is missing: they may be left out only where the server is.
    pub(crate) fn missing_port(&self) -> Option<String> {
        self.server.as_ref().and_then(|_| rules::missing_port(&self.allocations))
    }

    /// The rules that no single field can check.
    ///
    /// Returns the JSON pointer of the offending field and the rule that it breaks.
    pub(crate) fn check(&self) -> Result<(), BrokenRule> {
        rules::modules(&self.modules)?;
        rules::allocations(&self.allocations, |allocation| self.is_served(allocation))?;
        if let Some((pointer, rule)) = self.placement.as_ref().and_then(PlacementWish::defect) {
            return broken(&format!("/data/placement{pointer}"), rule);
        }
        if let Some((field, rule)) = self.resources.as_ref().and_then(Resources::defect) {
            return broken(&format!("/data/resources/{field}"), rule);
        }
        if self.web().is_none() {
            return broken(
                "/data/allocations",
                "must hold the port of a module that serves the web: frontend or backend",
            );
        }
        rules::environment(&self.variables, &self.secrets)?;
        rules::sequence(self.sequence)
    }
}
