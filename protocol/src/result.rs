//! `slipway.deployment.result.v1`: how a deployment ended. Exactly one for each deployment.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{CommitSha, Port, RepositoryName, ServerHandle, ServiceName, VariableName};
use crate::{
    Action, Change, Class, Correlation, DeploymentId, ErrorCode, MoveReport, Placement, Project, Replacement, Stage,
};

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The project answers, and something was changed for it.
    Succeeded,
    /// The project answers, and everything was as asked already.
    AlreadyDeployed,
    /// It couldn't be done; `failure` says why.
    Failed,
    /// It couldn't be done because a secret is missing; `missing_secret` names it.
    MissingSecret,
    /// Somebody cancelled it.
    Cancelled,
    /// A newer request for the same project took its place.
    Superseded,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::AlreadyDeployed, Self::Failed, Self::MissingSecret, Self::Cancelled, Self::Superseded];

    /// The name, as in events, routing keys and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::AlreadyDeployed => "already_deployed",
            Self::Failed => "failed",
            Self::MissingSecret => "missing_secret",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    /// Whether the project serves what was asked for.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::AlreadyDeployed)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The end of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentResult {
    /// Which deployment.
    pub deployment_id: DeploymentId,
    /// What was asked for; absent for a deployment.
    #[serde(default, skip_serializing_if = "Action::is_deploy")]
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// Which project; absent when an invalid request didn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// Which repository; absent when an invalid request didn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// Which commit; absent when an invalid request didn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSha>,
    /// Which server; absent when an invalid request didn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerHandle>,
    /// How Slipway chose the server and the ports, or why it found none; absent where the request named the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// How a move went; absent for anything else.
    #[serde(default, rename = "move", skip_serializing_if = "Option::is_none")]
    pub moved: Option<MoveReport>,
    /// Where the project answers, after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why it failed; set for `failed` and `missing_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Which secret is missing; set for `missing_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_secret: Option<VariableName>,
    /// The newer deployment; set for `superseded` where it's known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<DeploymentId>,
    /// What serves now, after a success as after a failure; absent when nobody could look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
    /// Other servers where this project was deployed and not undeployed: it may still run there, with the same secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_on: Vec<ServerHandle>,
    /// The ports that Docker publishes for this project on addresses that others may reach, as seen last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<Exposed>,
    /// What runs, service by service, as seen last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceReport>,
    /// The stages that ran to their end, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageSummary>,
    /// How many attempts were made; 0 when the request was refused.
    pub attempts: u32,
    /// When the request arrived.
    pub accepted_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The request's opaque ids.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

impl DeploymentResult {
    /// Of a request that was never run: at `time`, which is its acceptance too.
    #[must_use]
    pub fn at_once(deployment_id: DeploymentId, action: Action, outcome: Outcome, time: Timestamp) -> Self {
        Self {
            deployment_id,
            action,
            outcome,
            project: None,
            repository: None,
            commit: None,
            server: None,
            moved: None,
            placement: None,
            url: None,
            failure: None,
            missing_secret: None,
            superseded_by: None,
            serving: None,
            also_on: Vec::new(),
            exposed: Vec::new(),
            services: Vec::new(),
            stages: Vec::new(),
            attempts: 0,
            accepted_at: time,
            finished_at: time,
            correlation: Correlation::default(),
        }
    }
}

/// What answers on the project's port once a deployment has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Serving {
    /// The commit that its web service is proven to run, by its image or its page; absent when none runs, or when nothing
    /// proves which one, as after a push by CI whose image doesn't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSha>,
    /// Whether it gave a worker a healthy answer, asked from outside the server.
    pub proven: bool,
}

/// A published TCP port. What Docker publishes, no rule of ufw closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exposed {
    /// The port on the server.
    pub port: Port,
    /// The service behind it.
    pub service: String,
    /// Whether it took a worker's connection, from outside the server.
    pub answers: bool,
    /// Whether the request allocates it. One that answers though it doesn't is a finding.
    pub asked_for: bool,
}

impl Exposed {
    /// The fact of the stages firewall and verify that lists them.
    pub const FACT: &'static str = "exposed";
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Stable code.
    pub code: ErrorCode,
    /// The class of that code.
    pub class: Class,
    /// In which stage; absent when the request was refused or the engine failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// What happened and where, redacted.
    pub message: String,
    /// What the project itself says about a secret that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_description: Option<String>,
    /// What to do next.
    pub next_action: String,
    /// The last lines of what the failing command wrote, redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
}

impl Failure {
    /// A failure with the class and next action of `code`.
    pub fn new(code: ErrorCode, stage: Option<Stage>, message: impl Into<String>) -> Self {
        Self {
            code,
            class: code.class(),
            stage,
            message: message.into(),
            secret_description: None,
            next_action: code.next_action().to_owned(),
            tail: Vec::new(),
        }
    }
}

/// One service of the project, as seen on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReport {
    /// Which service.
    pub service: ServiceName,
    /// Docker's word for its container: `running`, `exited`, `restarting`…
    pub state: String,
    /// Docker's word for its health check, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The image with its digest or tag.
    pub image: String,
    /// How often it restarted by itself.
    pub restarts: u32,
    /// How it took its predecessor's place; absent when nobody has seen that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replacement>,
}

/// What became of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageSummary {
    /// Which stage.
    pub stage: Stage,
    /// Whether it had something to do.
    pub change: Change,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}
