//! What decoding gives: a valid request of some kind, or a rejection with all that could be read.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::names::{CommitSha, RepositoryName, ServerHandle};
use crate::{
    Action, CloudEvent, Correlation, DeploymentCancel, DeploymentId, ErrorCode, EventType, Project, ProjectCommand,
    ProjectHalf, ProjectReady, ServerCordon,
};

/// What AMQP says about a message beside its body.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// The property `content-type`.
    pub content_type: Option<String>,
    /// Headers whose values are text.
    pub headers: BTreeMap<String, String>,
}

/// A valid request, with its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<T = ProjectReady> {
    /// The event as it was sent.
    pub event: CloudEvent<T>,
    /// Set when an operator replayed the request.
    pub replay: Option<Uuid>,
}

/// Any valid request.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Deploy a project.
    Ready(Box<Request>),
    /// One half of what a deployment needs.
    Half(Box<Request<ProjectHalf>>),
    /// Do something else with a project.
    Command(Box<Request<ProjectCommand>>),
    /// Call a deployment off.
    Cancel(Box<Request<DeploymentCancel>>),
    /// Keep new projects off a server, or let it have them again.
    Cordon(Box<Request<ServerCordon>>),
}

impl<T> Request<T> {
    /// The deployment that this request asks for: what is done to a project is one, whatever it is.
    #[must_use]
    pub fn deployment_id(&self) -> DeploymentId {
        DeploymentId::of(&self.event.source, &self.event.id, self.replay)
    }
}

/// Why a message was refused, with whatever could be read of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The code.
    pub code: ErrorCode,
    /// JSON pointer of the field, where there is one.
    pub pointer: Option<String>,
    /// What is wrong; never repeats a value.
    pub message: String,
    /// What could be read all the same.
    pub known: Box<PartialEnvelope>,
}

/// What could be read of a message that was refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PartialEnvelope {
    /// CloudEvents `source`.
    pub source: Option<String>,
    /// CloudEvents `id`.
    pub id: Option<String>,
    /// The replay that sent it.
    pub replay: Option<Uuid>,
    /// CloudEvents `type`.
    pub event_type: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Which project.
    pub project: Option<Project>,
    /// Which repository.
    pub repository: Option<RepositoryName>,
    /// Which commit.
    pub commit: Option<CommitSha>,
    /// Which server.
    pub server: Option<ServerHandle>,
    /// The request's opaque ids.
    pub correlation: Correlation,
}

impl PartialEnvelope {
    /// All that is told of a valid half.
    #[must_use]
    pub fn of_half(half: &Request<ProjectHalf>) -> Self {
        let (event, data) = (&half.event, &half.event.data);
        let (repository, server) = match data {
            ProjectHalf::Engineering(half) => (Some(&half.repository), None),
            ProjectHalf::Resources(half) => (None, Some(half.server.handle.clone())),
        };
        Self {
            source: Some(event.source.clone()),
            id: Some(event.id.clone()),
            replay: half.replay,
            event_type: Some(event.event_type.clone()),
            traceparent: event.traceparent.clone().filter(|text| !text.contains('\0')),
            project: Some(data.project().clone()),
            repository: repository.map(|repository| repository.name.clone()),
            commit: repository.map(|repository| repository.commit.clone()),
            server,
            correlation: data.correlation().clone(),
        }
    }

    /// What was asked for, as far as the type tells; else a deployment.
    #[must_use]
    pub fn action(&self) -> Action {
        self.event_type.as_deref().and_then(EventType::named).and_then(EventType::action).unwrap_or_default()
    }

    /// The deployment that the message would have asked for; a result event needs it.
    #[must_use]
    pub fn deployment_id(&self) -> Option<DeploymentId> {
        Some(DeploymentId::of(self.source.as_deref()?, self.id.as_deref()?, self.replay))
    }
}
