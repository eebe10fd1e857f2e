//! Dead letters, their replays and their history as JSON. The bytes of an exported message are added by `export`.

use serde_json::{Value, json};
use slipway_protocol::{ErrorCode, Stage};
use slipway_worker::store::{DeadLetter, PlannedReplay, Replay};

use super::verdict::would_be_sent;
use crate::terminal::redact;

pub(super) fn dead_letter_json(letter: &DeadLetter) -> Value {
    let mut value = facts_json(letter);
    value["headers"] = json!(redact::redact_headers(&letter.headers));
    value["body"] = letter.body.as_deref().and_then(redact::redact_body).into();
    value
}

/// Everything about a dead letter except its headers and its body.
pub(super) fn facts_json(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "deployment_id": letter.deployment,
        "state": letter.state.as_str(),
        "project": letter.project,
        "server": letter.server,
        "reason": letter.reason,
        "stage": letter.stage,
        "code": letter.code,
        "class": letter.class,
        "message": letter.message,
        "next_action": letter.code.parse::<ErrorCode>().ok().map(ErrorCode::next_action),
        "attempts": letter.attempts,
        "first_failed_at": letter.first_failed_at,
        "last_failed_at": letter.last_failed_at,
        "amqp_user": letter.amqp_user,
        "original_exchange": letter.original_exchange,
        "original_routing_key": letter.original_routing_key,
        "worker": letter.worker,
        "replay_count": letter.replay_count,
        "replayed_as": letter.replayed_as,
        "note": letter.note,
        "content_type": letter.content_type,
    })
}

pub(super) fn replay_json(one: &PlannedReplay, replay: Replay) -> Value {
    json!({
        "id": one.id,
        "project": one.project,
        "stage": one.stage,
        "code": one.code,
        "state": one.state,
        "replayable": would_be_sent(one.verdict, replay),
        "verdict": one.verdict.as_str(),
        "resumes_at": one.stage.parse::<Stage>().ok().filter(|_| !replay.from_start),
        "newer_deployment": one.newer,
    })
}
