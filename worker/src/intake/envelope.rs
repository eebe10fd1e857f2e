//! What is known of a message, whatever becomes of it.

use slipway_protocol::{DeploymentCancel, Message, PartialEnvelope, ProjectCommand, Rejection, Request, ServerCordon};

/// What is known of a message, whether it could be decoded or not, and its W3C trace state.
pub(super) fn read_envelope(read: &Result<Message, Rejection>) -> (PartialEnvelope, Option<String>) {
    match read {
        Ok(Message::Ready(request)) => (ready_envelope(request), request.event.tracestate.clone()),
        Ok(Message::Half(half)) => (PartialEnvelope::of_half(half), half.event.tracestate.clone()),
        Ok(Message::Command(request)) => (command_envelope(request), request.event.tracestate.clone()),
        Ok(Message::Cancel(request)) => (cancel_envelope(request), request.event.tracestate.clone()),
        Ok(Message::Cordon(request)) => (cordon_envelope(request), request.event.tracestate.clone()),
        Err(rejection) => ((*rejection.known).clone(), None),
    }
}

fn common_envelope<T>(request: &Request<T>) -> PartialEnvelope {
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

pub(super) fn ready_envelope(request: &Request) -> PartialEnvelope {
    let data = &request.event.data;
    PartialEnvelope {
        project: Some(data.project.clone()),
        repository: Some(data.repository.name.clone()),
        commit: Some(data.repository.commit.clone()),
        server: data.server.as_ref().map(|server| server.handle.clone()),
        correlation: data.correlation.clone(),
        ..common_envelope(request)
    }
}

pub(super) fn command_envelope(request: &Request<ProjectCommand>) -> PartialEnvelope {
    let data = &request.event.data;
    PartialEnvelope {
        project: Some(data.project.clone()),
        server: data.server.clone(),
        correlation: data.correlation.clone(),
        ..common_envelope(request)
    }
}

pub(super) fn cancel_envelope(request: &Request<DeploymentCancel>) -> PartialEnvelope {
    PartialEnvelope { correlation: request.event.data.correlation.clone(), ..common_envelope(request) }
}

pub(super) fn cordon_envelope(request: &Request<ServerCordon>) -> PartialEnvelope {
    let data = &request.event.data;
    let (server, correlation) = (Some(data.server.clone()), data.correlation.clone());
    PartialEnvelope { server, correlation, ..common_envelope(request) }
}
