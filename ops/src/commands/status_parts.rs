//! Parts of `slipway status`: what the database fails at, queues, and how far pruning is.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_protocol::topology::{DEAD_LETTERS_QUEUE, DEPLOYMENTS_QUEUE, PARKED_QUEUE};
use slipway_worker::amqp::QueueState;
use slipway_worker::store::{
    ChoreProgress, FailingWrite, FailingWrites, HeldBacklog, HeldWrite, OutboxBacklog, WaitingMessage,
};

use crate::notify::intake::NOTIFY_QUEUE;
use crate::terminal::format::format_duration;
use crate::terminal::print::{Printer, Table};

/// What can't be taken in, in words.
pub(crate) fn held_problems(held: &HeldBacklog) -> Vec<String> {
    let mut problems = Vec::new();
    for message in &held.messages {
        let (project, request) =
            (message.project.as_deref().unwrap_or("-"), message.event_id.as_deref().unwrap_or("-"));
        problems.push(format!(
            "request {request} of {project} can't be taken in, and waits beside the others: for {}, {} tries so far, the next \
             one in {}: {}",
            format_age(message.waited),
            message.tries,
            format_age(message.next_try_in),
            message.reason
        ));
    }
    let named = u64::try_from(held.messages.len()).unwrap_or(u64::MAX);
    if held.count > named {
        problems.push(format!("more messages can't be taken in ({})", held.count - named));
    }
    problems
}

/// What the database fails at beside messages, in words.
pub(crate) fn failing_problems(failing: &FailingWrites) -> Vec<String> {
    let mut problems: Vec<String> = failing.writes.iter().map(failing_problem).collect();
    let named = failing.writes.iter().map(|write| 1 + write.and_more).sum();
    if failing.count > named {
        problems.push(format!("the database fails at more deployments and messages ({})", failing.count - named));
    }
    problems
}

fn failing_problem(failing: &FailingWrite) -> String {
    let deployment = failing.deployment.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let project = failing.project.as_deref().unwrap_or("-");
    let (what, repair) = match failing.what {
        HeldWrite::Deployment => (
            format!("the database fails at deployment {deployment} of {project}, and others go on"),
            format!("slipway deployments retry {deployment}"),
        ),
        HeldWrite::Mark(position) => (
            format!(
                "message {position}{} of deployment {deployment} of {project} was sent, and the database fails to mark it",
                if failing.and_more > 0 { format!(" and {} more", failing.and_more) } else { String::new() }
            ),
            format!("slipway outbox resend {position}"),
        ),
    };
    let next = match failing.next_try_in {
        Some(next) => format!("the next one in {}", format_age(next)),
        None => format!("and no more by itself (once the cause is mended, `{repair}`)"),
    };
    let (since, tries) = (format_age(failing.waited), failing.tries);
    format!("{what}: for {since}, {tries} tries so far, {next}: {}", failing.reason)
}

pub(crate) fn failing_json(failing: &FailingWrite) -> Value {
    let position = match failing.what {
        HeldWrite::Deployment => None,
        HeldWrite::Mark(position) => Some(position),
    };
    json!({
        "what": if position.is_some() { "mark" } else { "deployment" },
        "deployment_id": failing.deployment.map(|id| id.to_string()),
        "project": failing.project,
        // Its place in the outbox.
        "message": position,
        "and_more": failing.and_more,
        "reason": failing.reason,
        "tries": failing.tries,
        "waited_s": failing.waited.as_secs_f64(),
        // Null when it isn't tried any more by itself.
        "next_try_in_s": failing.next_try_in.map(|next| next.as_secs_f64()),
    })
}

/// What is pruned, and how far that is.
pub(crate) fn print_chores(chores: &[ChoreProgress], printer: &Printer) {
    let mut table = Table::new(&["PRUNED", "NOW", "LAST TIME", "ENDED"]);
    for chore in chores {
        let now = if chore.under_way { chore.changed.to_string() } else { "-".to_owned() };
        let last = chore.last_changed.map_or_else(|| "-".to_owned(), |changed| changed.to_string());
        let ended = chore.ended_at.map_or_else(|| "-".to_owned(), |at| at.strftime("%F %R").to_string());
        table.row([chore.name.clone(), now, last, ended]);
    }
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

pub(crate) fn chore_json(chore: &ChoreProgress) -> Value {
    json!({
        "name": chore.name,
        "under_way": chore.under_way,
        "changed": chore.changed,
        "last_changed": chore.last_changed,
        "ended_at": chore.ended_at,
        "problem": chore.problem,
    })
}

pub(crate) fn held_json(held: &WaitingMessage) -> Value {
    json!({
        "project": held.project,
        "source": held.source,
        "event_id": held.event_id,
        "reason": held.reason,
        "tries": held.tries,
        "waited_s": held.waited.as_secs_f64(),
        "next_try_in_s": held.next_try_in.as_secs_f64(),
    })
}

/// How many messages wait to be published: beyond some, nobody counts them.
pub(crate) fn format_depth(backlog: &OutboxBacklog) -> String {
    let or_more = if backlog.may_be_more() { " or more" } else { "" };
    format!("{}{or_more}", backlog.depth)
}

pub(crate) fn format_age(span: Duration) -> String {
    format_duration(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn queue_problems(queues: &[QueueState]) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(queue) = queues.iter().find(|queue| queue.name == NOTIFY_QUEUE && queue.consumers == 0) {
        problems.push(format!(
            "nobody consumes queue {NOTIFY_QUEUE} ({}): run `slipway notify`, or delete the queue if nobody is to be told",
            queue.messages
        ));
    }
    for name in [DEPLOYMENTS_QUEUE, DEAD_LETTERS_QUEUE, PARKED_QUEUE] {
        match queues.iter().find(|queue| queue.name == name) {
            None => problems.push(format!("queue {name} doesn't exist: run `slipway topology apply`")),
            Some(queue) if name == DEPLOYMENTS_QUEUE && queue.consumers == 0 => {
                problems.push(format!("nobody consumes queue {name}"));
            }
            Some(queue) if name == PARKED_QUEUE && queue.messages > 0 => {
                problems.push(format!(
                    "queue {name}, which no program reads, isn't empty ({}): no queue was bound for these messages' \
                     routing keys, or no worker survived them as dead letters; see \"Parked messages\" in the runbook",
                    queue.messages
                ));
            }
            Some(_) => {}
        }
    }
    problems
}
