//! Decides what a message calls for: a deployment, half of one (`halves`), a command, a cancellation, or a refusal. Each is one transaction of
//! the store; when that is committed, the message may be acknowledged. Acknowledging it is the consumer's task.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use slipway_protocol::names::VariableName;
use slipway_protocol::{
    DeploymentCancel, ErrorCode, Failure, Message, ProjectCommand, Rejection, Request, ServerCordon,
};

use super::door::{Door, expiry_failure, holds_nul, nul_failure};
use super::envelope::{cancel_envelope, command_envelope, cordon_envelope, read_envelope, ready_envelope};
use crate::message::Incoming;
use crate::run::Credentials;
use crate::store::{Admission, CancelRequest, RefusedMessage, State, Store, StoreError};
use crate::telemetry::Metrics;

/// Decides what a message calls for, and commits it.
#[derive(Clone)]
pub struct Admitter {
    /// Where deployments, cancellations and refusals are written.
    pub store: Store,
    /// Opens the secrets of a request once, to refuse it at once where that can't be done.
    pub credentials: Arc<Credentials>,
    /// To how many versions of a project one may roll back.
    pub versions: u32,
    /// How long one half of a request waits for the other.
    pub half_timeout: Duration,
}

impl Admitter {
    /// Commits what the message calls for; when this returns, it may be acknowledged.
    pub(super) async fn admit(&self, read: &Result<Message, Rejection>, incoming: &Incoming) -> Result<(), StoreError> {
        let door = Door::open(&self.store, &self.credentials, read, incoming).await?;
        let incoming = &door.incoming;
        let refusal = match read {
            Ok(Message::Ready(request)) => match door.check(request).await? {
                Ok(unbound) => match self.accept(request, incoming, &unbound).await? {
                    None => return Ok(()),
                    Some(failure) => refused_ready(request, failure),
                },
                Err(failure) => {
                    let mut refusal = refused_ready(request, failure);
                    if refusal.withhold {
                        door.withhold_repeated(&request.event.data, &mut refusal.known);
                    }
                    refusal
                }
            },
            Ok(Message::Half(half)) => match self.take_half(half, &door).await? {
                None => return Ok(()),
                Some(refusal) => refusal,
            },
            Ok(Message::Command(request)) => match self.accept_command(request, &door).await? {
                None => return Ok(()),
                Some(failure) => RefusedMessage { failure, known: command_envelope(request), withhold: false },
            },
            Ok(Message::Cancel(request)) => match self.cancel_deployment(request, &door).await? {
                None => return Ok(()),
                Some(failure) => RefusedMessage { failure, known: cancel_envelope(request), withhold: false },
            },
            Ok(Message::Cordon(request)) => match self.cordon_server(request, &door).await? {
                None => return Ok(()),
                Some(failure) => RefusedMessage { failure, known: cordon_envelope(request), withhold: false },
            },
            Err(rejection) => RefusedMessage {
                failure: Failure::new(rejection.code, None, rejection.message.clone()),
                known: (*rejection.known).clone(),
                withhold: rejection.code == ErrorCode::PlaintextSecret,
            },
        };
        let overtaken = match read {
            Ok(Message::Cancel(request)) if refusal.failure.code == ErrorCode::UnknownDeployment => {
                request.event.data.deployment()
            }
            _ => None,
        };
        self.refuse(refusal, &door).await?;
        match overtaken {
            // Its request may have come meanwhile.
            Some(id) => self.store.settle_overtaking_cancels(id).await,
            None => Ok(()),
        }
    }

    /// Accepts a request to deploy, or gives the failure with which it must be refused.
    async fn accept(
        &self,
        request: &Request,
        incoming: &Incoming,
        unbound: &[VariableName],
    ) -> Result<Option<Failure>, StoreError> {
        let accepted = match self.store.accept_telling(request, incoming, unbound).await? {
            Admission::Refused(failure) => return Ok(Some(failure)),
            accepted => accepted,
        };
        if accepted == Admission::New {
            note_unbound(request, unbound);
        }
        log_admission(&accepted, request, "deploy", request.event.data.project.slug.as_str());
        Ok(None)
    }

    /// Accepts a command, or gives the failure with which it must be refused.
    async fn accept_command(
        &self,
        request: &Request<ProjectCommand>,
        door: &Door<'_>,
    ) -> Result<Option<Failure>, StoreError> {
        let data = &request.event.data;
        let failure = expiry_failure(data.expires_at).or_else(|| nul_failure(&request.event, &data.correlation));
        let failure = failure.or_else(|| door.check_source(request, data.action));
        if failure.is_some() {
            return Ok(failure);
        }
        match self.store.accept_command(request, &door.incoming, self.versions).await? {
            Ok(accepted) => {
                log_admission(&accepted, request, data.action.as_str(), data.project.slug.as_str());
                Ok(None)
            }
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// Cancels the deployment that the event names, or gives the failure with which the event must be refused.
    async fn cancel_deployment(
        &self,
        request: &Request<DeploymentCancel>,
        door: &Door<'_>,
    ) -> Result<Option<Failure>, StoreError> {
        let failure = match nul_failure(&request.event, &request.event.data.correlation) {
            Some(failure) => Some(failure),
            None => door.check_cancel(request).await?,
        };
        let Some(cancel) = CancelRequest::of_event(request).filter(|_| failure.is_none()) else { return Ok(failure) };
        let id = cancel.deployment;
        tracing::Span::current().record("deployment.id", id.to_string());
        let outcome = self.store.request_cancel(&cancel).await?;
        let Some(found) = outcome.found else {
            // A duplicate is refused, too: the first refusal may not have been written.
            let message = format!("there is no deployment {id}");
            return Ok(Some(Failure::new(ErrorCode::UnknownDeployment, None, message)));
        };
        let effect = match found {
            _ if outcome.duplicate => "none: it came before",
            state if state.is_terminal() => "none: the deployment had ended",
            State::Pending => "the deployment has ended as cancelled",
            _ => "the running attempt is asked to stop",
        };
        Metrics::get().taken_in(if outcome.duplicate { "duplicate" } else { "accepted" });
        tracing::info!(deployment.id = %id, deployment.state = %found, effect, reason = cancel.reason, "cancel event taken in");
        Ok(None)
    }

    /// Cordons the server that the event names or uncordons it, or gives the failure with which the event must be refused.
    async fn cordon_server(
        &self,
        request: &Request<ServerCordon>,
        door: &Door<'_>,
    ) -> Result<Option<Failure>, StoreError> {
        let failure = match nul_failure(&request.event, &request.event.data.correlation) {
            Some(failure) => Some(failure),
            None => door.check_cordon(request).await?,
        };
        if failure.is_some() {
            return Ok(failure);
        }
        match self.store.accept_cordon(request, &door.incoming).await? {
            Ok(accepted) => {
                let what = if request.event.data.cordoned { "cordon" } else { "uncordon" };
                log_admission(&accepted, request, what, request.event.data.server.as_str());
                Ok(None)
            }
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// Ends a message that can't be taken in, though the database answers others: as any refused one, or else, where no
    /// deployment of its project can be written, beside them.
    pub(super) async fn give_up(
        &self,
        read: &Result<Message, Rejection>,
        incoming: &Incoming,
        why: String,
    ) -> Result<(), StoreError> {
        let door = Door::open(&self.store, &self.credentials, read, incoming).await?;
        let failure = match read {
            Ok(_) => Failure::new(ErrorCode::IntakeFailed, None, why),
            Err(rejection) => Failure::new(rejection.code, None, rejection.message.clone()),
        };
        let refusal = RefusedMessage { failure, known: read_envelope(read).0, withhold: false };
        let refusal = may_be_told(refusal, &door).await?;
        match self.store.refuse(&refusal, &door.incoming).await {
            Ok(new) => log_refusal(&refusal, new),
            Err(error) => {
                let new = self.store.refuse_apart(&refusal, &door.incoming).await?;
                tracing::error!(%error, "not even the failure of this request can be written among the deployments");
                log_refusal(&refusal, new);
            }
        }
        Ok(())
    }

    async fn refuse(&self, refusal: RefusedMessage, door: &Door<'_>) -> Result<(), StoreError> {
        let refusal = may_be_told(refusal, door).await?;
        let code = refusal.failure.code.as_str();
        tracing::Span::current().record("error.type", code);
        log_refusal(&refusal, self.store.refuse(&refusal, &door.incoming).await?);
        Ok(())
    }
}

/// Takes out of a refusal what can't be stored, and ids that aren't the sender's.
async fn may_be_told(mut refusal: RefusedMessage, door: &Door<'_>) -> Result<RefusedMessage, StoreError> {
    if holds_nul(&Value::Object(refusal.known.correlation.clone())) {
        refusal.known.correlation.clear();
    }
    if !door.may_use_ids(&refusal.known).await? {
        (refusal.known.source, refusal.known.id) = (None, None);
    }
    Ok(refusal)
}

pub(super) fn log_refusal(refusal: &RefusedMessage, new: bool) {
    let code = refusal.failure.code.as_str();
    Metrics::get().taken_in(if new { code } else { "duplicate" });
    let deployment = refusal.known.deployment_id().map(|id| id.to_string());
    tracing::warn!(deployment.id = deployment, error.type = code, new, "request refused: {}", refusal.failure.message);
}

fn refused_ready(request: &Request, failure: Failure) -> RefusedMessage {
    let withhold = failure.code == ErrorCode::PlaintextSecret;
    let mut known = ready_envelope(request);
    if withhold {
        known.correlation.clear();
    }
    RefusedMessage { failure, known, withhold }
}

/// Tells operators of secrets that came in an old form.
pub(super) fn note_unbound(request: &Request, unbound: &[VariableName]) {
    if unbound.is_empty() {
        return;
    }
    Metrics::get().unbound_secrets(unbound.len());
    let names: Vec<&str> = unbound.iter().map(VariableName::as_str).collect();
    tracing::warn!(
        project.slug = request.event.data.project.slug.as_str(),
        secrets = names.join(" "),
        "secrets came in an old form, which any project could have used"
    );
}

pub(super) fn log_admission<T>(accepted: &Admission, request: &Request<T>, action: &str, slug: &str) {
    let id = request.deployment_id();
    tracing::Span::current().record("deployment.id", id.to_string());
    let verdict = match accepted {
        Admission::New => "accepted",
        Admission::Superseded(_) => "superseded",
        Admission::Cancelled => "cancelled",
        Admission::Duplicate => "duplicate",
        Admission::Refused(_) => "refused",
    };
    Metrics::get().taken_in(verdict);
    tracing::info!(deployment.id = %id, deployment.action = action, project.slug = slug, verdict, "request taken in");
}
