//! From the queue into the database: decode, commit, and only then acknowledge. What a message calls for is decided in
//! the module `admission`. Never a negative acknowledgement: what the database can't take is kept in hand until it can,
//! since giving it back would count towards its delivery limit. When the database is away altogether, the consumer is
//! given up, and what it held goes back to the queue once.

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::retry::RetryPolicy;
use slipway_protocol::{Message, Rejection, topology};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::admission;
use crate::amqp::{self, AmqpError, BrokerConnection, BrokerEndpoints, Delivered, Subscription};
use crate::crash::{self, Failpoint};
use crate::credentials::Credentials;
use crate::lifecycle::{Drain, do_or_wait_for};
use crate::message::Incoming;
use crate::readiness::{Condition, Readiness};
use crate::store::{Store, StoreError};
use crate::telemetry;

/// How long after its last canary a worker still counts as connected through.
pub(crate) const CANARY_PATIENCE: Duration = Duration::from_secs(10);
/// How long one message at a time is taken after one that the database failed at.
const CAREFUL: Duration = Duration::from_secs(10);

/// Takes requests in until the drain begins.
pub struct Intake {
    /// Where deployments go.
    pub store: Store,
    /// Where messages come from.
    pub broker: BrokerEndpoints,
    /// Opens secrets, to see that it can be done.
    pub credentials: Arc<Credentials>,
    /// Told about consumer, canary and database.
    pub readiness: Readiness,
    /// When to stop.
    pub drain: Drain,
    /// Messages under way at once.
    pub prefetch: u16,
    /// To how many versions of a project one may roll back.
    pub versions: u32,
    /// Where the relay is told the queue to send canaries to.
    pub canary: watch::Sender<Option<String>>,
}

/// Why a generation of the consumer ended.
#[derive(Debug, thiserror::Error)]
enum ConsumerEnd {
    #[error("draining")]
    Drained,
    #[error("nothing fails any more: several messages at once are taken again")]
    Cleared,
    #[error("the broker cancelled the consumer or lost its queue")]
    Cancelled,
    #[error("the connection is gone: {0}")]
    Down(String),
    #[error(transparent)]
    Broker(#[from] AmqpError),
    #[error("the database doesn't answer")]
    NoDatabase,
    #[error(transparent)]
    Database(#[from] StoreError),
}

impl Intake {
    /// Consumes, generation after generation.
    pub async fn run(self) {
        let mut generations = self.broker.generations("consume");
        let mut failed = false;
        while let Some(link) = generations.next(self.drain.token()).await {
            let ended = match self.generation(&link, failed).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            self.canary.send_replace(None);
            let reason = ended.to_string();
            self.readiness.unmet(Condition::BrokerConsumer, &reason);
            self.readiness.unmet(Condition::Canary, &reason);
            // What is delivered beside a message that fails again and again counts as delivered as often as that.
            failed = matches!(ended, ConsumerEnd::Database(_));
            if matches!(ended, ConsumerEnd::Cleared | ConsumerEnd::NoDatabase) {
                generations.skip_delay();
            }
            // Closing gives back what isn't acknowledged.
            link.close().await;
            match ended {
                ConsumerEnd::Drained => return,
                ConsumerEnd::NoDatabase => self.wait_for_database().await,
                ConsumerEnd::Database(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.readiness.unmet(Condition::Database, format!("the database fails: {error}"));
                    self.wait_for_database().await;
                }
                other => generations.give_up("the consumer ended and is rebuilt", other),
            }
        }
    }

    async fn generation(
        &self,
        link: &BrokerConnection,
        careful: bool,
    ) -> Result<std::convert::Infallible, ConsumerEnd> {
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
                reason = link.down() => return Err(ConsumerEnd::Down(reason)),
                came = canary.next() => {
                    came?.ok_or(ConsumerEnd::Cancelled)?;
                    self.readiness.met(Condition::Canary);
                    quiet = Instant::now() + CANARY_PATIENCE;
                }
                () = tokio::time::sleep_until(cleared), if careful => return Err(ConsumerEnd::Cleared),
                () = tokio::time::sleep_until(quiet) => {
                    self.readiness.unmet(Condition::Canary, format!("no canary came back for {CANARY_PATIENCE:?}"));
                    quiet = Instant::now() + CANARY_PATIENCE;
                }
                () = self.readiness.until(Condition::Database, false) => return Err(ConsumerEnd::NoDatabase),
                delivered = subscription.next() => {
                    let delivered = delivered?.ok_or(ConsumerEnd::Cancelled)?;
                    // Left in the middle of a commit, it comes again and is a duplicate if that succeeded.
                    tokio::select! {
                        handled = self.handle(&delivered) => handled?,
                        () = self.readiness.until(Condition::Database, false) => return Err(ConsumerEnd::NoDatabase),
                        reason = link.down() => return Err(ConsumerEnd::Down(reason)),
                    }
                }
            }
        }
    }

    /// No more messages, please; those that are here already go back with the connection.
    async fn cancel(&self, subscription: &mut Subscription) -> ConsumerEnd {
        if let Err(error) = subscription.cancel().await {
            tracing::debug!(%error, "cancelling the consumer");
        }
        ConsumerEnd::Drained
    }

    /// Until the next sign of life that the database takes: a write, since one that answers may still refuse those.
    async fn wait_for_database(&self) {
        tracing::error!("the database fails: consuming stops until it takes writes again");
        tokio::select! {
            () = self.readiness.until(Condition::Database, true) => tracing::info!("the database is back"),
            () = self.drain.token().cancelled() => {}
        }
    }

    async fn handle(&self, delivered: &Delivered) -> Result<(), ConsumerEnd> {
        let incoming = storable(&delivered.incoming);
        let read = slipway_protocol::read(&incoming.body, &incoming.metadata());
        let (told, tracestate) = admission::told(&read);
        let span = telemetry::processing(topology::DEPLOYMENTS_QUEUE, &told, tracestate.as_deref(), &incoming);
        self.patiently(self.commit(&read, &incoming)).instrument(span).await?;
        if !crash::around(Failpoint::Ack, delivered.ack()).await? {
            tracing::warn!("the acknowledgement came too late; the message will come again and be a duplicate");
        }
        Ok(())
    }
}

impl Intake {
    /// Says so when a message is long in hand, by a lock for one: no other is taken in meanwhile. The next canary tells
    /// that it's over.
    async fn patiently(&self, committing: impl Future<Output = Result<(), ConsumerEnd>>) -> Result<(), ConsumerEnd> {
        tokio::pin!(committing);
        tokio::select! {
            committed = &mut committing => return committed,
            () = tokio::time::sleep(CANARY_PATIENCE) => {}
        }
        let reason = format!("a message has waited for the database for {CANARY_PATIENCE:?}, and the others for it");
        tracing::warn!("{reason}; ops/runbook.md tells under Postgres how to find who holds a lock");
        self.readiness.unmet(Condition::Canary, reason);
        committing.await
    }

    /// Commits what the message calls for, however often that takes.
    async fn commit(&self, read: &Result<Message, Rejection>, incoming: &Incoming) -> Result<(), ConsumerEnd> {
        let once = || async {
            match self.take_in(read, incoming).await {
                Err(error) if error.is_transient() => Err(error),
                settled => Ok(settled),
            }
        };
        Ok(do_or_wait_for("database", RetryPolicy::RECONNECT, &self.drain, once)
            .await
            .ok_or(ConsumerEnd::Drained)??)
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
