//! From the outbox to the broker: one relay among all workers, in order for each deployment, and marked as published
//! only when the broker has confirmed and not returned it. A message may go out twice, with the same id; never not.
//!
//! Of one deployment the next event is sent when the last one is confirmed, so that what the broker refuses is never
//! overtaken; of many deployments many are under way at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use slipway_deploy::retry::Policy;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::amqp::{self, AmqpError, Broker, Link, LinkState, PublishError, Publisher};
use crate::crash::{self, Step};
use crate::message::Outgoing;
use crate::metrics::Metrics;
use crate::readiness::{Condition, Readiness};
use crate::store::{Line, OutboxRow, Page, RelayLease, Sent, Store, StoreError};
use crate::telemetry;

/// Messages that are read and marked at once.
const PAGE: u32 = 200;
/// The bodies of a page, but for the last one: a dead letter may have as much as the broker takes, and all that a page
/// holds is in memory at once.
const PAGE_BYTES: u32 = 16 * 1024 * 1024;
/// Channels, each with one message under way.
const CHANNELS: usize = 16;
/// How long the relay's lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// How often the outbox is looked at without a wake-up.
const POLL: Duration = Duration::from_secs(1);
/// How often a canary is sent: three before a worker counts as cut off.
pub(crate) const CANARY: Duration = Duration::from_secs(3);
/// The longest time without a look at anything else, while much waits.
pub(crate) const PASS: Duration = Duration::from_secs(2);
/// How long a message rests that the broker returned or refused, before it's sent again: nobody has bound a queue for
/// it, a subscriber's queue is full, or a queue's leader is just elected.
pub(crate) const REST: Policy =
    Policy { initial: Duration::from_millis(500), max: Duration::from_secs(30), multiplier: 2.0, attempts: u32::MAX };

/// Publishes what the outbox holds.
pub struct Relay {
    /// The outbox.
    pub store: Store,
    /// Where it goes.
    pub broker: Broker,
    /// Told whether the broker takes messages.
    pub readiness: Readiness,
    /// Where the intake wants canaries.
    pub canary: watch::Receiver<Option<String>>,
    /// Cancelled when nothing more will be written: what is there is published, and the relay ends.
    pub finish: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Broker(#[from] AmqpError),
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// Lines that the broker took no message of: when to try again, and how often it was tried.
type Resting = HashMap<Line, (Instant, u32)>;

/// What is remembered between generations.
#[derive(Default)]
struct Memory {
    lease: Option<RelayLease>,
    renewed: Option<Instant>,
    resting: Resting,
    canary_sent: Option<(String, Instant)>,
}

/// What became of a line's messages in a page.
#[derive(Default)]
struct Went {
    sent: Vec<Sent>,
    stopped: Option<PublishError>,
}

impl Relay {
    /// Relays, generation after generation, until [`Relay::finish`] is cancelled and the outbox is empty.
    pub async fn run(self) {
        let wakeups = self.store.listen();
        let mut memory = Memory::default();
        let mut generations = self.broker.generations("publish");
        // A broker that can't be reached at the end isn't waited for: the next relay goes on.
        while let Some(link) = generations.next(&self.finish).await {
            let ended = self.generation(&link, &wakeups, &mut memory).await;
            let reason = ended.as_ref().err().map_or_else(|| "the relay has ended".to_owned(), ToString::to_string);
            self.readiness.unmet(Condition::BrokerPublisher, reason);
            link.close().await;
            match ended {
                Ok(()) => break,
                Err(failed) => {
                    let error = format!("{:#}", anyhow::Error::from(failed));
                    tracing::warn!(error, "publishing failed and is begun anew");
                }
            }
        }
        if let Some(lease) = memory.lease
            && let Err(error) = self.store.release_relay(lease).await
        {
            tracing::debug!(%error, "the relay's lease expires by itself");
        }
    }

    /// One connection's life; `Ok` when all was sent after the end was asked for, or when it can't be.
    async fn generation(
        &self,
        link: &Link,
        wakeups: &crate::store::Wakeups,
        memory: &mut Memory,
    ) -> Result<(), AmqpError> {
        amqp::declare(&link.channel().await?).await?;
        let publishers = try_join_all((0..CHANNELS).map(|_| Publisher::open(link))).await?;
        tokio::select! {
            ended = self.publish(&publishers, wakeups, memory) => ended,
            reason = self.watch(link) => Err(AmqpError::Down(reason)),
            () = self.stuck_at_the_end(link) => Ok(()),
        }
    }

    /// Tells whether the broker takes messages until the connection is gone, and gives the reason of that.
    async fn watch(&self, link: &Link) -> String {
        loop {
            let state = link.state();
            match &state {
                LinkState::Up => self.readiness.met(Condition::BrokerPublisher),
                LinkState::Blocked(reason) => {
                    tracing::warn!(reason, "the broker is in alarm and takes no messages: what is to be told waits");
                    let why = format!("the broker is in alarm and takes no messages: {reason}");
                    self.readiness.unmet(Condition::BrokerPublisher, why);
                }
                LinkState::Down(reason) => return reason.clone(),
            }
            link.changed(&state).await;
        }
    }

    /// A broker in alarm isn't waited for at the end: the next relay goes on.
    async fn stuck_at_the_end(&self, link: &Link) {
        self.finish.cancelled().await;
        loop {
            let state = link.state();
            if matches!(state, LinkState::Blocked(_)) {
                return;
            }
            link.changed(&state).await;
        }
    }

    /// Publishes until a channel breaks. A database that fails is waited for: the broker isn't to blame.
    async fn publish(
        &self,
        publishers: &[Publisher],
        wakeups: &crate::store::Wakeups,
        memory: &mut Memory,
    ) -> Result<(), AmqpError> {
        loop {
            let finishing = self.finish.is_cancelled();
            self.send_canary(publishers, memory).await?;
            let through = match self.pass(publishers, memory).await {
                Ok(through) => through,
                Err(Failed::Broker(error)) => return Err(error),
                Err(Failed::Database(_)) if finishing => return Ok(()),
                Err(Failed::Database(error)) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!(error, "the outbox can't be read or marked; it's tried again");
                    memory.lease = None;
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            };
            if finishing && through {
                return Ok(());
            }
            tokio::select! {
                () = wakeups.outbox(POLL), if through => {}
                () = std::future::ready(()), if !through => {}
                () = self.finish.cancelled(), if !finishing => {}
            }
        }
    }

    async fn keep_lease(&self, memory: &mut Memory) -> Result<Option<RelayLease>, StoreError> {
        if memory.lease.is_none() || memory.renewed.is_none_or(|at| at.elapsed() >= LEASE / 3) {
            let held = memory.lease.take();
            let (asked, taken) = (Instant::now(), self.store.lease_relay(held, LEASE).await?);
            if taken.is_some() != held.is_some() {
                tracing::info!(relay = taken.is_some(), "who relays has changed");
                // What rested may have been published by another one.
                memory.resting.clear();
            }
            (memory.lease, memory.renewed) = (taken, Some(asked));
        }
        Ok(memory.lease)
    }

    /// Sends what waits, if this is the relay; false when there is more. What the broker didn't take rests and waits for
    /// another time, perhaps for another relay.
    async fn pass(&self, publishers: &[Publisher], memory: &mut Memory) -> Result<bool, Failed> {
        let Some(lease) = self.keep_lease(memory).await? else { return Ok(true) };
        tokio::select! {
            through = self.send_pages(publishers, lease, &mut memory.resting) => through,
            lost = self.hold(lease) => {
                memory.lease = None;
                // Messages are under way: their channels can't be used for others.
                Err(AmqpError::Down(format!("left in the middle of a page: {lost}")).into())
            }
        }
    }

    /// Keeps the lease while a page is under way, for as long as an alarm of the broker may last; gives why it's lost.
    async fn hold(&self, lease: RelayLease) -> StoreError {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            match self.store.lease_relay(Some(lease), LEASE).await {
                Ok(Some(held)) if held == lease => {}
                Ok(_) => return StoreError::LeaseLost,
                Err(error) => return error,
            }
        }
    }

    async fn send_pages(
        &self,
        publishers: &[Publisher],
        lease: RelayLease,
        resting: &mut Resting,
    ) -> Result<bool, Failed> {
        let begun = Instant::now();
        let mut through = false;
        while !through && begun.elapsed() < PASS {
            let now = Instant::now();
            let held: Vec<Line> =
                resting.iter().filter(|(_, (until, _))| *until > now).map(|(line, _)| *line).collect();
            let Page { rows, more } = self.store.waiting_messages(&held, PAGE, PAGE_BYTES).await?;
            through = !more;
            if !rows.is_empty() {
                let span = span(&rows);
                self.send_page(publishers, lease, rows, resting).instrument(span).await?;
            }
        }
        let backlog = self.store.backlog().await?;
        Metrics::get().backlog(backlog.depth, backlog.oldest);
        Ok(through)
    }

    /// Sends a page, all its lines at once, and marks what the broker confirmed, also when the connection breaks in the
    /// middle.
    async fn send_page(
        &self,
        publishers: &[Publisher],
        lease: RelayLease,
        rows: Vec<OutboxRow>,
        resting: &mut Resting,
    ) -> Result<(), Failed> {
        let mut lines: BTreeMap<i64, Vec<OutboxRow>> = BTreeMap::new();
        let mut first: HashMap<Line, i64> = HashMap::new();
        for row in rows {
            let position = *first.entry(row.line).or_insert(row.position);
            lines.entry(position).or_default().push(row);
        }
        let mut under_way: FuturesUnordered<_> = lines
            .values()
            .zip(publishers.iter().cycle())
            .map(|(line, publisher)| async move { (line, send_line(publisher, line).await) })
            .collect();
        let (mut sent, mut broken) = (Vec::new(), None);
        while let Some((line, went)) = under_way.next().await {
            sent.extend(&went.sent);
            match (went.stopped, line.get(went.sent.len())) {
                (Some(PublishError::Broken(error)), _) => broken = broken.or(Some(error)),
                (Some(error), Some(row)) => {
                    if !went.sent.is_empty() {
                        resting.remove(&row.line);
                    }
                    rest(resting, row, &error);
                }
                _ => {
                    line.first().map(|row| resting.remove(&row.line));
                }
            }
        }
        if !sent.is_empty() {
            self.store.mark_published(lease, &sent).await?;
        }
        broken.map_or(Ok(()), |error| Err(error.into()))
    }

    /// A message to the worker itself, to see that what is published arrives.
    async fn send_canary(&self, publishers: &[Publisher], memory: &mut Memory) -> Result<(), AmqpError> {
        let (Some(queue), Some(publisher)) = (self.canary.borrow().clone(), publishers.first()) else { return Ok(()) };
        if memory.canary_sent.as_ref().is_some_and(|(to, at)| *to == queue && at.elapsed() < CANARY) {
            return Ok(());
        }
        memory.canary_sent = Some((queue.clone(), Instant::now()));
        let message = Outgoing {
            routing_key: queue,
            message_id: Uuid::new_v4().to_string(),
            event_type: "slipway.canary".to_owned(),
            ..Outgoing::default()
        };
        match publisher.publish(&message).await {
            Err(PublishError::Broken(error)) => Err(error),
            // The consumer's queue may just be gone with its connection.
            _ => Ok(()),
        }
    }
}

/// Sends the messages of one line, each when the one before is confirmed, up to the first that the broker doesn't take.
async fn send_line(publisher: &Publisher, line: &[OutboxRow]) -> Went {
    let mut went = Went::default();
    for row in line {
        match send(publisher, row).await {
            Ok(()) => {
                went.sent.push(Sent { position: row.position, routed: true });
                Metrics::get().published("routed");
            }
            Err(PublishError::Returned { .. }) if !row.must_route => {
                went.sent.push(Sent { position: row.position, routed: false });
                Metrics::get().published("unrouted");
            }
            Err(error) => {
                went.stopped = Some(error);
                break;
            }
        }
    }
    went
}

async fn send(publisher: &Publisher, row: &OutboxRow) -> Result<(), PublishError> {
    let confirm = crash::around(Step::Publish, publisher.send(&row.message)).await?;
    crash::around(Step::Confirm, confirm.wait()).await
}

fn span(rows: &[OutboxRow]) -> tracing::Span {
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

fn rest(resting: &mut Resting, row: &OutboxRow, error: &PublishError) {
    let tried = resting.get(&row.line).map_or(0, |(_, tried)| *tried) + 1;
    let delay = REST.delay(tried).unwrap_or(REST.max);
    resting.insert(row.line, (Instant::now() + delay, tried));
    Metrics::get().published(if matches!(error, PublishError::Returned { .. }) { "returned" } else { "failed" });
    let deployment = row.deployment.map(|id| id.to_string());
    tracing::warn!(
        deployment.id = deployment,
        messaging.destination.name = row.message.exchange,
        messaging.rabbitmq.destination.routing_key = row.message.routing_key,
        retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        "not published: {error}"
    );
}
