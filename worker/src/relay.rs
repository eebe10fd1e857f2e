//! From the outbox to the broker: one relay among all workers, in order for each deployment, and marked as published
//! only when the broker has confirmed and not returned it. A message may go out twice, with the same id; never not.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use slipway_deploy::retry::Policy;
use slipway_protocol::DeploymentId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::amqp::{self, AmqpError, Broker, Link, LinkState, PublishError, Publisher};
use crate::crash::{self, Step};
use crate::message::Outgoing;
use crate::metrics::Metrics;
use crate::store::{OutboxRow, RelayLease, Sent, Store, StoreError};
use crate::telemetry;

/// Messages that are under way at once.
const PAGE: u32 = 200;
/// How long the relay's lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// How often the outbox is looked at without a wake-up.
const POLL: Duration = Duration::from_secs(1);
/// How often a canary is sent.
pub(crate) const CANARY: Duration = Duration::from_secs(5);
/// How long a returned message rests before it's sent again; nobody has bound a queue for it.
pub(crate) const REST: Policy =
    Policy { initial: Duration::from_secs(1), max: Duration::from_secs(60), multiplier: 2.0, attempts: u32::MAX };

/// Publishes what the outbox holds.
pub struct Relay {
    /// The outbox.
    pub store: Store,
    /// Where it goes.
    pub broker: Broker,
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

/// Messages that were returned, by deployment (or place): when to try again, and how often it was tried.
type Resting = HashMap<Uuid, (Instant, u32)>;

/// What is remembered between generations.
#[derive(Default)]
struct Memory {
    lease: Option<RelayLease>,
    renewed: Option<Instant>,
    resting: Resting,
    canary_sent: Option<(String, Instant)>,
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

    /// One connection's life; `Ok` when all was sent after the end was asked for.
    async fn generation(
        &self,
        link: &Link,
        wakeups: &crate::store::Wakeups,
        memory: &mut Memory,
    ) -> Result<(), Failed> {
        amqp::declare(&link.channel().await?).await?;
        let publisher = Publisher::open(link).await?;
        loop {
            let finishing = self.finish.is_cancelled();
            match link.state() {
                LinkState::Down(_) => return Err(AmqpError::TimedOut { what: "the publishing connection" }.into()),
                LinkState::Blocked(reason) if !finishing => {
                    tracing::warn!(reason, "the broker is in alarm and takes no messages");
                    tokio::time::sleep(POLL).await;
                    continue;
                }
                LinkState::Blocked(_) | LinkState::Up => {}
            }
            self.send_canary(&publisher, memory).await?;
            self.keep_lease(memory).await?;
            let through = match memory.lease {
                Some(lease) => self.pass(&publisher, lease, memory).await?,
                None => true,
            };
            if finishing && through {
                return Ok(());
            }
            tokio::select! {
                () = wakeups.outbox(POLL), if through => {}
                () = std::future::ready(()), if !through => {}
                () = self.finish.cancelled(), if !finishing => {}
                _ = link.down() => {}
            }
        }
    }

    async fn keep_lease(&self, memory: &mut Memory) -> Result<(), StoreError> {
        if memory.lease.is_some() && memory.renewed.is_some_and(|at| at.elapsed() < LEASE / 3) {
            return Ok(());
        }
        let held = memory.lease.take();
        let (asked, taken) = (Instant::now(), self.store.lease_relay(held, LEASE).await?);
        if taken.is_some() != held.is_some() {
            tracing::info!(relay = taken.is_some(), "who relays has changed");
        }
        (memory.lease, memory.renewed) = (taken, Some(asked));
        Ok(())
    }

    /// Sends everything that waits, once; false when there is more. What was returned rests and waits for another time,
    /// perhaps for another relay.
    async fn pass(&self, publisher: &Publisher, lease: RelayLease, memory: &mut Memory) -> Result<bool, Failed> {
        let now = Instant::now();
        let mut held_up: HashSet<Uuid> =
            memory.resting.iter().filter(|(_, (until, _))| *until > now).map(|(key, _)| *key).collect();
        let (mut after, mut through) = (0, false);
        while !through {
            let rows = self.store.waiting_messages(after, PAGE).await?;
            after = rows.last().map_or(after, |row| row.position);
            through = rows.len() < PAGE as usize;
            let due: Vec<OutboxRow> = rows.into_iter().filter(|row| !held_up.contains(&key(row))).collect();
            if !due.is_empty() {
                let span = tracing::info_span!(
                    "send slipway outbox",
                    otel.kind = "producer",
                    messaging.system = "rabbitmq",
                    messaging.operation.type = "send",
                    messaging.operation.name = "send",
                    messaging.batch.message_count = due.len(),
                );
                let traces: HashSet<&str> =
                    due.iter().filter_map(|row| row.message.headers.get("traceparent")).map(String::as_str).collect();
                traces.into_iter().for_each(|traceparent| telemetry::link(&span, traceparent));
                self.send_page(publisher, lease, &due, &mut held_up, &mut memory.resting).instrument(span).await?;
            }
            // Longer than a lease a pass mustn't last unnoticed.
            if now.elapsed() > LEASE / 3 {
                break;
            }
        }
        let backlog = self.store.backlog().await?;
        Metrics::get().backlog(backlog.depth, backlog.oldest);
        Ok(through)
    }

    /// Sends a page pipelined and marks what the broker confirmed, also when the connection breaks in the middle.
    async fn send_page(
        &self,
        publisher: &Publisher,
        lease: RelayLease,
        due: &[OutboxRow],
        held_up: &mut HashSet<Uuid>,
        resting: &mut Resting,
    ) -> Result<(), Failed> {
        let mut broken = None;
        let mut pending = Vec::with_capacity(due.len());
        for row in due {
            match crash::around(Step::Publish, publisher.send(&row.message)).await {
                Ok(confirm) => pending.push((row, confirm)),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        let mut sent = Vec::with_capacity(pending.len());
        for (row, confirm) in pending {
            // After a break the remaining confirms are settled or lost at once; one time-out is enough.
            if matches!(broken, Some(AmqpError::TimedOut { .. })) {
                break;
            }
            let key = key(row);
            match crash::around(Step::Confirm, confirm.wait()).await {
                // What follows a message that didn't go out is sent again after it, so that the order holds.
                Ok(()) if held_up.contains(&key) => {}
                Ok(()) => {
                    resting.remove(&key);
                    sent.push(Sent { position: row.position, routed: true });
                    Metrics::get().published("routed");
                }
                Err(PublishError::Returned { .. }) if !row.must_route => {
                    if !held_up.contains(&key) {
                        sent.push(Sent { position: row.position, routed: false });
                        Metrics::get().published("unrouted");
                    }
                }
                Err(PublishError::Broken(error)) => broken = Some(error),
                Err(error) => {
                    rest(resting, row, key, &error);
                    held_up.insert(key);
                }
            }
        }
        if !sent.is_empty() {
            self.store.mark_published(lease, &sent).await?;
        }
        broken.map_or(Ok(()), |error| Err(error.into()))
    }

    /// A message to the worker itself, to see that what is published arrives.
    async fn send_canary(&self, publisher: &Publisher, memory: &mut Memory) -> Result<(), AmqpError> {
        let Some(queue) = self.canary.borrow().clone() else { return Ok(()) };
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

fn rest(resting: &mut Resting, row: &OutboxRow, key: Uuid, error: &PublishError) {
    let tried = resting.get(&key).map_or(0, |(_, tried)| *tried) + 1;
    let delay = REST.delay(tried).unwrap_or(REST.max);
    resting.insert(key, (Instant::now() + delay, tried));
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

/// What must stay in order: the events of a deployment. A dead letter stands for itself.
fn key(row: &OutboxRow) -> Uuid {
    match row.deployment {
        Some(DeploymentId(id)) if row.must_route && row.message.exchange != slipway_protocol::topology::EVENTS => {
            Uuid::new_v5(&id, b"dead letter")
        }
        Some(DeploymentId(id)) => id,
        None => Uuid::from_u128(u128::from(row.position.unsigned_abs())),
    }
}
