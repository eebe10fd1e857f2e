//! The CloudEvents 1.0 envelope and the types of event that exist.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Action;

/// Media type of an event in structured mode.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// In: a project is ready to be deployed.
    #[serde(rename = "slipway.project.ready.v1")]
    ProjectReady,
    /// In: the code of a project is done; one half of a request to deploy.
    #[serde(rename = "slipway.engineering.done.v1")]
    EngineeringDone,
    /// In: the server and the ports of a project are allocated; the other half.
    #[serde(rename = "slipway.resources.allocated.v1")]
    ResourcesAllocated,
    /// In: a project's containers are to be stopped.
    #[serde(rename = "slipway.project.stop.v1")]
    ProjectStop,
    /// In: a stopped project is to be started.
    #[serde(rename = "slipway.project.start.v1")]
    ProjectStart,
    /// In: a recorded version is to be deployed again.
    #[serde(rename = "slipway.project.rollback.v1")]
    ProjectRollback,
    /// In: a project is to be taken off its server.
    #[serde(rename = "slipway.project.undeploy.v1")]
    ProjectUndeploy,
    /// In: a project is to go to another server.
    #[serde(rename = "slipway.project.move.v1")]
    ProjectMove,
    /// In: a deployment is to be called off.
    #[serde(rename = "slipway.deployment.cancel.v1")]
    DeploymentCancel,
    /// In: a server is to get no new projects, or to get them again.
    #[serde(rename = "slipway.server.cordon.v1")]
    ServerCordon,
    /// Out: how a deployment is getting on.
    #[serde(rename = "slipway.deployment.progress.v1")]
    Progress,
    /// Out: how a deployment ended.
    #[serde(rename = "slipway.deployment.result.v1")]
    Result,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 12] = [
        Self::ProjectReady,
        Self::EngineeringDone,
        Self::ResourcesAllocated,
        Self::ProjectStop,
        Self::ProjectStart,
        Self::ProjectRollback,
        Self::ProjectUndeploy,
        Self::ProjectMove,
        Self::DeploymentCancel,
        Self::ServerCordon,
        Self::Progress,
        Self::Result,
    ];

    /// The name in the envelope's `type` and in the AMQP property `type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProjectReady => "slipway.project.ready.v1",
            Self::EngineeringDone => "slipway.engineering.done.v1",
            Self::ResourcesAllocated => "slipway.resources.allocated.v1",
            Self::ProjectStop => "slipway.project.stop.v1",
            Self::ProjectStart => "slipway.project.start.v1",
            Self::ProjectRollback => "slipway.project.rollback.v1",
            Self::ProjectUndeploy => "slipway.project.undeploy.v1",
            Self::ProjectMove => "slipway.project.move.v1",
            Self::DeploymentCancel => "slipway.deployment.cancel.v1",
            Self::ServerCordon => "slipway.server.cordon.v1",
            Self::Progress => "slipway.deployment.progress.v1",
            Self::Result => "slipway.deployment.result.v1",
        }
    }

    /// What a request of this type asks for; `None` for what Slipway itself tells.
    #[must_use]
    pub fn action(self) -> Option<Action> {
        match self {
            Self::ProjectReady | Self::EngineeringDone | Self::ResourcesAllocated => Some(Action::Deploy),
            Self::ProjectStop => Some(Action::Stop),
            Self::ProjectStart => Some(Action::Start),
            Self::ProjectRollback => Some(Action::Rollback),
            Self::ProjectUndeploy => Some(Action::Undeploy),
            Self::ProjectMove => Some(Action::Move),
            Self::DeploymentCancel => Some(Action::Cancel),
            Self::ServerCordon => Some(Action::Cordon),
            Self::Progress | Self::Result => None,
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == name)
    }
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A CloudEvent in structured mode, with the extension attributes that Slipway uses. Unknown attributes are tolerated
/// on reading and never written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudEvent<T> {
    /// Version of the CloudEvents specification.
    pub specversion: String,
    /// Unique within `source`; the two together recognise a duplicate.
    #[schemars(length(min = 1, max = 200))]
    pub id: String,
    /// Who says it.
    #[schemars(length(min = 1, max = 200))]
    pub source: String,
    /// What is said; with its version.
    #[serde(rename = "type")]
    pub event_type: String,
    /// About what: the project's slug, or the server's handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Media type of `data`: `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    /// Place of the event among those about one deployment: ten digits, zero-padded, from 1 without gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// Id of the event that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// W3C trace state; left out when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// What the event says.
    pub data: T,
}

impl<T> CloudEvent<T> {
    /// An event of `event_type` with the required attributes; the optional ones are fields to set.
    pub fn new(event_type: EventType, source: impl Into<String>, id: impl Into<String>, data: T) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id: id.into(),
            source: source.into(),
            event_type: event_type.as_str().to_owned(),
            subject: None,
            time: None,
            datacontenttype: Some("application/json".to_owned()),
            sequence: None,
            causationid: None,
            traceparent: None,
            tracestate: None,
            data,
        }
    }

    /// The same event with other data.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> CloudEvent<U> {
        CloudEvent {
            specversion: self.specversion,
            id: self.id,
            source: self.source,
            event_type: self.event_type,
            subject: self.subject,
            time: self.time,
            datacontenttype: self.datacontenttype,
            sequence: self.sequence,
            causationid: self.causationid,
            traceparent: self.traceparent,
            tracestate: self.tracestate,
            data: change(self.data),
        }
    }

    /// `sequence` in its wire form.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> Self {
        self.sequence = Some(format!("{sequence:010}"));
        self
    }
}
