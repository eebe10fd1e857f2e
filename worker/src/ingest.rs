//! From the dead-letter exchange into the database: what the broker itself gave up becomes a dead letter like any
//! other, with a result where its ids can be read. What workers gave up is there already and is passed over.
//!
//! One message at a time, on a connection of its own: dead letters hold up no request. One that no worker survives, the
//! broker sets aside in `slipway.parked` at its delivery limit, which nothing here reads.

use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::{ErrorCode, Failure, read as read_event, topology};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::admission::{holds_nul, told};
use crate::amqp::{self, AmqpError, BrokerConnection, BrokerEndpoints, Delivered, XDeath};
use crate::crash::{self, Failpoint};
use crate::intake::storable;
use crate::lifecycle::{Drain, do_or_wait_for};
use crate::message::Incoming;
use crate::metrics::Metrics;
use crate::store::{BrokerDeadLetter, RefusedMessage, Store, StoreError, StoredGivenUp};
use crate::telemetry;

/// Headers that the broker adds to what it gives up.
const BROKERS_HEADERS: [&str; 2] = ["x-first-death-", "x-last-death-"];

/// Ingests until the drain begins.
pub struct DeadLetterConsumer {
    /// Where dead letters go.
    pub store: Store,
    /// Where they come from.
    pub broker: BrokerEndpoints,
    /// When to stop.
    pub drain: Drain,
}

/// Why a generation of the consumer ended.
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
    #[error(transparent)]
    Database(#[from] StoreError),
}

impl DeadLetterConsumer {
    /// Consumes, generation after generation.
    pub async fn run(self) {
        let mut generations = self.broker.generations("ingest");
        while let Some(link) = generations.next(self.drain.token()).await {
            let ended = match self.generation(&link).await {
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

    async fn generation(&self, link: &BrokerConnection) -> Result<std::convert::Infallible, ConsumerEnd> {
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
        let given_up = read(delivered);
        let BrokerDeadLetter { refusal, incoming, .. } = &given_up;
        let span = telemetry::processing(topology::DEAD_LETTERS_INGEST_QUEUE, &refusal.known, None, incoming);
        self.ingest(&given_up).instrument(span).await?;
        if !crash::around(Failpoint::AckDeadLetter, delivered.ack()).await? {
            tracing::warn!("the acknowledgement came too late; the dead letter will come again and be known");
        }
        Ok(())
    }

    /// Commits it; when this returns, the message may be acknowledged. An absent database is waited for with the
    /// message in hand, since giving it back would count towards its delivery limit.
    async fn ingest(&self, given_up: &BrokerDeadLetter) -> Result<(), ConsumerEnd> {
        let once = || async {
            match self.store.ingest(given_up).await {
                Err(error) if error.is_transient() => Err(error),
                settled => Ok(settled),
            }
        };
        let done = do_or_wait_for("database", RetryPolicy::RECONNECT, &self.drain, once)
            .await
            .ok_or(ConsumerEnd::Drained)??;
        let failure = &given_up.refusal.failure;
        let result = match done {
            StoredGivenUp::Known => "known",
            StoredGivenUp::Settled => "settled",
            StoredGivenUp::DeadLetter => failure.code.as_str(),
        };
        Metrics::get().given_up(result);
        let deployment = given_up.refusal.known.deployment_id().map(|id| id.to_string());
        match done {
            StoredGivenUp::Known => tracing::debug!("a worker's own dead letter"),
            StoredGivenUp::Settled => tracing::info!(
                deployment.id = deployment,
                "the broker gave up a message whose deployment is here all the same: {}",
                failure.message
            ),
            StoredGivenUp::DeadLetter => {
                tracing::Span::current().record("error.type", failure.code.as_str());
                tracing::error!(deployment.id = deployment, "a new dead letter: {}", failure.message);
            }
        }
        Ok(())
    }
}

/// What came, told apart by the one thing that no producer can take away: a queue that gives a message up says so.
fn read(delivered: &Delivered) -> BrokerDeadLetter {
    let mut incoming = storable(&delivered.incoming);
    incoming.headers.retain(|name, _| !BROKERS_HEADERS.iter().any(|prefix| name.starts_with(prefix)));
    match delivered.death.as_ref().filter(|death| death.queue == topology::DEPLOYMENTS_QUEUE) {
        Some(death) => by_broker(death, incoming),
        None => by_somebody(incoming),
    }
}

fn by_broker(death: &XDeath, mut incoming: Incoming) -> BrokerDeadLetter {
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
    BrokerDeadLetter { refusal: refusal(code, message, &incoming), reason, incoming, published_as: Vec::new() }
}

/// A worker published it, and then it's known by its id; or somebody else did, or the database has forgotten it.
fn by_somebody(incoming: Incoming) -> BrokerDeadLetter {
    let told = incoming.headers.get("dlq-deployment-id").and_then(|id| id.parse().ok());
    let unread = Uuid::new_v5(&Uuid::NAMESPACE_OID, &incoming.body);
    let message = format!("it lay in the exchange {} without any reason", topology::DEAD_LETTER_EXCHANGE);
    let mut refusal = refusal(ErrorCode::UnexplainedDeadLetter, message, &incoming);
    // It never passed the door, so that no deployment answers for it.
    (refusal.known.source, refusal.known.id) = (None, None);
    BrokerDeadLetter {
        refusal,
        reason: "unexplained",
        incoming,
        published_as: told.into_iter().chain([unread]).collect(),
    }
}

fn refusal(code: ErrorCode, message: String, incoming: &Incoming) -> RefusedMessage {
    let read = read_event(&incoming.body, &incoming.metadata());
    let (mut known, _) = told(&read);
    let rejection = read.err().map(|rejection| (rejection.code, rejection.message));
    if holds_nul(&serde_json::Value::Object(known.correlation.clone())) {
        known.correlation.clear();
    }
    let (code, message, withhold) = match rejection {
        // That a secret has leaked must be told, whatever else happened.
        Some((ErrorCode::PlaintextSecret, why)) => (ErrorCode::PlaintextSecret, format!("{why}; {message}"), true),
        Some((_, why)) => (code, format!("{message}; a worker would have refused it: {why}"), false),
        None => (code, message, false),
    };
    RefusedMessage { failure: Failure::new(code, None, message), known, withhold }
}
