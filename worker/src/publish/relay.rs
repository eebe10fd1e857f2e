//! From the outbox to the broker: one relay among all workers, which holds a lease. Messages of a deployment go out in
//! order, and are marked as published only when the broker has confirmed them and not returned them. A message may go
//! out twice, with the same id, but is never lost.
//!
//! The next event of a deployment is sent when the last one is confirmed, so that no event overtakes one that the
//! broker refused. What is sent when is in `flow`, and how in `batch`.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::RelayError;
use super::delayed::DelayedKeys;
use super::flow;
use super::marks::UnmarkableKeys;
use super::relay_lease::LeaseHolder;
use crate::amqp::{self, AmqpError, BrokerConnection, BrokerEndpoints, ConnectionState, PublishError, Publisher};
use crate::message::Outgoing;
use crate::process::{Condition, Readiness};
use crate::store::{POLL, RelayLease, Store, StoreError, Wakeups};
use crate::telemetry::OutageLog;

/// Channels of the relay, each with one message under way. With more, each message takes longer.
const CHANNELS: usize = 16;
/// How often a canary is sent. A worker whose canaries don't come back becomes unready after three of them.
pub(crate) const CANARY: Duration = Duration::from_secs(3);
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
    /// How long a deployment's lease lasts; the relay's follows it.
    pub lease: Duration,
    /// Cancelled when nothing more will be written: what is there is published, and the relay ends.
    pub finish: CancellationToken,
}

/// What is remembered between generations.
struct RelayState {
    holder: LeaseHolder,
    /// The lease that was held last. As long as its fence is the newest, nobody else was the relay meanwhile.
    last: Option<RelayLease>,
    delayed: DelayedKeys,
    unmarkable: UnmarkableKeys,
    canary_sent: Option<(String, Instant)>,
    outages: OutageLog,
}

impl Relay {
    /// Relays until [`Relay::finish`] is cancelled and the outbox is empty.
    pub async fn run(self) {
        let wakeups = self.store.listen();
        let holder = LeaseHolder::new(self.store.clone(), wakeups.clone(), self.lease);
        let (delayed, unmarkable) = (DelayedKeys::default(), UnmarkableKeys::default());
        let outages = OutageLog::new("relay");
        let mut state = RelayState { holder, last: None, delayed, unmarkable, canary_sent: None, outages };
        let mut generations = self.broker.unhurried().generations("publish");
        // A broker that can't be reached at the end isn't waited for: the next relay goes on.
        while let Some(link) = generations.next(&self.finish).await {
            let ended = self.publish_over(&link, &wakeups, &mut state).await;
            // Another worker takes over meanwhile, and has to be told.
            wakeups.set_relays(false);
            let reason = ended.as_ref().err().map_or_else(|| "the relay has ended".to_owned(), ToString::to_string);
            self.readiness.set_unmet(Condition::BrokerPublisher, reason);
            match &ended {
                Err(AmqpError::TimedOut { .. }) => link.leave(),
                _ => link.close().await,
            }
            match ended {
                Ok(()) => break,
                Err(failed) => generations.give_up("publishing failed and starts again over a new connection", failed),
            }
        }
        state.holder.give_back().await;
    }

    /// Publishes over one connection; `Ok` when all was sent after the end was asked for, or when it can't be.
    async fn publish_over(
        &self,
        link: &BrokerConnection,
        wakeups: &Wakeups,
        state: &mut RelayState,
    ) -> Result<(), AmqpError> {
        amqp::declare(&link.channel().await?).await?;
        let mut publishers = vec![Publisher::open(link).await?];
        let holder = state.holder.clone();
        let publishing = self.publish(link, &mut publishers, wakeups, state);
        tokio::pin!(publishing);
        tokio::select! {
            ended = &mut publishing => ended,
            never = holder.keep() => match never {},
            failed = self.watch_connection(link) => {
                let AmqpError::Down(reason) = failed else { return Err(failed) };
                // What was under way fails now, too; which message the broker blames has to be written down.
                match tokio::time::timeout(BLAME_TIME, publishing).await {
                    Ok(Err(error)) => Err(error),
                    _ => Err(AmqpError::Down(reason)),
                }
            }
            () = self.stuck_at_the_end(link) => Ok(()),
        }
    }

    /// Shows whether the broker takes messages, until the connection is gone; gives why. Its heartbeats are few:
    /// when the consumer's connection ends, whose beats are frequent, the broker is asked whether it's there.
    async fn watch_connection(&self, link: &BrokerConnection) -> AmqpError {
        let mut canary = self.canary.clone();
        loop {
            let connection = link.state();
            match &connection {
                ConnectionState::Up => self.readiness.set_met(Condition::BrokerPublisher),
                ConnectionState::Blocked(reason) => {
                    tracing::warn!(reason, "the broker is in alarm and takes no messages: they wait in the outbox");
                    let why = format!("the broker is in alarm and takes no messages: {reason}");
                    self.readiness.set_unmet(Condition::BrokerPublisher, why);
                }
                ConnectionState::Down(reason) => return AmqpError::Down(reason.clone()),
            }
            let is_up = connection == ConnectionState::Up;
            tokio::select! {
                () = link.changed(&connection) => {}
                Some(error) = self.ask_when_alone(link, &mut canary), if is_up => return error,
            }
        }
    }

    /// Waits until the consumer's connection ends, and asks the broker then; gives why, where it doesn't answer.
    async fn ask_when_alone(
        &self,
        link: &BrokerConnection,
        canary: &mut watch::Receiver<Option<String>>,
    ) -> Option<AmqpError> {
        loop {
            // No consumer will end any more.
            canary.changed().await.ok()?;
            let is_lost = canary.borrow_and_update().is_none();
            if is_lost && let Err(error) = link.answers().await {
                return Some(error);
            }
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
        publishers: &mut Vec<Publisher>,
        wakeups: &Wakeups,
        state: &mut RelayState,
    ) -> Result<(), AmqpError> {
        let (mut look, mut canary) = (true, self.canary.clone());
        loop {
            let finishing = self.finish.is_cancelled();
            for publisher in &mut *publishers {
                publisher.renew(link).await?;
            }
            let queue = canary.borrow_and_update().clone();
            let canary_due = self.send_canary(queue, publishers, state).await?;
            let lease = state.holder.sure();
            if lease.is_some() && publishers.len() < CHANNELS {
                publishers.extend(try_join_all((publishers.len()..CHANNELS).map(|_| Publisher::open(link))).await?);
            }
            look |= finishing || lease.is_none() || lease != state.last || state.delayed.has_due();
            if look && let Some(lease) = lease {
                if state.last.replace(lease) != Some(lease) {
                    // Another relay may have published the delayed messages.
                    state.delayed.clear();
                }
                match self.send_waiting(publishers, lease, state, (!finishing).then_some(wakeups)).await {
                    Ok(all_sent) => {
                        state.outages.record(Ok::<_, StoreError>(()));
                        look = !all_sent;
                    }
                    Err(RelayError::Broker(error)) => return Err(error),
                    Err(RelayError::Database(_)) if finishing => return Ok(()),
                    Err(RelayError::Database(error @ StoreError::LeaseLost)) => {
                        state.holder.doubt();
                        tracing::warn!(%error, "the new relay publishes again what this worker couldn't mark as published");
                        continue;
                    }
                    Err(RelayError::Database(error)) => {
                        state.outages.record(Err(error));
                        tokio::time::sleep(POLL).await;
                        continue;
                    }
                }
            }
            if finishing && (if lease.is_some() { !look } else { state.holder.has_asked() }) {
                return Ok(());
            }
            let relays = lease.is_some();
            let due =
                if state.delayed.is_empty() && !finishing { canary_due } else { canary_due.min(Instant::now() + POLL) };
            tokio::select! {
                () = std::future::ready(()), if relays && look => {}
                () = wakeups.outbox(), if relays => look = true,
                () = state.holder.changed() => {}
                Ok(()) = canary.changed() => {}
                () = tokio::time::sleep_until(due) => {}
                () = self.finish.cancelled(), if !finishing => {}
            }
        }
    }

    /// Sends what waits; false when there is more. What the broker didn't take is delayed, and may then be sent by
    /// another relay.
    async fn send_waiting(
        &self,
        publishers: &[Publisher],
        lease: RelayLease,
        state: &mut RelayState,
        wakeups: Option<&Wakeups>,
    ) -> Result<bool, RelayError> {
        tokio::select! {
            all_sent = flow::send_waiting(&self.store, publishers, lease, (&mut state.delayed, &state.unmarkable), wakeups) => all_sent,
            () = state.holder.unsure(lease) => {
                // Messages are under way: their channels can't be used for others.
                Err(AmqpError::Down("left in the middle of a batch: the relay's lease isn't certain any more".to_owned()).into())
            }
        }
    }

    /// A message to the worker itself, to see that what is published arrives. Gives when the next one is due.
    async fn send_canary(
        &self,
        queue: Option<String>,
        publishers: &[Publisher],
        state: &mut RelayState,
    ) -> Result<Instant, AmqpError> {
        let next = Instant::now() + CANARY;
        let (Some(queue), Some(publisher)) = (queue, publishers.first()) else { return Ok(next) };
        if let Some((to, at)) = &state.canary_sent
            && *to == queue
            && at.elapsed() < CANARY
        {
            return Ok(*at + CANARY);
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
            _ => Ok(next),
        }
    }
}
