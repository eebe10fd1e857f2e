//! What Slipway says and hears: pure data, no I/O.
//!
//! An orchestrator publishes [`ProjectReady`] as a CloudEvent, or a command such as [`ProjectStop`]; Slipway answers
//! with [`Progress`] and exactly one [`DeploymentResult`] for each. Everything that two programs have to agree on
//! stands here once: names that are valid by construction ([`names`]), error codes with their class ([`ErrorCode`]),
//! the RabbitMQ topology ([`topology`]) and the JSON Schemas generated from the types ([`schema`]).
//!
//! ```
//! use slipway_protocol::{DeploymentId, decode};
//!
//! let body = include_bytes!("../samples/project-ready.v1.json");
//! let event = decode(body, &Default::default()).expect("the sample is valid");
//! assert_eq!(event.deployment_id(), DeploymentId::of("/orchestrator", "5f0c7f0e-6f58-4f0e-9f5b-6a1f0f3a9c11", None));
//! ```

mod action;
mod command;
mod decode;
mod envelope;
mod error_code;
mod ids;
pub mod names;
mod progress;
mod ready;
mod result;
pub mod schema;
mod secret;
mod stage;
pub mod topology;

pub use action::Action;
pub use command::{
    DeploymentCancel, EventReference, MAX_REASON, ProjectCommand, ProjectRollback, ProjectStart, ProjectStop,
    ProjectUndeploy, Version,
};
pub use decode::{MAX_MESSAGE_BYTES, Message, Metadata, PartialEnvelope, Rejection, Request, decode, read};
pub use envelope::{CONTENT_TYPE, CloudEvent, EventType};
pub use error_code::{Class, ErrorCode};
pub use ids::{DeploymentId, ProjectId};
pub use progress::{Progress, ProgressKind};
pub use ready::{Allocation, HealthCheck, Project, ProjectReady, Repository, Server};
pub use result::{DeploymentResult, Exposed, Failure, Outcome, ServiceReport, Serving, StageSummary};
pub use secret::{SealedSecret, SecretSource};
pub use stage::{Change, Stage};

/// Opaque correlation ids of a request (`correlation_id`, `task_id`, a chat to report to…), echoed untouched.
pub type Correlation = serde_json::Map<String, serde_json::Value>;
