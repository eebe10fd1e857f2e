//! From the dead-letter exchange into the database: a message that the broker itself gave up becomes a dead letter like
//! any other, with a result where its ids can be read. Dead letters that workers published are stored already, and are
//! skipped.
//!
//! One message at a time, on a connection of its own, so that dead letters don't delay requests; it may be slow to notice
//! that the broker is gone, since nobody waits for them. One that crashes every worker is moved by the broker to
//! `slipway.parked` at its delivery limit, one that the database fails at is rejected and goes there as well; nothing here
//! reads that queue.

use std::sync::atomic::{AtomicU32, Ordering};

use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::{ErrorCode, Failure, read as read_event, topology};
use tracing::Instrument as _;
use uuid::Uuid;

use super::door::holds_nul;
use super::envelope::read_envelope;
use crate::amqp::{self, AmqpError, BrokerConnection, BrokerEndpoints, Delivered, XDeath};
use crate::failpoint::{self, Failpoint};
use crate::message::Incoming;
use crate::process::{Drain, do_or_wait_for};
use crate::store::{BrokerDeadLetter, RefusedMessage, Store, StoredGivenUp};
use crate::telemetry::{self, Metrics};

/// How often the database may fail at one message, while it answers otherwise.
pub(crate) const MAX_FAILURES: u32 = 3;
/// Headers that the broker adds to what it gives up.
const BROKERS_HEADERS: [&str; 2] = ["x-first-death-", "x-last-death-"];

/// Stores dead letters of the broker until the drain begins.
pub struct DeadLetterConsumer {
    /// Where dead letters are stored.
    pub store: Store,
    /// The broker that gave them up.
    pub broker: BrokerEndpoints,
    /// Ends the consuming as soon as it begins.
    pub drain: Drain,
}

/// Why consuming over one connection ended.
#[derive(Debug, thiserror::Error)]
enum ConsumerEnd {
    #[error("draining")]
    Drained,
    #[error("the broker cancelled the consumer or lost its queue")]
    Cancelled,
    #[error("the connection is gone: {0}")]
    Down(String),
    #[error(transparent)]
    Broker(#[from] AmqpError),
}

impl DeadLetterConsumer {
    /// Consumes over one connection after the other.
    pub async fn run(self) {
        let mut generations = self.broker.unhurried().generations("ingest");
        while let Some(link) = generations.next(self.drain.token()).await {
            let ended = match self.consume(&link).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            // Closing gives back what isn't acknowledged.
            link.close().await;
            if matches!(ended, ConsumerEnd::Drained) {
                return;
            }
            generations.give_up("the consumer of dead letters ended and is rebuilt", ended);
        }
    }

    async fn consume(&self, link: &BrokerConnection) -> Result<std::convert::Infallible, ConsumerEnd> {
        amqp::declare(&link.channel().await?).await?;
        let mut subscription = amqp::consume(link, topology::DEAD_LETTERS_INGEST_QUEUE, 1).await?;
        loop {
            tokio::select! {
                () = self.drain.token().cancelled() => return Err(ConsumerEnd::Drained),
                reason = link.down() => return Err(ConsumerEnd::Down(reason)),
                delivered = subscription.next() => self.handle(&delivered?.ok_or(ConsumerEnd::Cancelled)?).await?,
            }
        }
    }

    async fn handle(&self, delivered: &Delivered) -> Result<(), ConsumerEnd> {
        let given_up = classify(delivered);
        let BrokerDeadLetter { refusal, incoming, .. } = &given_up;
        let span = telemetry::processing_span(topology::DEAD_LETTERS_INGEST_QUEUE, &refusal.known, None, incoming);
        if self.store_given_up(&given_up).instrument(span).await?.is_none() {
            delivered.reject().await?;
            return Ok(());
        }
        if !failpoint::around(Failpoint::AckDeadLetter, delivered.ack()).await? {
            tracing::warn!("the acknowledgement came too late; the dead letter will come again and be recognised");
        }
        Ok(())
    }

    /// Commits it, and then the message may be acknowledged; `None` when the database fails at it again and again, though
    /// it answers others. One that is absent is waited for without giving the message back, since that would count
    /// towards its delivery limit.
    async fn store_given_up(&self, given_up: &BrokerDeadLetter) -> Result<Option<()>, ConsumerEnd> {
        let failures = AtomicU32::new(0);
        let store_once = || async {
            match self.store.ingest(given_up).await {
                Err(error) if error.fails_at_any() || !self.store.takes_writes().await => Err(error),
                Err(error) if failures.fetch_add(1, Ordering::Relaxed) + 1 < MAX_FAILURES => Err(error),
                final_outcome => Ok(final_outcome),
            }
        };
        let stored = do_or_wait_for("database", RetryPolicy::RECONNECT, &self.drain, store_once)
            .await
            .ok_or(ConsumerEnd::Drained)?;
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => {
                let error = error.summary();
                tracing::error!(error, "the database fails at a dead letter, and it's parked: see slipway status");
                return Ok(None);
            }
        };
        let failure = &given_up.refusal.failure;
        let result = match stored {
            StoredGivenUp::Known => "known",
            StoredGivenUp::Settled => "settled",
            StoredGivenUp::DeadLetter => failure.code.as_str(),
        };
        Metrics::get().given_up(result);
        let deployment = given_up.refusal.known.deployment_id().map(|id| id.to_string());
        match stored {
            StoredGivenUp::Known => {
                tracing::debug!("a dead letter that a worker published, and that is stored already")
            }
            StoredGivenUp::Settled => tracing::info!(
                deployment.id = deployment,
                "the broker gave up a message, but its deployment is in the database: {}",
                failure.message
            ),
            StoredGivenUp::DeadLetter => {
                tracing::Span::current().record("error.type", failure.code.as_str());
                tracing::error!(deployment.id = deployment, "a new dead letter: {}", failure.message);
            }
        }
        Ok(Some(()))
    }
}

/// Who gave the message up: the broker, which then says so in `x-death` whatever the producer has set; or somebody
/// else.
fn classify(delivered: &Delivered) -> BrokerDeadLetter {
    let mut incoming = delivered.incoming.without_nul();
    incoming.headers.retain(|name, _| !BROKERS_HEADERS.iter().any(|prefix| name.starts_with(prefix)));
    match delivered.death.as_ref().filter(|death| death.queue == topology::DEPLOYMENTS_QUEUE) {
        Some(death) => from_broker(death, incoming),
        None => from_anybody(incoming),
    }
}

fn from_broker(death: &XDeath, mut incoming: Incoming) -> BrokerDeadLetter {
    incoming.exchange = death.exchange.replace('\0', "");
    let (code, reason, what) = match death.reason.as_str() {
        "delivery_limit" => (
            ErrorCode::DeliveryLimitReached,
            "delivery-limit",
            "it was delivered again and again and never acknowledged",
        ),
        "expired" => (ErrorCode::ExpiredInQueue, "expired", "it waited for longer than a policy allows"),
        "maxlen" => (ErrorCode::QueueOverflow, "queue-length", "the queue was longer than a policy allows"),
        "rejected" => (ErrorCode::RejectedByConsumer, "rejected-by-consumer", "a consumer rejected it"),
        _ => (ErrorCode::UnexplainedDeadLetter, "unexplained", "the broker gives a reason that isn't known here"),
    };
    let message = format!("RabbitMQ took the message from {}: {what}", topology::DEPLOYMENTS_QUEUE);
    BrokerDeadLetter { refusal: refuse(code, message, &incoming), reason, incoming, published_as: Vec::new() }
}

/// A worker published it, and then its id is in the database; or somebody else did, or the row has been removed.
fn from_anybody(incoming: Incoming) -> BrokerDeadLetter {
    let ids = ["dlq-id", "dlq-deployment-id"].map(|name| incoming.headers.get(name).and_then(|id| id.parse().ok()));
    let from_body = Uuid::new_v5(&Uuid::NAMESPACE_OID, &incoming.body);
    let message = format!("it lay in the exchange {} without any reason", topology::DEAD_LETTER_EXCHANGE);
    let mut refusal = refuse(ErrorCode::UnexplainedDeadLetter, message, &incoming);
    // It was never accepted as a request, so no deployment belongs to it.
    (refusal.known.source, refusal.known.id) = (None, None);
    BrokerDeadLetter {
        refusal,
        reason: "unexplained",
        incoming,
        published_as: ids.into_iter().flatten().chain([from_body]).collect(),
    }
}

fn refuse(code: ErrorCode, message: String, incoming: &Incoming) -> RefusedMessage {
    let read = read_event(&incoming.body, &incoming.metadata());
    let (mut known, _) = read_envelope(&read);
    let rejection = read.err().map(|rejection| (rejection.code, rejection.message));
    if holds_nul(&serde_json::Value::Object(known.correlation.clone())) {
        known.correlation.clear();
    }
    let (code, message, withhold) = match rejection {
        // That a secret has leaked is more important than why the broker gave the message up.
        Some((ErrorCode::PlaintextSecret, why)) => (ErrorCode::PlaintextSecret, format!("{why}; {message}"), true),
        Some((_, why)) => (code, format!("{message}; a worker would have refused it: {why}"), false),
        None => (code, message, false),
    };
    RefusedMessage { failure: Failure::new(code, None, message), known, withhold }
}
