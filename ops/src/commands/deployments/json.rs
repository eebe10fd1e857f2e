//! Deployments, their stages and their cancellations as JSON. Values of variables and secrets are left out.

use serde_json::{Value, json};
use slipway_protocol::{ProjectReady, SecretSource};
use slipway_worker::store::{Cancellation, Deployment, JournalEntry, State};

/// A deployment as JSON, without the values of variables and secrets.
pub(super) fn deployment_json(d: &Deployment) -> Value {
    let mut value = facts_json(d);
    // What a later version has written stands as it is.
    for (column, raw) in &d.unread {
        value[if *column == "data" { "request" } else { *column }] = raw.clone();
    }
    value["unread"] = json!(d.unread.keys().collect::<Vec<_>>());
    value
}

fn facts_json(d: &Deployment) -> Value {
    json!({
        "deployment_id": d.id,
        "action": d.action,
        "acts_on": d.acts_on,
        "remove_volumes": d.remove_volumes,
        "reason": d.reason,
        "state": d.state.as_str(),
        "project": d.project,
        "repository": d.repository,
        "commit": d.commit,
        "server": d.server,
        "placement": d.placement,
        "source": d.source,
        "event_id": d.event_id,
        "amqp_user": d.amqp_user,
        "unbound_secrets": d.unbound_secrets,
        "replay_id": d.replay,
        "request": d.request.as_ref().map(request_json),
        "attempt": d.attempt,
        "interruptions": d.interruptions,
        "run_at": (d.state == State::Pending).then_some(d.run_at),
        "worker": d.owner,
        "cancel_requested": d.cancel_requested,
        "superseded_by": d.superseded_by,
        "failure": d.failure,
        "result": d.result,
        "ssh_round_trips": d.ssh_round_trips,
        "traceparent": d.traceparent,
        "accepted_at": d.accepted_at,
        "started_at": d.started_at,
        "finished_at": d.finished_at,
    })
}

fn request_json(request: &ProjectReady) -> Value {
    let secrets: serde_json::Map<String, Value> = request
        .secrets
        .iter()
        .map(|(name, source)| (name.to_string(), json!(describe_secret_source(source))))
        .collect();
    json!({
        "project": request.project,
        "repository": request.repository,
        "server": request.server,
        "placement": request.placement,
        "resources": request.resources,
        "allocations": request.allocations,
        "modules": request.modules,
        "variables": request.variables.keys().collect::<Vec<_>>(),
        "secrets": secrets,
        "sequence": request.sequence,
        "expires_at": request.expires_at,
        "correlation": request.correlation,
    })
}

/// Where a secret comes from, without the box.
pub(super) fn describe_secret_source(source: &SecretSource) -> String {
    match source {
        SecretSource::Sealed(sealed) => format!("sealed to {}", sealed.key_id),
        SecretSource::Reference(name) => format!("mounted as {name}"),
    }
}

pub(super) fn cancellation_json(cancellation: &Cancellation) -> Value {
    json!({
        "source": cancellation.source,
        "event_id": cancellation.event_id,
        "reason": cancellation.reason,
        "found": cancellation.found.map(State::as_str),
        "requested_at": cancellation.requested_at,
    })
}

pub(super) fn stage_json(entry: &JournalEntry) -> Value {
    json!({
        "attempt": entry.attempt,
        "fence": entry.fence,
        "stage": entry.stage,
        "began_at": entry.intent_at,
        "outcome": entry.outcome,
        "change": entry.change,
        "facts": entry.facts,
        "failure": entry.failure,
        "duration_ms": entry.duration.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
    })
}
