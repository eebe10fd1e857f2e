//! From the queue into the database: decode, validate everything, commit, and only then acknowledge. Never a negative
//! acknowledgement: without the database the consumer is given up, and what it held goes back to the queue once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::retry::Policy;
use slipway_protocol::{ErrorCode, Failure, Known, Rejection, Request, decode, topology};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::amqp::{self, AmqpError, Broker, Delivered, Link, Subscription};
use crate::crash::{self, Step};
use crate::credentials::{Credentials, described};
use crate::lifecycle::Drain;
use crate::message::Incoming;
use crate::metrics::Metrics;
use crate::readiness::{Condition, Readiness};
use crate::store::{Accepted, Refusal, Store, StoreError};
use crate::telemetry;

/// How long after its last canary a worker still counts as connected through.
const CANARY_PATIENCE: Duration = Duration::from_secs(30);
/// How often in a row a message that can't be read is met without a delay. Past the queue's delivery limit (50) the
/// broker itself makes it a dead letter.
const UNREADABLE: u32 = 60;
/// How long one message at a time is taken after an unreadable one.
const CAREFUL: Duration = Duration::from_secs(10);

/// Takes requests in until the drain begins.
pub struct Intake {
    /// Where deployments go.
    pub store: Store,
    /// Where messages come from.
    pub broker: Broker,
    /// Opens secrets, to see that it can be done.
    pub credentials: Arc<Credentials>,
    /// Told about consumer, canary and database.
    pub readiness: Readiness,
    /// When to stop.
    pub drain: Drain,
    /// Messages under way at once.
    pub prefetch: u16,
    /// Where the relay is told the queue to send canaries to.
    pub canary: watch::Sender<Option<String>>,
}

/// Why a generation of the consumer ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("draining")]
    Drained,
    #[error("unreadable messages are gone: several at once are taken again")]
    Cleared,
    #[error("the broker cancelled the consumer or lost its queue")]
    Cancelled,
    #[error("the connection is gone: {0}")]
    Down(String),
    #[error(transparent)]
    Broker(#[from] AmqpError),
    #[error(transparent)]
    Database(#[from] StoreError),
}

impl Intake {
    /// Consumes, generation after generation.
    pub async fn run(self) {
        let mut generations = self.broker.generations("consume");
        let mut unreadable = 0;
        while let Some(link) = generations.next(self.drain.token()).await {
            let ended = match self.generation(&link, unreadable > 0).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            self.canary.send_replace(None);
            let reason = ended.to_string();
            self.readiness.unmet(Condition::BrokerConsumer, &reason);
            self.readiness.unmet(Condition::Canary, &reason);
            unreadable = if self.is_unreadable(&link, &ended).await { unreadable + 1 } else { 0 };
            if (1..UNREADABLE).contains(&unreadable) || matches!(ended, Ended::Cleared) {
                generations.at_once();
            }
            // Closing gives back what isn't acknowledged.
            link.close().await;
            match ended {
                Ended::Drained => return,
                Ended::Database(error) => self.wait_for_database(error).await,
                other => {
                    let error = format!("{:#}", anyhow::Error::from(other));
                    tracing::warn!(error, "the consumer ended and is rebuilt");
                }
            }
        }
    }

    /// Whether the connection broke at a message whose very properties aren't AMQP: text that isn't UTF-8. What was
    /// delivered beside it counts as delivered once more, and so it must come alone.
    async fn is_unreadable(&self, link: &Link, ended: &Ended) -> bool {
        match ended {
            Ended::Down(_) => link.garbled(),
            // The consumer may hear of it before the connection does.
            Ended::Broker(_) | Ended::Cancelled => {
                let _ = tokio::time::timeout(Duration::from_secs(1), link.down()).await;
                link.garbled()
            }
            Ended::Drained | Ended::Cleared | Ended::Database(_) => false,
        }
    }

    async fn generation(&self, link: &Link, careful: bool) -> Result<std::convert::Infallible, Ended> {
        amqp::declare(&link.channel().await?).await?;
        let mut canary = amqp::subscribe(link, &[]).await?;
        let prefetch = if careful { 1 } else { self.prefetch };
        let mut subscription = amqp::consume(link, topology::DEPLOYMENTS_QUEUE, prefetch).await?;
        self.canary.send_replace(Some(canary.queue()));
        self.readiness.met(Condition::BrokerConsumer);
        let mut quiet = Instant::now() + CANARY_PATIENCE;
        let cleared = Instant::now() + CAREFUL;
        loop {
            tokio::select! {
                () = self.drain.token().cancelled() => return Err(self.cancel(&mut subscription).await),
                reason = link.down() => return Err(Ended::Down(reason)),
                came = canary.next() => {
                    came?.ok_or(Ended::Cancelled)?;
                    self.readiness.met(Condition::Canary);
                    quiet = Instant::now() + CANARY_PATIENCE;
                }
                () = tokio::time::sleep_until(cleared), if careful => return Err(Ended::Cleared),
                () = tokio::time::sleep_until(quiet) => {
                    self.readiness.unmet(Condition::Canary, "no canary has come back for 30 s");
                    quiet = Instant::now() + CANARY_PATIENCE;
                }
                delivered = subscription.next() => self.handle(&delivered?.ok_or(Ended::Cancelled)?).await?,
            }
        }
    }

    /// No more messages, please; those that are here already go back with the connection.
    async fn cancel(&self, subscription: &mut Subscription) -> Ended {
        if let Err(error) = subscription.cancel().await {
            tracing::debug!(%error, "cancelling the consumer");
        }
        Ended::Drained
    }

    async fn wait_for_database(&self, error: StoreError) {
        let error = format!("{:#}", anyhow::Error::from(error));
        tracing::error!(error, "the database fails: consuming stops until it answers again");
        self.readiness.unmet(Condition::Database, "the database fails");
        let ping = || self.store.ping();
        // One try at least, with a delay before: a database that answers pings may still refuse to write.
        tokio::select! {
            () = tokio::time::sleep(Policy::RECONNECT.initial) => {}
            () = self.drain.token().cancelled() => return,
        }
        if crate::lifecycle::wait_for("database", Policy::RECONNECT, &self.drain, ping).await.is_some() {
            self.readiness.met(Condition::Database);
        }
    }

    async fn handle(&self, delivered: &Delivered) -> Result<(), Ended> {
        let incoming = storable(&delivered.incoming);
        let read = decode(&incoming.body, &incoming.metadata());
        let told = match &read {
            Ok(request) => known(request),
            Err(rejection) => (*rejection.known).clone(),
        };
        let tracestate = read.as_ref().ok().and_then(|request| request.event.tracestate.as_deref());
        let span = tracing::info_span!(
            "process slipway.deployments",
            otel.kind = "consumer",
            messaging.system = "rabbitmq",
            messaging.operation.type = "process",
            messaging.operation.name = "process",
            messaging.destination.name = topology::DEPLOYMENTS_QUEUE,
            messaging.rabbitmq.destination.routing_key = incoming.routing_key,
            messaging.message.id = told.id,
            messaging.message.conversation_id = told.correlation.get("correlation_id").and_then(|id| id.as_str()),
            messaging.message.body.size = incoming.body.len(),
            cloudevents.event_id = told.id,
            cloudevents.event_source = told.source,
            cloudevents.event_type = told.event_type,
            deployment.id = tracing::field::Empty,
            error.type = tracing::field::Empty,
        );
        telemetry::continue_trace(&span, told.traceparent.as_deref(), tracestate);
        self.take_in(read, &incoming).instrument(span).await?;
        if !crash::around(Step::Ack, delivered.ack()).await? {
            tracing::warn!("the acknowledgement came too late; the message will come again and be a duplicate");
        }
        Ok(())
    }

    /// Commits what the message calls for; when this returns, it may be acknowledged.
    async fn take_in(&self, read: Result<Request, Rejection>, incoming: &Incoming) -> Result<(), StoreError> {
        let refusal = match read {
            Ok(request) => match self.validate(&request).await? {
                None => return self.accept(&request, incoming).await,
                Some(failure) => Refusal { failure, known: known(&request), withhold: false },
            },
            Err(rejection) => Refusal {
                failure: Failure::new(rejection.code, None, rejection.message),
                known: *rejection.known,
                withhold: rejection.code == ErrorCode::PlaintextSecret,
            },
        };
        self.refuse(refusal, incoming).await
    }

    async fn accept(&self, request: &Request, incoming: &Incoming) -> Result<(), StoreError> {
        let id = request.deployment_id();
        tracing::Span::current().record("deployment.id", id.to_string());
        let accepted = self.store.accept(request, incoming).await?;
        let verdict = match accepted {
            Accepted::New => "accepted",
            Accepted::Superseded(_) => "superseded",
            Accepted::Duplicate => "duplicate",
        };
        Metrics::get().taken_in(verdict);
        tracing::info!(deployment.id = %id, project.slug = %request.event.data.project.slug, verdict, "request taken in");
        Ok(())
    }

    async fn refuse(&self, mut refusal: Refusal, incoming: &Incoming) -> Result<(), StoreError> {
        if holds_nul(&serde_json::Value::Object(refusal.known.correlation.clone())) {
            refusal.known.correlation.clear();
        }
        let code = refusal.failure.code.as_str();
        tracing::Span::current().record("error.type", code);
        let new = self.store.refuse(&refusal, incoming).await?;
        Metrics::get().taken_in(if new { code } else { "duplicate" });
        let deployment = refusal.known.deployment_id().map(|id| id.to_string());
        tracing::warn!(deployment.id = deployment, error.type = code, new, "request refused: {}", refusal.failure.message);
        Ok(())
    }

    /// What only this process can check; `None` when all is well.
    async fn validate(&self, request: &Request) -> Result<Option<Failure>, StoreError> {
        let data = &request.event.data;
        let refuse = |code, message: String| Ok(Some(Failure::new(code, None, message)));
        if let Some(expiry) = data.expires_at.filter(|expiry| *expiry <= Timestamp::now()) {
            return refuse(ErrorCode::ExpiredEvent, format!("the request expired at {expiry}"));
        }
        // PostgreSQL's text can't hold NUL, and nothing that is meant to be read does.
        if serde_json::to_value(&request.event).is_ok_and(|event| holds_nul(&event)) {
            return refuse(ErrorCode::InvalidField, "a text of the event must not hold the character NUL".to_owned());
        }
        let known = self.store.server(&data.server.handle).await?.is_some();
        let unfit = match described(&data.server) {
            Err(error) if !known => Some(error),
            _ => self.credentials.secrets(data).err(),
        };
        Ok(unfit.map(|error| error.failure(None)))
    }
}

/// What a valid request tells about itself.
pub(crate) fn known(request: &Request) -> Known {
    let (event, data) = (&request.event, &request.event.data);
    Known {
        source: Some(event.source.clone()),
        id: Some(event.id.clone()),
        replay: request.replay,
        event_type: Some(event.event_type.clone()),
        traceparent: event.traceparent.clone().filter(|t| !t.contains('\0')),
        project: Some(data.project.clone()),
        repository: Some(data.repository.name.clone()),
        commit: Some(data.repository.commit.clone()),
        server: Some(data.server.handle.clone()),
        correlation: data.correlation.clone(),
    }
}

/// The message with nothing in it but the body that the database couldn't hold.
pub(crate) fn storable(incoming: &Incoming) -> Incoming {
    let clean = |text: &str| text.replace('\0', "");
    Incoming {
        body: incoming.body.clone(),
        content_type: incoming.content_type.as_deref().map(clean),
        headers: incoming.headers.iter().map(|(name, value)| (clean(name), clean(value))).collect(),
        exchange: clean(&incoming.exchange),
        routing_key: clean(&incoming.routing_key),
    }
}

/// Whether a text in it holds what PostgreSQL's can't.
pub(crate) fn holds_nul(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
