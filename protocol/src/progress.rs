//! `slipway.deployment.progress.v1`: how a deployment is getting on.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::VariableName;
use crate::{Action, Change, Correlation, DeploymentId, Failure, Project, Stage};

/// One step of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Which deployment.
    pub deployment_id: DeploymentId,
    /// Which project.
    pub project: Project,
    /// What was asked for; absent for a deployment.
    #[serde(default, skip_serializing_if = "Action::is_deploy")]
    pub action: Action,
    /// What happened.
    #[serde(flatten)]
    pub kind: ProgressKind,
    /// The request's opaque ids.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProgressKind {
    /// The request was valid and is stored.
    Accepted {
        /// Secrets that came in an old form: sealed for no project, or mounted in nobody's folder. Any project could have
        /// used them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unbound_secrets: Vec<VariableName>,
    },
    /// A worker has begun an attempt.
    AttemptStarted {
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// A stage has begun.
    StageStarted {
        /// Which stage.
        stage: Stage,
        /// Number of the attempt, from 1.
        attempt: u32,
    },
    /// A stage failed for a moment and is tried again within the same attempt.
    StageRetrying {
        /// Which stage.
        stage: Stage,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// How long it waits first, in milliseconds.
        delay_ms: u64,
    },
    /// A stage is done.
    StageFinished {
        /// Which stage.
        stage: Stage,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// Whether it had something to do.
        change: Change,
        /// How long it took, in milliseconds.
        duration_ms: u64,
        /// What it found or did; for people and dashboards, keys may be added at any time.
        facts: serde_json::Map<String, serde_json::Value>,
    },
    /// Lines that a remote command wrote, redacted.
    Log {
        /// In which stage.
        stage: Stage,
        /// The lines, in order.
        lines: Vec<String>,
    },
    /// The attempt failed and another one is scheduled.
    AttemptScheduled {
        /// Number of the next attempt.
        attempt: u32,
        /// When it may begin.
        run_at: Timestamp,
        /// Why the last one failed.
        failure: Failure,
    },
    /// The attempt was interrupted by a worker that stops or stopped; another worker takes over.
    Interrupted {
        /// Number of the attempt, from 1.
        attempt: u32,
    },
}

impl ProgressKind {
    /// The stage that this is about, if any.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::StageStarted { stage, .. }
            | Self::StageRetrying { stage, .. }
            | Self::StageFinished { stage, .. }
            | Self::Log { stage, .. } => Some(*stage),
            Self::Accepted { .. }
            | Self::AttemptStarted { .. }
            | Self::AttemptScheduled { .. }
            | Self::Interrupted { .. } => None,
        }
    }
}
