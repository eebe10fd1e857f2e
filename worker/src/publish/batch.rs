//! Sends messages of the outbox: those of one ordering key one after the other. What is sent when is decided in `flow`, and
//! whether this worker may send at all in `relay`.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::delayed::{ConfirmedPart, DelayedKeys};
use super::marks::{UnmarkableKeys, mark_each, outcomes};
use super::wanted_page::WantedPage;
use crate::amqp::{AmqpError, PublishError, Publisher};
use crate::failpoint::{self, Failpoint};
use crate::store::{BlamedMessage, OrderingKey, OutboxPage, OutboxRow, PublishOutcome, RelayLease, Store, StoreError};
use crate::telemetry::{self, Metrics};

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
pub(super) struct SendOutcome {
    sent: Vec<PublishOutcome>,
    blamed: Vec<BlamedMessage>,
    stopped: Option<Stop>,
}

impl SendOutcome {
    /// What comes of the broker's refusing the message at this place, after those at these positions.
    #[cfg(test)]
    pub(super) fn refused_at(at: usize, sent: &[i64]) -> Self {
        let sent = sent.iter().map(|position| PublishOutcome { position: *position, routed: true }).collect();
        let stop = Stop { at, progressed: at > 0, confirmed: ConfirmedPart::default(), error: PublishError::Nacked };
        Self { sent, stopped: Some(stop), ..Self::default() }
    }

    /// The places in the outbox that are done with: sent, or to blame.
    pub(super) fn positions(&self) -> impl Iterator<Item = i64> {
        self.sent.iter().map(|sent| sent.position).chain(self.blamed.iter().map(|blamed| blamed.position))
    }

    /// How many of its `rows` the broker took, or can't take, from the first on.
    pub(super) fn taken(&self, rows: &[OutboxRow]) -> usize {
        self.stopped.as_ref().map_or(rows.len(), |stop| stop.at)
    }
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

/// The messages of one ordering key, and what became of them.
pub(super) type Ended = (Vec<OutboxRow>, SendOutcome);

/// The messages of each ordering key, those with the first ones first.
pub(super) fn by_key(rows: Vec<OutboxRow>) -> Vec<(OrderingKey, Vec<OutboxRow>)> {
    let mut groups: Vec<(OrderingKey, Vec<OutboxRow>)> = Vec::new();
    let mut places: HashMap<OrderingKey, usize> = HashMap::new();
    for row in rows {
        let place = *places.entry(row.ordering_key).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, group)) => group.push(row),
            None => groups.push((row.ordering_key, vec![row])),
        }
    }
    groups
}

/// Sends what is fit for it of a page with messages that were under way when a channel broke: each of these alone, so that
/// nobody else is blamed when it breaks another one, and before each what comes before it. The rest is read again.
pub(super) async fn send_alone(
    store: &Store,
    publishers: &[Publisher],
    lease: RelayLease,
    rows: Vec<OutboxRow>,
    delayed: &mut DelayedKeys,
    unmarkable: &UnmarkableKeys,
) -> Result<(), RelayError> {
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for (_, mut group) in by_key(rows) {
        match group.iter().position(|row| row.breaks > 0) {
            Some(0) => {
                let of_one_place = group.chunk_by(are_of_one_place).next().map_or(0, <[OutboxRow]>::len);
                group.truncate(of_one_place);
                alone.push(group);
            }
            suspect => {
                group.truncate(suspect.unwrap_or(usize::MAX));
                together.push(group);
            }
        }
    }
    let sends = together.into_iter().zip(publishers.iter().cycle()).map(|(group, publisher)| {
        let confirmed = delayed.confirmed_of(&group);
        send_in_order(publisher, group, confirmed)
    });
    let ended = sends.collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await;
    settle(store, lease, delayed, ended, unmarkable).await?;
    for group in alone {
        if let Some(publisher) = publishers.first() {
            let confirmed = delayed.confirmed_of(&group);
            let ended = send_in_order(publisher, group, confirmed).await;
            settle(store, lease, delayed, vec![ended], unmarkable).await?;
        }
    }
    Ok(())
}

/// Notes and writes down what became of messages.
async fn settle(
    store: &Store,
    lease: RelayLease,
    delayed: &mut DelayedKeys,
    mut ended: Vec<Ended>,
    unmarkable: &UnmarkableKeys,
) -> Result<(), RelayError> {
    let broken: Vec<AmqpError> = ended.iter_mut().filter_map(|ended| note(ended, delayed)).collect();
    let recorded = record(store, lease, ended, None, unmarkable).await;
    // A broken channel isn't used again, whatever else has failed.
    match broken.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(recorded?.map(drop)?),
    }
}

/// Delays what the broker didn't take; gives the error that broke the channel, if one did.
pub(super) fn note((rows, outcome): &mut Ended, delayed: &mut DelayedKeys) -> Option<AmqpError> {
    match outcome.stopped.take() {
        Some(Stop { error: PublishError::Broken(error), .. }) => return Some(error),
        Some(stop) => {
            if let Some(row) = rows.get(stop.at) {
                if stop.progressed {
                    delayed.forget(row.ordering_key);
                }
                delayed.delay(row, stop.confirmed, &stop.error);
            }
        }
        None => {
            if let Some(row) = rows.first() {
                delayed.forget(row.ordering_key);
            }
        }
    }
    None
}

/// Writes down what was sent and what is to blame, and reads a page with it where one is asked for. What was read, or why it
/// couldn't be, is told once all else is written.
pub(super) async fn record(
    store: &Store,
    lease: RelayLease,
    ended: Vec<Ended>,
    wanted: Option<&WantedPage>,
    unmarkable: &UnmarkableKeys,
) -> Result<Result<OutboxPage, StoreError>, StoreError> {
    let (mut rows, mut sent, mut blamed) = (Vec::new(), Vec::new(), Vec::new());
    for (group, mut outcome) in ended {
        if let Some(key) = group.first().map(|row| row.ordering_key) {
            sent.extend(outcome.sent.into_iter().map(|sent| (key, sent)));
        }
        blamed.append(&mut outcome.blamed);
        rows.extend(group);
    }
    let sent = unmarkable.hold_theirs(store, sent).await?;
    let page = match wanted {
        Some(wanted) => wanted.read(store, lease, &outcomes(&sent)).await,
        None if sent.is_empty() => Ok(OutboxPage::default()),
        None => store.mark_published(lease, &outcomes(&sent)).await.map(|()| OutboxPage::default()),
    };
    // What can't be read or marked has nothing else sent again.
    if page.is_err() && !sent.is_empty() {
        mark_each(store, lease, sent, unmarkable).await?;
    }
    let page = if wanted.is_some() { page } else { Ok(OutboxPage::default()) };
    if !blamed.is_empty() {
        let aside = store.blame_messages(lease, &blamed).await?;
        for (row, blame) in
            rows.iter().filter_map(|row| Some((row, blamed.iter().find(|b| b.position == row.position)?)))
        {
            tell_blamed(row, &blame.reason, aside.contains(&row.position));
        }
    }
    Ok(page)
}

/// Sends the messages of one ordering key, each when the one before is confirmed, up to the first that the broker
/// doesn't take. One that can't be sent at all is left out. A place in the outbox is sent once all of its messages are; those
/// that are `confirmed` of it aren't sent again.
pub(super) async fn send_in_order(publisher: &Publisher, group: Vec<OutboxRow>, confirmed: ConfirmedPart) -> Ended {
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
                    return (group, outcome);
                }
            }
            progressed = true;
            at += 1;
        }
        if done.count == place.len() {
            outcome.sent.push(PublishOutcome { position, routed: !done.unrouted });
        }
    }
    (group, outcome)
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

pub(super) fn batch_span(rows: &[OutboxRow]) -> tracing::Span {
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
