//! What a message calls for: a deployment, a command, a cancellation, or a refusal. Each is one transaction of the
//! store; when that is committed, the message may be acknowledged.

use jiff::Timestamp;
use serde_json::Value;
use slipway_protocol::{
    CloudEvent, DeploymentCancel, ErrorCode, Failure, Message, PartialEnvelope, ProjectCommand, Rejection, Request,
};

use crate::credentials::described;
use crate::intake::Intake;
use crate::message::Incoming;
use crate::metrics::Metrics;
use crate::store::{Admission, CancelRequest, RefusedMessage, StoreError};

/// What a message tells about itself, readable or not, and its W3C trace state.
pub(crate) fn told(read: &Result<Message, Rejection>) -> (PartialEnvelope, Option<String>) {
    match read {
        Ok(Message::Ready(request)) => (ready(request), request.event.tracestate.clone()),
        Ok(Message::Command(request)) => (command(request), request.event.tracestate.clone()),
        Ok(Message::Cancel(request)) => (cancel(request), request.event.tracestate.clone()),
        Err(rejection) => ((*rejection.known).clone(), None),
    }
}

impl Intake {
    /// Commits what the message calls for; when this returns, it may be acknowledged.
    pub(crate) async fn take_in(
        &self,
        read: &Result<Message, Rejection>,
        incoming: &Incoming,
    ) -> Result<(), StoreError> {
        let refusal = match read {
            Ok(Message::Ready(request)) => match self.validate(request).await? {
                None => return self.accept(request, incoming).await,
                Some(failure) => RefusedMessage { failure, known: ready(request), withhold: false },
            },
            Ok(Message::Command(request)) => match self.command(request, incoming).await? {
                None => return Ok(()),
                Some(failure) => RefusedMessage { failure, known: command(request), withhold: false },
            },
            Ok(Message::Cancel(request)) => match self.cancel_deployment(request).await? {
                None => return Ok(()),
                Some(failure) => RefusedMessage { failure, known: cancel(request), withhold: false },
            },
            Err(rejection) => RefusedMessage {
                failure: Failure::new(rejection.code, None, rejection.message.clone()),
                known: (*rejection.known).clone(),
                withhold: rejection.code == ErrorCode::PlaintextSecret,
            },
        };
        self.refuse(refusal, incoming).await
    }

    async fn accept(&self, request: &Request, incoming: &Incoming) -> Result<(), StoreError> {
        let accepted = self.store.accept(request, incoming).await?;
        note(&accepted, request, "deploy", request.event.data.project.slug.as_str());
        Ok(())
    }

    /// Takes a command in; the failure with which it's to be refused, where it can't be.
    async fn command(
        &self,
        request: &Request<ProjectCommand>,
        incoming: &Incoming,
    ) -> Result<Option<Failure>, StoreError> {
        let data = &request.event.data;
        let unfit = expired(data.expires_at).or_else(|| holding_nul(&request.event, &data.correlation));
        if unfit.is_some() {
            return Ok(unfit);
        }
        match self.store.accept_command(request, incoming, self.versions).await? {
            Ok(accepted) => {
                note(&accepted, request, data.action.as_str(), data.project.slug.as_str());
                Ok(None)
            }
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// Heeds a cancel event; the failure with which it's to be refused, where there is nothing to cancel.
    async fn cancel_deployment(&self, request: &Request<DeploymentCancel>) -> Result<Option<Failure>, StoreError> {
        let unfit = holding_nul(&request.event, &request.event.data.correlation);
        let Some(wish) = CancelRequest::of_event(request).filter(|_| unfit.is_none()) else { return Ok(unfit) };
        let id = wish.deployment;
        tracing::Span::current().record("deployment.id", id.to_string());
        let met = self.store.request_cancel(&wish).await?;
        let Some(found) = met.found else {
            // Also of a duplicate: its refusal may not have been written.
            let message = format!("there is no deployment {id}");
            return Ok(Some(Failure::new(ErrorCode::UnknownDeployment, None, message)));
        };
        let effect = match found {
            _ if met.duplicate => "none: it came before",
            state if state.is_terminal() => "none: the deployment had ended",
            crate::store::State::Pending => "the deployment has ended as cancelled",
            _ => "the running attempt is asked to stop",
        };
        Metrics::get().taken_in(if met.duplicate { "duplicate" } else { "accepted" });
        tracing::info!(deployment.id = %id, deployment.state = %found, effect, reason = wish.reason, "cancel event taken in");
        Ok(None)
    }

    async fn refuse(&self, mut refusal: RefusedMessage, incoming: &Incoming) -> Result<(), StoreError> {
        if holds_nul(&Value::Object(refusal.known.correlation.clone())) {
            refusal.known.correlation.clear();
        }
        let code = refusal.failure.code.as_str();
        tracing::Span::current().record("error.type", code);
        let new = self.store.refuse(&refusal, incoming).await?;
        Metrics::get().taken_in(if new { code } else { "duplicate" });
        let deployment = refusal.known.deployment_id().map(|id| id.to_string());
        tracing::warn!(deployment.id = deployment, error.type = code, new, "request refused: {}", refusal.failure.message);
        Ok(())
    }

    /// What only this process can check; `None` when all is well.
    async fn validate(&self, request: &Request) -> Result<Option<Failure>, StoreError> {
        let data = &request.event.data;
        if let Some(failure) = expired(data.expires_at) {
            return Ok(Some(failure));
        }
        if serde_json::to_value(&request.event).is_ok_and(|event| holds_nul(&event)) {
            return Ok(Some(with_nul()));
        }
        let known = self.store.server(&data.server.handle).await?.is_some();
        let unfit = match described(&data.server) {
            Err(error) if !known => Some(error),
            _ => self.credentials.secrets(data).err(),
        };
        Ok(unfit.map(|error| error.failure(None)))
    }
}

fn note<T>(accepted: &Admission, request: &Request<T>, action: &str, slug: &str) {
    let id = request.deployment_id();
    tracing::Span::current().record("deployment.id", id.to_string());
    let verdict = match accepted {
        Admission::New => "accepted",
        Admission::Superseded(_) => "superseded",
        Admission::Cancelled => "cancelled",
        Admission::Duplicate => "duplicate",
    };
    Metrics::get().taken_in(verdict);
    tracing::info!(deployment.id = %id, deployment.action = action, project.slug = slug, verdict, "request taken in");
}

fn expired(at: Option<Timestamp>) -> Option<Failure> {
    let expiry = at.filter(|expiry| *expiry <= Timestamp::now())?;
    Some(Failure::new(ErrorCode::ExpiredEvent, None, format!("the request expired at {expiry}")))
}

/// PostgreSQL's text can't hold NUL, and nothing that is meant to be read does.
fn with_nul() -> Failure {
    Failure::new(ErrorCode::InvalidField, None, "a text of the event must not hold the character NUL")
}

/// The fields of a command that aren't checked for it already: those that anything may stand in.
fn holding_nul<T>(event: &CloudEvent<T>, correlation: &slipway_protocol::Correlation) -> Option<Failure> {
    let trace = event.traceparent.as_deref().is_some_and(|text| text.contains('\0'));
    (trace || holds_nul(&Value::Object(correlation.clone()))).then(with_nul)
}

pub(crate) fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn envelope<T>(request: &Request<T>) -> PartialEnvelope {
    let event = &request.event;
    PartialEnvelope {
        source: Some(event.source.clone()),
        id: Some(event.id.clone()),
        replay: request.replay,
        event_type: Some(event.event_type.clone()),
        traceparent: event.traceparent.clone().filter(|t| !t.contains('\0')),
        ..PartialEnvelope::default()
    }
}

fn ready(request: &Request) -> PartialEnvelope {
    let data = &request.event.data;
    PartialEnvelope {
        project: Some(data.project.clone()),
        repository: Some(data.repository.name.clone()),
        commit: Some(data.repository.commit.clone()),
        server: Some(data.server.handle.clone()),
        correlation: data.correlation.clone(),
        ..envelope(request)
    }
}

fn command(request: &Request<ProjectCommand>) -> PartialEnvelope {
    let data = &request.event.data;
    PartialEnvelope {
        project: Some(data.project.clone()),
        server: data.server.clone(),
        correlation: data.correlation.clone(),
        ..envelope(request)
    }
}

fn cancel(request: &Request<DeploymentCancel>) -> PartialEnvelope {
    PartialEnvelope { correlation: request.event.data.correlation.clone(), ..envelope(request) }
}
