#![doc = include_str!("../README.md")]

mod action;
mod allocation;
mod command;
mod credential_shapes;
mod decode;
mod domain_name;
mod envelope;
mod error_code;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod halves;
mod ids;
mod move_report;
pub mod names;
mod placement;
mod progress;
mod project_move;
mod ready;
mod replacement;
mod result;
mod rules;
pub mod schema;
mod secret;
mod server_cordon;
mod stage_order;
pub mod topology;
mod web;

pub use action::Action;
pub use allocation::{Allocation, HealthCheck};
pub use command::{
    DeploymentCancel, EventReference, MAX_REASON, ProjectCommand, ProjectRollback, ProjectStart, ProjectStop,
    ProjectUndeploy, Version,
};
pub use credential_shapes::holds_credential;
pub use decode::{
    MAX_MESSAGE_BYTES, Message, Metadata, PartialEnvelope, Rejection, Request, decode, is_attribute, read,
    without_byte_order_mark,
};
pub use domain_name::DomainName;
pub use envelope::{CONTENT_TYPE, CloudEvent, EventType};
pub use error_code::{Class, ErrorCode};
pub use halves::{EngineeringDone, HalfKind, ProjectHalf, ResourcesAllocated, join};
pub use ids::{DeploymentId, ProjectId};
pub use move_report::{MoveData, MoveReport, VolumeName};
pub use placement::{
    Lack, LackKind, NeededRoom, Placement, PlacementReason, PlacementWish, Resources, ServerLabel, ServerScore,
    ServerTraits,
};
pub use progress::{Progress, ProgressKind};
pub use project_move::ProjectMove;
pub use ready::{Project, ProjectReady, PushDeployer, RegistryAccess, Repository, Server};
pub use replacement::{Replacement, ReplacementWay};
pub use result::{DeploymentResult, Exposed, Failure, Outcome, ServiceReport, Serving, StageSummary};
pub use secret::{SealedSecret, SecretSource};
pub use server_cordon::ServerCordon;
pub use stage_order::{Change, Stage};

/// Opaque correlation ids of a request (`correlation_id`, `task_id`, a chat to report to…), echoed untouched.
pub type Correlation = serde_json::Map<String, serde_json::Value>;
