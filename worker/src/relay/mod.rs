//! From the outbox to the broker: one relay among all workers, in order for each deployment, and marked as published
//! only when the broker has confirmed and not returned it. A message may go out twice, with the same id; never not.
//!
//! Of one deployment the next event is sent when the last one is confirmed, so that what the broker refuses is never
//! overtaken; of many deployments many are under way at once. How a page is sent stands in `page`.

mod page;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::try_join_all;
use slipway_deploy::retry::RetryPolicy;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::amqp::{self, AmqpError, BrokerConnection, BrokerEndpoints, ConnectionState, PublishError, Publisher};
use crate::message::Outgoing;
use crate::metrics::Metrics;
use crate::readiness::{Condition, Readiness};
use crate::store::{RelayLease, Store, StoreError, Wakeups};
use crate::trouble::OutageLog;
use page::RestingLines;

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
/// How often it's measured how much waits.
const MEASURE: Duration = Duration::from_secs(5);
/// The longest time without a look at anything else, while much waits.
pub(crate) const PASS: Duration = Duration::from_secs(2);
/// How long a message rests that the broker returned or refused, before it's sent again: nobody has bound a queue for
/// it, a subscriber's queue is full, or a queue's leader is just elected.
pub(crate) const REST: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(30),
    multiplier: 2.0,
    attempts: u32::MAX,
};

/// Publishes what the outbox holds.
pub struct Relay {
    /// The outbox.
    pub store: Store,
    /// Where it goes.
    pub broker: BrokerEndpoints,
    /// Told whether the broker takes messages.
    pub readiness: Readiness,
    /// Where the intake wants canaries.
    pub canary: watch::Receiver<Option<String>>,
    /// Cancelled when nothing more will be written: what is there is published, and the relay ends.
    pub finish: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Broker(#[from] AmqpError),
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// What is remembered between generations.
struct RelayState {
    lease: Option<RelayLease>,
    /// When; `None` calls for a renewal before anything else is sent. As long as the lease's fence is the newest, nobody
    /// else was the relay meanwhile.
    renewed: Option<Instant>,
    resting: RestingLines,
    canary_sent: Option<(String, Instant)>,
    database: OutageLog,
}

impl Relay {
    /// Relays until [`Relay::finish`] is cancelled and the outbox is empty. How much waits is measured all the while,
    /// also when there is no broker, or another worker is the relay.
    pub async fn run(self) {
        tokio::select! {
            () = self.relay() => {}
            never = measure(&self.store) => match never {},
        }
    }

    /// Generation after generation.
    async fn relay(&self) {
        let wakeups = self.store.listen();
        let (resting, database) = (RestingLines::new(), OutageLog::of("relay"));
        let mut memory = RelayState { lease: None, renewed: None, resting, canary_sent: None, database };
        let mut generations = self.broker.generations("publish");
        // A broker that can't be reached at the end isn't waited for: the next relay goes on.
        while let Some(link) = generations.next(&self.finish).await {
            let ended = self.generation(&link, &wakeups, &mut memory).await;
            let reason = ended.as_ref().err().map_or_else(|| "the relay has ended".to_owned(), ToString::to_string);
            self.readiness.unmet(Condition::BrokerPublisher, reason);
            link.close().await;
            match ended {
                Ok(()) => break,
                Err(failed) => generations.give_up("publishing failed and is begun anew", failed),
            }
        }
        if let Some(lease) = memory.lease
            && let Err(error) = self.store.release_relay_lease(lease).await
        {
            tracing::debug!(%error, "the relay's lease expires by itself");
        }
    }

    /// One connection's life; `Ok` when all was sent after the end was asked for, or when it can't be.
    async fn generation(
        &self,
        link: &BrokerConnection,
        wakeups: &Wakeups,
        memory: &mut RelayState,
    ) -> Result<(), AmqpError> {
        amqp::declare(&link.channel().await?).await?;
        let mut publishers = try_join_all((0..CHANNELS).map(|_| Publisher::open(link))).await?;
        tokio::select! {
            ended = self.publish(link, &mut publishers, wakeups, memory) => ended,
            reason = self.watch(link) => Err(AmqpError::Down(reason)),
            () = self.stuck_at_the_end(link) => Ok(()),
        }
    }

    /// Tells whether the broker takes messages until the connection is gone, and gives the reason of that.
    async fn watch(&self, link: &BrokerConnection) -> String {
        loop {
            let state = link.state();
            match &state {
                ConnectionState::Up => self.readiness.met(Condition::BrokerPublisher),
                ConnectionState::Blocked(reason) => {
                    tracing::warn!(reason, "the broker is in alarm and takes no messages: what is to be told waits");
                    let why = format!("the broker is in alarm and takes no messages: {reason}");
                    self.readiness.unmet(Condition::BrokerPublisher, why);
                }
                ConnectionState::Down(reason) => return reason.clone(),
            }
            link.changed(&state).await;
        }
    }

    /// A broker in alarm isn't waited for at the end: the next relay goes on.
    async fn stuck_at_the_end(&self, link: &BrokerConnection) {
        self.finish.cancelled().await;
        loop {
            let state = link.state();
            if matches!(state, ConnectionState::Blocked(_)) {
                return;
            }
            link.changed(&state).await;
        }
    }

    /// Publishes until a channel breaks. A database that fails is waited for: the broker isn't to blame.
    async fn publish(
        &self,
        link: &BrokerConnection,
        publishers: &mut [Publisher],
        wakeups: &Wakeups,
        memory: &mut RelayState,
    ) -> Result<(), AmqpError> {
        loop {
            let finishing = self.finish.is_cancelled();
            for publisher in &mut *publishers {
                publisher.renew(link).await?;
            }
            self.send_canary(publishers, memory).await?;
            let through = match self.pass(publishers, memory).await {
                Ok(through) => {
                    memory.database.note(Ok(()));
                    through
                }
                Err(RelayError::Broker(error)) => return Err(error),
                Err(RelayError::Database(_)) if finishing => return Ok(()),
                Err(RelayError::Database(error @ StoreError::LeaseLost)) => {
                    memory.renewed = None;
                    tracing::warn!(%error, "whoever relays now publishes again what this worker has just published");
                    continue;
                }
                Err(RelayError::Database(error)) => {
                    memory.renewed = None;
                    memory.database.note(Err(error));
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

    async fn keep_lease(&self, memory: &mut RelayState) -> Result<Option<RelayLease>, StoreError> {
        if memory.lease.is_none() || memory.renewed.is_none_or(|at| at.elapsed() >= LEASE / 3) {
            let held = memory.lease;
            let (asked, taken) = (Instant::now(), self.store.take_or_renew_relay_lease(held, LEASE).await?);
            if taken.is_some() != held.is_some() {
                tracing::info!(relay = taken.is_some(), "who relays has changed");
                // What rested may have been published by another one.
                memory.resting.clear();
            }
            (memory.lease, memory.renewed) = (taken, Some(asked));
        }
        Ok(memory.lease)
    }

    /// Sends what waits, if this is the relay; false when there is more. What the broker didn't take rests and waits
    /// for another time, perhaps for another relay.
    async fn pass(&self, publishers: &[Publisher], memory: &mut RelayState) -> Result<bool, RelayError> {
        let Some(lease) = self.keep_lease(memory).await? else { return Ok(true) };
        tokio::select! {
            through = self.send_pages(publishers, lease, &mut memory.resting) => through,
            lost = self.hold(lease) => {
                memory.renewed = None;
                // Messages are under way: their channels can't be used for others.
                Err(AmqpError::Down(format!("left in the middle of a page: {lost}")).into())
            }
        }
    }

    /// Keeps the lease while a page is under way, for as long as an alarm of the broker may last; gives why it's lost.
    async fn hold(&self, lease: RelayLease) -> StoreError {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            match self.store.take_or_renew_relay_lease(Some(lease), LEASE).await {
                Ok(Some(held)) if held == lease => {}
                Ok(_) => return StoreError::LeaseLost,
                Err(error) => return error,
            }
        }
    }

    /// A message to the worker itself, to see that what is published arrives.
    async fn send_canary(&self, publishers: &[Publisher], memory: &mut RelayState) -> Result<(), AmqpError> {
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

/// Measures how much waits, for ever. Without a database the last measure stays.
async fn measure(store: &Store) -> Infallible {
    loop {
        match store.backlog().await {
            Ok(backlog) => Metrics::get().backlog(backlog.depth, backlog.oldest),
            Err(error) => tracing::debug!(%error, "the outbox couldn't be measured"),
        }
        tokio::time::sleep(MEASURE).await;
    }
}
