//! `slipway.project.ready.v1`: what the orchestrator knows when a project is ready to be deployed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{
    BranchName, CommitSha, Host, HostKey, Port, RegistryUser, RepositoryName, ServerHandle, ServiceName, Slug, UrlPath,
    UserName, VariableName,
};
use crate::{Correlation, DomainName, ProjectId, SecretSource};

/// A project whose code is done and whose server and ports are allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectReady {
    /// Which project.
    pub project: Project,
    /// Which code.
    pub repository: Repository,
    /// Which server.
    pub server: Server,
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

/// A port of the server that belongs to one service of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allocation {
    /// Which service; chosen by name, never by position.
    pub service: ServiceName,
    /// The port on the server.
    pub host_port: Port,
    /// The port that the service listens on inside its container.
    pub container_port: Port,
    /// How a module shows that it's healthy. Without it a backend is asked for `/health` and a frontend for `/`; any
    /// other must at least take connections, but for `tg_bot` and `notifications_worker`, which needn't listen. A service
    /// that is no module, such as a database, isn't asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// The domains under which the front door serves this service over HTTPS, the first one in the result's `url`. They
    /// have to lead to the server, and belong to one project alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub domains: Vec<DomainName>,
}

/// What a service answers over HTTP when it's healthy, asked from outside of its server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// Which page; `/health` of a backend and `/` of any other when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<UrlPath>,
    /// The statuses of a healthy answer; any from 200 to 399 when left out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 100, max = 599)))]
    pub statuses: BTreeSet<u16>,
    /// How many seconds the service may take, from the moment its container is stable, until it answers so; as the
    /// workers are configured when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: Option<u32>,
}

impl HealthCheck {
    /// Whether `status` is one of a healthy answer.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        if self.statuses.is_empty() { (200..400).contains(&status) } else { self.statuses.contains(&status) }
    }

    /// The field that breaks its rule, and the rule.
    fn defect(&self) -> Option<(&'static str, &'static str)> {
        if self.statuses.len() > 32 || self.statuses.iter().any(|status| !(100..600).contains(status)) {
            return Some(("statuses", "must hold at most 32 HTTP statuses, 100 to 599"));
        }
        let timeout = self.timeout_seconds.unwrap_or(1);
        (!(1..=3600).contains(&timeout)).then_some(("timeout_seconds", "must be 1 to 3600"))
    }
}

impl ProjectReady {
    /// Every domain that it's to be served under, with its service.
    pub fn domains(&self) -> impl Iterator<Item = (&ServiceName, &DomainName)> {
        self.allocations.iter().flat_map(|a| a.domains.iter().map(move |domain| (&a.service, domain)))
    }

    /// The rules that no single field can check.
    ///
    /// Returns the JSON pointer of the offending field and the rule that it breaks.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let fail = |pointer: &str, rule: &str| Err((pointer.to_owned(), rule.to_owned()));
        if self.modules.is_empty() || self.modules.len() > 32 {
            return fail("/data/modules", "must name 1 to 32 services");
        }
        if self.allocations.is_empty() || self.allocations.len() > 32 {
            return fail("/data/allocations", "must hold 1 to 32 entries");
        }
        let mut services = BTreeSet::new();
        let (mut ports, mut domains) = (BTreeSet::new(), BTreeSet::new());
        for (i, a) in self.allocations.iter().enumerate() {
            if !services.insert(&a.service) {
                return fail(&format!("/data/allocations/{i}/service"), "must not name a service twice");
            }
            if !ports.insert(a.host_port) {
                return fail(&format!("/data/allocations/{i}/host_port"), "must not give one port to two services");
            }
            if let Some((field, rule)) = a.health.as_ref().and_then(HealthCheck::defect) {
                return fail(&format!("/data/allocations/{i}/health/{field}"), rule);
            }
            if a.domains.len() > 16 {
                return fail(&format!("/data/allocations/{i}/domains"), "must hold at most 16 domains");
            }
            if !a.domains.is_empty() && !self.is_served(a) {
                return fail(
                    &format!("/data/allocations/{i}/domains"),
                    "must be left out where the service is no module, or neither backend nor frontend and without `health`",
                );
            }
            if let Some(twice) = a.domains.iter().position(|domain| !domains.insert(domain)) {
                return fail(&format!("/data/allocations/{i}/domains/{twice}"), "must not name a domain twice");
            }
        }
        if self.web().is_none() {
            return fail(
                "/data/allocations",
                "must hold the port of a module that serves the web: frontend or backend",
            );
        }
        if let Some(name) = self.secrets.keys().find(|n| self.variables.contains_key(*n)) {
            return fail(&format!("/data/variables/{name}"), "must not be a variable and a secret at once");
        }
        if self.variables.len() > 500 || self.secrets.len() > 100 {
            return fail("/data/variables", "must not hold more than 500 variables and 100 secrets");
        }
        for (name, value) in &self.variables {
            if value.len() > 32 * 1024 || value.contains('\0') {
                return fail(&format!("/data/variables/{name}"), "must be at most 32 KiB without NUL");
            }
        }
        if self.sequence.is_some_and(|s| s > 9_007_199_254_740_991) {
            return fail("/data/sequence", "must be at most 2^53 - 1, so that every JSON reader agrees on it");
        }
        Ok(())
    }
}
