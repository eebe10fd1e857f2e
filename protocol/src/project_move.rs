//! `slipway.project.move.v1`: a project goes to another server.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::ServerHandle;
use crate::{Action, Correlation, MoveData, Project, ProjectCommand};

/// Deploy the version that the project has on another server, prove it there, and take it off the one where it was. Until
/// it's proven, the old one serves; a move that fails leaves it so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectMove {
    /// Which project; as its deployments name it.
    pub project: Project,
    /// The handle of the server that it's on; needed only for a project that is on several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerHandle>,
    /// The handle of the server that it's to go to. Without it, Slipway chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ServerHandle>,
    /// What becomes of its data.
    #[serde(default, skip_serializing_if = "MoveData::is_refuse")]
    pub data: MoveData,
    /// Why, for the record; one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
    /// The producer's number of this request within the project, counted together with its deployments: the highest
    /// wins. Without it, the event's time decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9007199254740991u64))]
    pub sequence: Option<u64>,
    /// After this moment the request must not be acted on any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Opaque ids to echo in every event about this request.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

impl From<ProjectMove> for ProjectCommand {
    fn from(event: ProjectMove) -> Self {
        let ProjectMove { project, server, to, data, reason, sequence, expires_at, correlation } = event;
        Self {
            action: Action::Move,
            project,
            server,
            to: None,
            remove_volumes: false,
            move_to: to,
            move_data: data,
            reason,
            sequence,
            expires_at,
            correlation,
        }
    }
}
