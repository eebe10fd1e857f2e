//! From the outbox to the broker: one relay among all workers, which holds a lease. Messages of a deployment go out in
//! order, and are marked as published only when the broker has confirmed them and not returned them. A message may go
//! out twice, with the same id, but is never lost.
//!
//! The next event of a deployment is sent when the last one is confirmed, so that no event overtakes one that the
//! broker refused. How messages are sent is in `batch`.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::{DelayedKeys, RelayError, send_batches};
use crate::amqp::{self, AmqpError, BrokerConnection, BrokerEndpoints, ConnectionState, PublishError, Publisher};
use crate::message::Outgoing;
use crate::process::{Condition, Readiness};
use crate::store::{RelayLease, Store, StoreError, Wakeups};
use crate::telemetry::{Metrics, OutageLog};

/// Channels, each with one message under way.
const CHANNELS: usize = 16;
/// How long the relay's lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// How often the outbox is looked at without a wake-up.
const POLL: Duration = Duration::from_secs(1);
/// How often a canary is sent. A worker whose canaries don't come back becomes unready after three of them.
pub(crate) const CANARY: Duration = Duration::from_secs(3);
/// How often the number and age of waiting messages are measured.
const MEASURE: Duration = Duration::from_secs(5);

/// How long a broken connection is kept until what was under way has failed.
pub(crate) const BLAME_TIME: Duration = Duration::from_secs(2);

/// Publishes what the outbox holds.
pub struct Relay {
    /// Holds the outbox and the relay's lease.
    pub store: Store,
    /// The broker that its messages are published to.
    pub broker: BrokerEndpoints,
    /// Where it's shown whether the broker takes messages.
    pub readiness: Readiness,
    /// The queue that canaries go to; `None` while there is none.
    pub canary: watch::Receiver<Option<String>>,
    /// Cancelled when nothing more will be written: what is there is published, and the relay ends.
    pub finish: CancellationToken,
}

/// What is remembered between generations.
struct RelayState {
    lease: Option<RelayLease>,
    /// When the lease was renewed last; `None`: it must be renewed before anything else is sent. As long as the lease's
    /// fence is the newest, nobody else was the relay meanwhile.
    renewed_at: Option<Instant>,
    delayed: DelayedKeys,
    canary_sent: Option<(String, Instant)>,
    outages: OutageLog,
}

impl Relay {
    /// Relays until [`Relay::finish`] is cancelled and the outbox is empty. How much waits is measured all the while,
    /// also when there is no broker, or another worker is the relay.
    pub async fn run(self) {
        tokio::select! {
            () = self.publish_until_finished() => {}
            never = measure_outbox(&self.store) => match never {},
        }
    }

    /// Publishes over one connection after the other.
    async fn publish_until_finished(&self) {
        let wakeups = self.store.listen();
        let (delayed, outages) = (DelayedKeys::new(), OutageLog::new("relay"));
        let mut state = RelayState { lease: None, renewed_at: None, delayed, canary_sent: None, outages };
        let mut generations = self.broker.generations("publish");
        // A broker that can't be reached at the end isn't waited for: the next relay goes on.
        while let Some(link) = generations.next(&self.finish).await {
            let ended = self.publish_over(&link, &wakeups, &mut state).await;
            let reason = ended.as_ref().err().map_or_else(|| "the relay has ended".to_owned(), ToString::to_string);
            self.readiness.set_unmet(Condition::BrokerPublisher, reason);
            link.close().await;
            match ended {
                Ok(()) => break,
                Err(failed) => generations.give_up("publishing failed and starts again over a new connection", failed),
            }
        }
        if let Some(lease) = state.lease
            && let Err(error) = self.store.release_relay_lease(lease).await
        {
            tracing::debug!(%error, "the relay's lease couldn't be released; it will expire");
        }
    }

    /// Publishes over one connection; `Ok` when all was sent after the end was asked for, or when it can't be.
    async fn publish_over(
        &self,
        link: &BrokerConnection,
        wakeups: &Wakeups,
        state: &mut RelayState,
    ) -> Result<(), AmqpError> {
        amqp::declare(&link.channel().await?).await?;
        let mut publishers = try_join_all((0..CHANNELS).map(|_| Publisher::open(link))).await?;
        let publishing = self.publish(link, &mut publishers, wakeups, state);
        tokio::pin!(publishing);
        tokio::select! {
            ended = &mut publishing => ended,
            reason = self.watch_connection(link) => {
                // What was under way fails now, too; which message the broker blames has to be written down.
                match tokio::time::timeout(BLAME_TIME, publishing).await {
                    Ok(Err(error)) => Err(error),
                    _ => Err(AmqpError::Down(reason)),
                }
            }
            () = self.stuck_at_the_end(link) => Ok(()),
        }
    }

    /// Shows whether the broker takes messages, until the connection is gone; gives the reason of that.
    async fn watch_connection(&self, link: &BrokerConnection) -> String {
        loop {
            let connection = link.state();
            match &connection {
                ConnectionState::Up => self.readiness.set_met(Condition::BrokerPublisher),
                ConnectionState::Blocked(reason) => {
                    tracing::warn!(reason, "the broker is in alarm and takes no messages: they wait in the outbox");
                    let why = format!("the broker is in alarm and takes no messages: {reason}");
                    self.readiness.set_unmet(Condition::BrokerPublisher, why);
                }
                ConnectionState::Down(reason) => return reason.clone(),
            }
            link.changed(&connection).await;
        }
    }

    /// A broker in alarm isn't waited for at the end: the next relay goes on.
    async fn stuck_at_the_end(&self, link: &BrokerConnection) {
        self.finish.cancelled().await;
        loop {
            let connection = link.state();
            if matches!(connection, ConnectionState::Blocked(_)) {
                return;
            }
            link.changed(&connection).await;
        }
    }

    /// Publishes until a channel breaks. A database that fails is waited for, with the connection to the broker kept.
    async fn publish(
        &self,
        link: &BrokerConnection,
        publishers: &mut [Publisher],
        wakeups: &Wakeups,
        state: &mut RelayState,
    ) -> Result<(), AmqpError> {
        loop {
            let finishing = self.finish.is_cancelled();
            for publisher in &mut *publishers {
                publisher.renew(link).await?;
            }
            self.send_canary(publishers, state).await?;
            let all_sent = match self.send_waiting(publishers, state).await {
                Ok(all_sent) => {
                    state.outages.record(Ok::<_, StoreError>(()));
                    all_sent
                }
                Err(RelayError::Broker(error)) => return Err(error),
                Err(RelayError::Database(_)) if finishing => return Ok(()),
                Err(RelayError::Database(error @ StoreError::LeaseLost)) => {
                    state.renewed_at = None;
                    tracing::warn!(%error, "the new relay publishes again what this worker couldn't mark as published");
                    continue;
                }
                Err(RelayError::Database(error)) => {
                    state.renewed_at = None;
                    state.outages.record(Err(error));
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            };
            if finishing && all_sent {
                return Ok(());
            }
            tokio::select! {
                () = wakeups.outbox(POLL), if all_sent => {}
                () = std::future::ready(()), if !all_sent => {}
                () = self.finish.cancelled(), if !finishing => {}
            }
        }
    }

    async fn renew_lease_if_due(&self, state: &mut RelayState) -> Result<Option<RelayLease>, StoreError> {
        if state.lease.is_none() || state.renewed_at.is_none_or(|at| at.elapsed() >= LEASE / 3) {
            let held = state.lease;
            let (asked_at, taken) = (Instant::now(), self.store.take_or_renew_relay_lease(held, LEASE).await?);
            if taken.is_some() != held.is_some() {
                tracing::info!(relay = taken.is_some(), "this worker has become the relay, or has stopped being it");
                // Another relay may have published the delayed messages.
                state.delayed.clear();
            }
            (state.lease, state.renewed_at) = (taken, Some(asked_at));
        }
        Ok(state.lease)
    }

    /// Sends what waits, if this is the relay; false when there is more. What the broker didn't take is delayed, and
    /// may then be sent by another relay.
    async fn send_waiting(&self, publishers: &[Publisher], state: &mut RelayState) -> Result<bool, RelayError> {
        let Some(lease) = self.renew_lease_if_due(state).await? else { return Ok(true) };
        tokio::select! {
            all_sent = send_batches(&self.store, publishers, lease, &mut state.delayed) => all_sent,
            lost = self.keep_lease(lease) => {
                state.renewed_at = None;
                // Messages are under way: their channels can't be used for others.
                Err(AmqpError::Down(format!("left in the middle of a batch: {lost}")).into())
            }
        }
    }

    /// Renews the lease while a batch is under way, for as long as an alarm of the broker may last; gives why it's
    /// lost.
    async fn keep_lease(&self, lease: RelayLease) -> StoreError {
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
    async fn send_canary(&self, publishers: &[Publisher], state: &mut RelayState) -> Result<(), AmqpError> {
        let (Some(queue), Some(publisher)) = (self.canary.borrow().clone(), publishers.first()) else { return Ok(()) };
        if state.canary_sent.as_ref().is_some_and(|(to, at)| *to == queue && at.elapsed() < CANARY) {
            return Ok(());
        }
        state.canary_sent = Some((queue.clone(), Instant::now()));
        let message = Outgoing {
            routing_key: queue,
            message_id: Uuid::new_v4().to_string(),
            event_type: "slipway.canary".to_owned(),
            ..Outgoing::default()
        };
        match publisher.publish(&message).await {
            Err(PublishError::Broken(error)) => Err(error),
            // A canary that can't be routed is no failure: its queue ends with the consumer's connection.
            _ => Ok(()),
        }
    }
}

/// Measures the outbox, for ever. Without a database the last measurement stays.
async fn measure_outbox(store: &Store) -> Infallible {
    loop {
        match store.backlog().await {
            Ok(backlog) => Metrics::get().backlog(backlog.depth, backlog.oldest),
            Err(error) => tracing::debug!(%error, "the outbox couldn't be measured"),
        }
        tokio::time::sleep(MEASURE).await;
    }
}
