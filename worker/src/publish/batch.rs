//! Sends a batch of the outbox: the messages of one ordering key one after the other, different keys at the same time.
//! Whether this worker may send at all is decided in `relay`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::delayed::{ConfirmedPart, DelayedKeys};
use crate::amqp::{AmqpError, PublishError, Publisher};
use crate::failpoint::{self, Failpoint};
use crate::store::{BlamedMessage, OrderingKey, OutboxPage, OutboxRow, PublishOutcome, RelayLease, Store, StoreError};
use crate::telemetry::{self, Metrics};

/// Rows, of a message or a few, that are read and marked at once.
const BATCH: u32 = 200;
/// The bodies of a batch, without the last one: a dead letter may be as large as the broker allows, and a whole batch
/// is in memory at once.
const BATCH_BYTES: u32 = 16 * 1024 * 1024;
/// How long batches are sent before the relay looks at anything else, while many messages wait.
pub(crate) const SEND_WINDOW: Duration = Duration::from_secs(2);
/// Why sending ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error(transparent)]
    Broker(#[from] AmqpError),
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// What became of the messages of one ordering key in a batch.
#[derive(Default)]
struct SendOutcome {
    sent: Vec<PublishOutcome>,
    blamed: Vec<BlamedMessage>,
    stopped: Option<Stop>,
}

/// The first message that the broker didn't take.
struct Stop {
    /// Its place in the group.
    at: usize,
    /// Whether one before it was taken.
    progressed: bool,
    confirmed: ConfirmedPart,
    error: PublishError,
}

/// Sends batch after batch for at most [`SEND_WINDOW`]; false when more messages wait.
pub(super) async fn send_batches(
    store: &Store,
    publishers: &[Publisher],
    lease: RelayLease,
    delayed: &mut DelayedKeys,
) -> Result<bool, RelayError> {
    let started_at = Instant::now();
    let mut all_sent = false;
    while !all_sent && started_at.elapsed() < SEND_WINDOW {
        let OutboxPage { rows, more } = store.waiting_messages(&delayed.waiting(), BATCH, BATCH_BYTES).await?;
        all_sent = !more;
        if !rows.is_empty() {
            let span = batch_span(&rows);
            all_sent &= send_batch(store, publishers, lease, rows, delayed).instrument(span).await?;
        }
    }
    Ok(all_sent)
}

/// Sends a batch and marks what the broker confirmed, also when the connection breaks in the middle. A message that was
/// under way when a channel broke is sent alone from then on, so that the next time nobody else is blamed. False when
/// some of the batch is left for the next one.
async fn send_batch(
    store: &Store,
    publishers: &[Publisher],
    lease: RelayLease,
    rows: Vec<OutboxRow>,
    delayed: &mut DelayedKeys,
) -> Result<bool, RelayError> {
    let mut groups: BTreeMap<i64, Vec<OutboxRow>> = BTreeMap::new();
    let mut first: HashMap<OrderingKey, i64> = HashMap::new();
    for row in rows {
        let position = *first.entry(row.ordering_key).or_insert(row.position);
        groups.entry(position).or_default().push(row);
    }
    let (mut alone, mut complete) = (Vec::new(), true);
    for group in groups.values_mut() {
        if let Some(suspect) = group.iter().position(|row| row.breaks > 0) {
            let mut rest = group.split_off(suspect);
            let with_it = rest.chunk_by(are_of_one_place).next().map_or(0, <[OutboxRow]>::len);
            complete &= suspect == 0 && rest.len() == with_it;
            if suspect == 0 {
                rest.truncate(with_it);
                alone.push(rest);
            }
        }
    }
    let mut under_way: FuturesUnordered<_> = groups
        .values()
        .filter(|group| !group.is_empty())
        .zip(publishers.iter().cycle())
        .map(|(group, publisher)| {
            let confirmed = delayed.confirmed_of(group);
            async move { (group, send_in_order(publisher, group, confirmed).await) }
        })
        .collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = under_way.next().await {
        outcomes.push(outcome);
    }
    record_outcomes(store, lease, delayed, outcomes).await?;
    for group in &alone {
        if let Some(publisher) = publishers.first() {
            let outcome = send_in_order(publisher, group, delayed.confirmed_of(group)).await;
            record_outcomes(store, lease, delayed, vec![(group, outcome)]).await?;
        }
    }
    Ok(complete)
}

/// Writes down what was sent and what is to blame, and delays what the broker didn't take.
async fn record_outcomes(
    store: &Store,
    lease: RelayLease,
    delayed: &mut DelayedKeys,
    outcomes: Vec<(&Vec<OutboxRow>, SendOutcome)>,
) -> Result<(), RelayError> {
    let (mut sent, mut blamed, mut broken) = (Vec::new(), Vec::new(), None);
    let rows: Vec<&OutboxRow> = outcomes.iter().flat_map(|(group, _)| group.iter()).collect();
    for (group, mut outcome) in outcomes {
        sent.append(&mut outcome.sent);
        blamed.append(&mut outcome.blamed);
        match outcome.stopped {
            Some(Stop { error: PublishError::Broken(error), .. }) => broken = broken.or(Some(error)),
            Some(stop) => {
                if let Some(row) = group.get(stop.at) {
                    if stop.progressed {
                        delayed.forget(row.ordering_key);
                    }
                    delayed.delay(row, stop.confirmed, &stop.error);
                }
            }
            None => {
                if let Some(row) = group.first() {
                    delayed.forget(row.ordering_key);
                }
            }
        }
    }
    if !sent.is_empty() {
        store.mark_published(lease, &sent).await?;
    }
    if !blamed.is_empty() {
        let aside = store.blame_messages(lease, &blamed).await?;
        for (row, blame) in
            rows.iter().filter_map(|row| Some((row, blamed.iter().find(|b| b.position == row.position)?)))
        {
            tell_blamed(row, &blame.reason, aside.contains(&row.position));
        }
    }
    broken.map_or(Ok(()), |error| Err(error.into()))
}

/// Sends the messages of one ordering key, each when the one before is confirmed, up to the first that the broker
/// doesn't take. One that can't be sent at all is left out. A place in the outbox is sent once all of its messages are; those
/// that are `confirmed` of it aren't sent again.
async fn send_in_order(publisher: &Publisher, group: &[OutboxRow], confirmed: ConfirmedPart) -> SendOutcome {
    let mut outcome = SendOutcome::default();
    let (mut at, mut progressed) = (0, false);
    for place in group.chunk_by(are_of_one_place) {
        let position = place.first().map_or(0, |row| row.position);
        let mut done = if position == confirmed.position { confirmed } else { ConfirmedPart::default() };
        done.position = position;
        at += done.count;
        for row in place.iter().skip(done.count) {
            let blame = |reason: String, hopeless| BlamedMessage { position, reason, hopeless };
            match send(publisher, row).await {
                Ok(()) => {
                    done.count += 1;
                    Metrics::get().published("routed");
                }
                Err(PublishError::Returned { .. }) if !row.must_route => {
                    done.count += 1;
                    done.unrouted = true;
                    Metrics::get().published("unrouted");
                }
                Err(PublishError::Unfit(reason)) => outcome.blamed.push(blame(reason, true)),
                Err(error) => {
                    if let PublishError::Broken(broken) = &error
                        && broken.blames_message()
                    {
                        outcome.blamed.push(blame(broken.with_sources(), false));
                    }
                    outcome.stopped = Some(Stop { at, progressed, confirmed: done, error });
                    return outcome;
                }
            }
            progressed = true;
            at += 1;
        }
        if done.count == place.len() {
            outcome.sent.push(PublishOutcome { position, routed: !done.unrouted });
        }
    }
    outcome
}

fn are_of_one_place(one: &OutboxRow, next: &OutboxRow) -> bool {
    one.position == next.position
}

async fn send(publisher: &Publisher, row: &OutboxRow) -> Result<(), PublishError> {
    if let Some(reason) = &row.unreadable {
        return Err(PublishError::Unfit(reason.clone()));
    }
    let confirm = failpoint::around(Failpoint::Publish, publisher.send(&row.message)).await?;
    failpoint::around(Failpoint::Confirm, confirm.wait()).await
}

fn batch_span(rows: &[OutboxRow]) -> tracing::Span {
    let span = tracing::info_span!(
        "send slipway outbox",
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "send",
        messaging.operation.name = "send",
        messaging.batch.message_count = rows.len(),
    );
    let traces: HashSet<&str> =
        rows.iter().filter_map(|row| row.message.headers.get("traceparent")).map(String::as_str).collect();
    traces.into_iter().for_each(|traceparent| telemetry::link(&span, traceparent));
    span
}

/// An operator has to know of a message that is aside; one that is tried again is worth a line.
fn tell_blamed(row: &OutboxRow, reason: &str, aside: bool) {
    let deployment = row.deployment.map(|id| id.to_string());
    let key = &row.message.routing_key;
    if aside {
        Metrics::get().published("set_aside");
        tracing::error!(
            deployment.id = deployment,
            messaging.rabbitmq.destination.routing_key = key,
            "message {} is put aside: {reason}; `slipway outbox list` shows it",
            row.position
        );
    } else {
        tracing::warn!(
            deployment.id = deployment,
            messaging.rabbitmq.destination.routing_key = key,
            "message {} may have broken its channel and is sent alone from now on: {reason}",
            row.position
        );
    }
}
