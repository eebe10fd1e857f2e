//! From the queue into the database: decode, commit, and only then acknowledge. What a message calls for is decided in
//! `admission`. There is never a negative acknowledgement, which would count towards a message's delivery limit. One that
//! fails though the database takes others is put aside by `held`, and those behind it go on. When the database is away
//! altogether, the consumer is closed, and the messages that it had go back to the queue once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::topology;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::admission::Admitter;
use super::arrived::{Arrived, ReadMessage};
use super::envelope::read_envelope;
use super::held::{Holding, TRY_TIME};
use crate::amqp::{self, AmqpError, BrokerConnection, BrokerEndpoints, Delivered, Subscription};
use crate::failpoint::{self, Failpoint};
use crate::process::{Condition, Drain, Readiness, do_or_wait_for};
use crate::store::StoreError;
use crate::telemetry;

/// How long a worker stays ready after its last canary came back.
pub(crate) const CANARY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long messages are taken one at a time after one that the database couldn't commit.
const SERIAL_WINDOW: Duration = Duration::from_secs(10);

/// So often the database may be away at one message before it's asked whether it takes others.
const AWAY_TIMES: u32 = 2;

/// Messages that are taken in together at most.
const TOGETHER: usize = 64;

/// Takes requests in until the drain begins.
pub struct RequestConsumer {
    /// Decides what a message calls for, and commits it.
    pub admitter: Admitter,
    /// Where messages go that can't be taken in for now.
    pub holding: Holding,
    /// The broker whose queue of requests is consumed.
    pub broker: BrokerEndpoints,
    /// Where the state of consumer, canary and database is shown.
    pub readiness: Readiness,
    /// Ends the intake as soon as it begins.
    pub drain: Drain,
    /// Messages that are delivered before the first is acknowledged.
    pub prefetch: u16,
    /// The queue that the relay sends canaries to; `None` while there is none.
    pub canary: watch::Sender<Option<String>>,
}

/// Why consuming over one connection ended.
#[derive(Debug, thiserror::Error)]
enum ConsumerEnd {
    #[error("draining")]
    Drained,
    #[error("nothing fails any more: several messages at once are taken again")]
    SerialWindowOver,
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

impl RequestConsumer {
    /// Consumes over one connection after the other.
    pub async fn run(self) {
        let mut generations = self.broker.generations("consume");
        let mut failed = false;
        while let Some(link) = generations.next(self.drain.token()).await {
            let ended = match self.consume(&link, failed).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            self.canary.send_replace(None);
            let reason = ended.to_string();
            self.readiness.set_unmet(Condition::BrokerConsumer, &reason);
            self.readiness.set_unmet(Condition::Canary, &reason);
            // The messages delivered beside one that fails again and again would come nearer to their delivery limit,
            // too.
            failed = matches!(ended, ConsumerEnd::Database(_));
            if matches!(ended, ConsumerEnd::SerialWindowOver | ConsumerEnd::NoDatabase) {
                generations.skip_delay();
            }
            // Closing gives back what isn't acknowledged.
            link.close().await;
            match ended {
                ConsumerEnd::Drained => return,
                ConsumerEnd::NoDatabase => self.wait_for_database().await,
                ConsumerEnd::Database(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.readiness.set_unmet(Condition::Database, format!("the database fails: {error}"));
                    self.wait_for_database().await;
                }
                other => generations.give_up("the consumer ended and is rebuilt", other),
            }
        }
    }

    async fn consume(
        &self,
        link: &BrokerConnection,
        one_at_a_time: bool,
    ) -> Result<std::convert::Infallible, ConsumerEnd> {
        amqp::declare(&link.channel().await?).await?;
        let mut canary = amqp::subscribe(link, &[]).await?;
        let prefetch = if one_at_a_time { 1 } else { self.prefetch };
        let mut subscription = amqp::consume(link, topology::DEPLOYMENTS_QUEUE, prefetch).await?;
        self.canary.send_replace(Some(canary.queue()));
        self.readiness.set_met(Condition::BrokerConsumer);
        let mut canary_due = Instant::now() + CANARY_TIMEOUT;
        let (window_end, mut taken_at) = (Instant::now() + SERIAL_WINDOW, None);
        loop {
            tokio::select! {
                () = self.drain.token().cancelled() => return Err(self.stop_deliveries(&mut subscription).await),
                reason = link.down() => return Err(ConsumerEnd::Down(reason)),
                arrived = canary.next() => {
                    arrived?.ok_or(ConsumerEnd::Cancelled)?;
                    self.readiness.set_met(Condition::Canary);
                    canary_due = Instant::now() + CANARY_TIMEOUT;
                }
                () = tokio::time::sleep_until(window_end), if one_at_a_time => return Err(ConsumerEnd::SerialWindowOver),
                () = tokio::time::sleep_until(canary_due) => {
                    self.readiness.set_unmet(Condition::Canary, format!("no canary came back for {CANARY_TIMEOUT:?}"));
                    canary_due = Instant::now() + CANARY_TIMEOUT;
                }
                () = self.readiness.until(Condition::Database, false) => return Err(ConsumerEnd::NoDatabase),
                delivered = subscription.next() => {
                    let mut delivered = vec![delivered?.ok_or(ConsumerEnd::Cancelled)?];
                    self.admitter.store.keep_pace(&mut taken_at).await;
                    // What has come in the meantime is taken in with it. An end of the stream shows again next time.
                    while delivered.len() < TOGETHER
                        && let Some(Ok(Some(next))) = subscription.next().now_or_never()
                    {
                        delivered.push(next);
                    }
                    // When this is left in the middle of a commit, the messages come again, as duplicates if the
                    // commit has succeeded.
                    tokio::select! {
                        handled = self.handle(&delivered) => handled?,
                        () = self.readiness.until(Condition::Database, false) => return Err(ConsumerEnd::NoDatabase),
                        reason = link.down() => return Err(ConsumerEnd::Down(reason)),
                    }
                }
            }
        }
    }

    /// Stops the deliveries; messages that are here already go back to the queue with the connection.
    async fn stop_deliveries(&self, subscription: &mut Subscription) -> ConsumerEnd {
        if let Err(error) = subscription.cancel().await {
            tracing::debug!(%error, "the consumer couldn't be cancelled; it ends with its connection");
        }
        ConsumerEnd::Drained
    }

    /// Waits for the next heartbeat that the database takes: a write, since a database that answers may still refuse
    /// those.
    async fn wait_for_database(&self) {
        tracing::error!("the database fails: consuming stops until it takes writes again");
        tokio::select! {
            () = self.readiness.until(Condition::Database, true) => tracing::info!("the database is back"),
            () = self.drain.token().cancelled() => {}
        }
    }

    async fn handle(&self, delivered: &[Delivered]) -> Result<(), ConsumerEnd> {
        let arrived: Arc<[Arrived]> = delivered.iter().map(|delivered| self.decode(delivered)).collect();
        let done = self.admit_together(arrived.clone()).await;
        for ((delivered, message), done) in delivered.iter().zip(arrived.iter()).zip(done) {
            if !done {
                self.commit(message.message.clone()).instrument(message.span.clone()).await?;
            }
            if !failpoint::around(Failpoint::Ack, delivered.ack()).await? {
                tracing::warn!("the acknowledgement came too late; the message will come again and be a duplicate");
            }
        }
        Ok(())
    }

    /// Commits what the message calls for, or holds it. Without a database neither can be done, and both are tried again.
    async fn commit(&self, message: ReadMessage) -> Result<(), ConsumerEnd> {
        let away = AtomicU32::new(0);
        let commit_once = || async {
            match self.admit_or_hold(&message, &away).await {
                // What can't be held either is given back, which is done so often only.
                Err(error)
                    if error.is_away()
                        && (away.load(Ordering::Relaxed) <= AWAY_TIMES
                            || !self.admitter.store.takes_writes().await) =>
                {
                    Err(error)
                }
                final_outcome => Ok(final_outcome),
            }
        };
        Ok(do_or_wait_for("database", RetryPolicy::RECONNECT, &self.drain, commit_once)
            .await
            .ok_or(ConsumerEnd::Drained)??)
    }

    fn decode(&self, delivered: &Delivered) -> Arrived {
        let incoming = delivered.incoming.without_nul();
        let read = slipway_protocol::read(&incoming.body, &incoming.metadata());
        let (envelope, tracestate) = read_envelope(&read);
        let span = telemetry::processing_span(topology::DEPLOYMENTS_QUEUE, &envelope, tracestate.as_deref(), &incoming);
        let is_failing = self.holding.is_failing(&read);
        Arrived { message: Arc::new((read, incoming)), span, is_failing }
    }

    /// Takes in what can be taken in together; gives for each whether it's done.
    async fn admit_together(&self, arrived: Arc<[Arrived]>) -> Vec<bool> {
        let (count, admitter) = (arrived.len(), self.admitter.clone());
        let admitting = async move { admitter.admit_plain(&arrived).await };
        in_time(admitting).await.unwrap_or_else(|error| {
            let error = error.summary();
            tracing::debug!(error, "messages couldn't be taken in together, and are one by one");
            vec![false; count]
        })
    }

    /// `away`: how often the database was away at this message.
    async fn admit_or_hold(&self, message: &ReadMessage, away: &AtomicU32) -> Result<(), StoreError> {
        let (read, incoming) = &**message;
        let hold = async |reason: &str| self.holding.hold(&self.admitter, read, incoming, reason).await;
        if self.holding.is_failing(read) && hold("others of its project can't be taken in").await? {
            return Ok(());
        }
        let (admitter, message) = (self.admitter.clone(), message.clone());
        let admitted = in_time(async move { admitter.admit(&message.0, &message.1).await }).await;
        match admitted {
            // One that always ends its connection looks like a database that is away, but that this can't be written then.
            Err(error)
                if !error.fails_at_any()
                    && (!error.is_away() || away.fetch_add(1, Ordering::Relaxed) >= AWAY_TIMES)
                    && hold(&error.summary()).await? =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }
}

/// What the store answers within [`TRY_TIME`]. A task of its own: cut off in a statement, it would leave that to whoever uses
/// its connection next. Should it succeed after all, what came with it is a duplicate.
async fn in_time<T: Send + 'static>(
    admitting: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::time::timeout(TRY_TIME, tokio::spawn(admitting.in_current_span())).await {
        Ok(Ok(admitted)) => admitted,
        Ok(Err(ended)) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Ok(Err(_)) | Err(_) => Err(StoreError::TimedOut(TRY_TIME)),
    }
}
