//! From the queue into Postgres: whom a result is to be told to is written down, and only then is the event acknowledged. An event
//! that comes again finds itself written down already.

use std::sync::Arc;

use jiff::Timestamp;
use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::{CloudEvent, DeploymentResult};
use slipway_worker::amqp::{AmqpError, BrokerConnection, BrokerEndpoints, Delivered, consume_events};
use slipway_worker::process::{Drain, do_or_wait_for};
use slipway_worker::store::Store;
use tokio::sync::Notify;

use super::routing::plan::plan;
use super::routing::settings::NotifyRouting;

/// The queue of `slipway notify`, bound to `slipway.events`.
pub(crate) const NOTIFY_QUEUE: &str = "slipway.notify";
/// What it's bound with.
const RESULTS: &str = "result.#";
/// Events that are delivered before the first is acknowledged.
const PREFETCH: u16 = 64;

/// Takes events in until the drain begins.
pub(crate) struct NotifyIntake {
    pub(crate) routing: Arc<NotifyRouting>,
    pub(crate) store: Store,
    pub(crate) broker: BrokerEndpoints,
    pub(crate) drain: Drain,
    /// Woken when something is written down.
    pub(crate) written: Arc<Notify>,
}

impl NotifyIntake {
    /// Consumes over one connection after the other.
    pub(crate) async fn run(self) {
        let mut generations = self.broker.generations("notify");
        while let Some(link) = generations.next(self.drain.token()).await {
            let ended = self.consume(&link).await;
            // Closing gives back what isn't acknowledged.
            link.close().await;
            if let Err(error) = ended {
                generations.give_up("events aren't consumed for now", error);
            }
        }
    }

    async fn consume(&self, link: &BrokerConnection) -> Result<(), AmqpError> {
        let mut events = consume_events(link, NOTIFY_QUEUE, RESULTS, PREFETCH).await?;
        tracing::info!(queue = NOTIFY_QUEUE, "telling people how deployments end");
        loop {
            let delivered = tokio::select! {
                () = self.drain.token().cancelled() => return Ok(()),
                reason = link.down() => return Err(AmqpError::Down(reason)),
                next = events.next() => next?,
            };
            let Some(delivered) = delivered else {
                return Err(AmqpError::Down(format!("queue {NOTIFY_QUEUE} was deleted, or its consumer cancelled")));
            };
            if !self.take_in(&delivered).await {
                return Ok(());
            }
            if !delivered.ack().await? {
                // It comes again, and is recognised.
                return Err(AmqpError::Down("the channel was closed before an acknowledgement".to_owned()));
            }
        }
    }

    /// Writes down whom an event is to be told to; false when the drain has begun before it was.
    async fn take_in(&self, delivered: &Delivered) -> bool {
        let body = &delivered.incoming.body;
        let event: CloudEvent<DeploymentResult> = match serde_json::from_slice(body) {
            Ok(event) => event,
            Err(error) => {
                // Nothing in it is repeated: whoever may publish has written it.
                let (line, column) = (error.line(), error.column());
                tracing::warn!(
                    line,
                    column,
                    "an event isn't a result that this version can read; nobody is told of it"
                );
                return true;
            }
        };
        let now = Timestamp::now();
        let age = now.duration_since(event.time.unwrap_or(now));
        if std::time::Duration::try_from(age).is_ok_and(|age| age > self.routing.max_age) {
            tracing::info!(event.id = event.id, "an event is too old to be news; nobody is told of it");
            return true;
        }
        let intents = plan(&self.routing, &event.data, now);
        if intents.is_empty() {
            return true;
        }
        let write = || self.store.intend_notifications(&event.id, body, &intents);
        let written = do_or_wait_for("writing down a notification", RetryPolicy::RECONNECT, &self.drain, write).await;
        if written.is_some_and(|written| written > 0) {
            self.written.notify_waiters();
        }
        written.is_some()
    }
}
