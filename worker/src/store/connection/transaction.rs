//! Transactions, and the ends of deployments in them: whoever commits an end counts it, once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::Transaction;
use slipway_protocol::Outcome;
use tokio_postgres::Row;

use crate::failpoint;
use crate::failpoint::TransactionKind;
use crate::store::connection::client::{StatementValues, StoreClient, hear_out, prepared};
use crate::store::connection::pooler::{self, ParameterTypes};
use crate::store::connection::wakeups::{self, ProcessSignals};
use crate::store::{Result, Store};
use crate::telemetry::Metrics;

/// A transaction under way; dropped, nothing of it has happened.
pub(in crate::store) struct StoreTransaction<'c> {
    inner: Transaction<'c>,
    ended: Mutex<Vec<Outcome>>,
    heard: Arc<ProcessSignals>,
    types: Option<Arc<ParameterTypes>>,
    wakes_runner: AtomicBool,
    wakes_relay: AtomicBool,
}

prepared!(StoreTransaction<'_>, inner, heard, types);

impl Store {
    /// The rows that fulfil conditions of which some may be absent, by a plan for these values.
    pub(in crate::store) async fn filtered(&self, sql: &str, values: StatementValues<'_>) -> Result<Vec<Row>> {
        let mut client = self.client().await?;
        let tx = StoreTransaction::begin(&mut client).await?;
        tx.plan_by_values().await?;
        Ok(tx.query(sql, values).await?)
    }

    /// Marks what was sent: all others wait for that.
    pub(in crate::store) async fn mark(&self, sql: &str, values: StatementValues<'_>) -> Result<Vec<Row>> {
        let client = self.marks_client().await?;
        self.write_shortly(client, &[TransactionKind::MarkPublished], sql, values, || ()).await
    }

    /// Writes by a statement that is ended if it takes long, on a connection for such; `told` is called once it may be committed.
    pub(in crate::store) async fn write_shortly(
        &self,
        mut client: StoreClient,
        writes: &[TransactionKind],
        sql: &str,
        values: StatementValues<'_>,
        told: impl Fn(),
    ) -> Result<Vec<Row>> {
        if client.2.is_none() {
            let rows = failpoint::around_commit(writes, client.query(sql, values)).await;
            told();
            return Ok(rows?);
        }
        // Nobody knows what limits the session has.
        let tx = StoreTransaction::begin(&mut client).await?;
        let rows = tx.query(sql, values).await?;
        let committed = commit_many(tx, writes).await;
        told();
        committed.map(|()| rows)
    }
}

impl<'c> StoreTransaction<'c> {
    pub(in crate::store) async fn begin(client: &'c mut StoreClient) -> Result<Self> {
        let (heard, types, times) = (client.1.clone(), client.2.clone(), client.3);
        let inner = heard_out(client.0.transaction().await).await?;
        if types.is_some() {
            inner.batch_execute(&pooler::limits("SET LOCAL", times)).await?;
        }
        Ok(Self {
            inner,
            ended: Mutex::default(),
            heard,
            types,
            wakes_runner: AtomicBool::new(false),
            wakes_relay: AtomicBool::new(false),
        })
    }

    /// Has PostgreSQL end what takes long in this transaction, since others wait for it.
    pub(in crate::store) async fn hurry(&self) -> Result<()> {
        self.execute(&format!("SELECT {}", pooler::short_limits()), &[]).await?;
        Ok(())
    }

    /// Has the statements of this transaction planned for their values: for conditions of which some aren't asked for, and
    /// where it matters whether a value is a rare one.
    pub(in crate::store) async fn plan_by_values(&self) -> Result<()> {
        Ok(self.inner.batch_execute("SET LOCAL plan_cache_mode = force_custom_plan").await?)
    }

    /// Has a deployment claimed that may be claimed once this transaction is committed: by this process, if its runner
    /// has a free slot, and otherwise by whoever has one.
    pub(in crate::store) async fn wake_runner(&self) -> Result<()> {
        if let Some(channel) = self.others_to_wake() {
            self.execute("SELECT pg_notify($1, '')", &[&channel]).await?;
        }
        Ok(())
    }

    /// As [`Self::wake_runner`], for a statement that notifies itself: the channel, if others have to be told.
    pub(in crate::store) fn others_to_wake(&self) -> Option<&'static str> {
        let reserved = self.heard.reserve_slot();
        self.wakes_runner.fetch_or(reserved, Ordering::AcqRel);
        (!reserved).then_some(wakeups::DEPLOYMENTS)
    }

    /// As [`Self::others_to_wake`], when an attempt ends: a runner that is at work here asks anyway, with the slot that
    /// becomes free.
    pub(in crate::store) fn others_to_wake_after_attempt(&self) -> Option<&'static str> {
        if !self.heard.has_runner() {
            return self.others_to_wake();
        }
        self.wakes_runner.store(true, Ordering::Release);
        None
    }

    /// Has the relay send what this transaction tells, once it's committed. In a worker that comes after the commit; another
    /// process may have ended by then, and its statement notifies: the channel.
    pub(in crate::store) fn relay_to_wake(&self) -> Option<&'static str> {
        let channel = self.heard.relay_to_notify();
        self.wakes_relay.fetch_or(channel.is_none(), Ordering::AcqRel);
        channel
    }

    /// As [`Self::wake_runner`], when an attempt ends.
    pub(in crate::store) async fn wake_after_attempt(&self) -> Result<()> {
        if let Some(channel) = self.others_to_wake_after_attempt() {
            self.execute("SELECT pg_notify($1, '')", &[&channel]).await?;
        }
        Ok(())
    }

    /// Whether what is held comes first this time, and not the others.
    pub(in crate::store) fn turn_of_held(&self) -> bool {
        self.heard.turn_of_held.fetch_xor(true, Ordering::AcqRel)
    }

    /// Has the end of a deployment counted once this transaction is committed.
    pub(in crate::store) fn count_end(&self, outcome: Outcome) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
    }
}

/// The answer; what ends its connection is heard out.
async fn heard_out<T>(answer: std::result::Result<T, tokio_postgres::Error>) -> Result<T> {
    if let Err(error) = &answer {
        hear_out(error).await;
    }
    Ok(answer?)
}

/// Commits `tx`, which is one write.
pub(in crate::store) async fn commit(tx: StoreTransaction<'_>, write: TransactionKind) -> Result<()> {
    commit_many(tx, &[write]).await
}

/// Commits `tx`; the only place that does, so that every write is a boundary at which tests let a worker die, and every
/// end is counted. One whose commit is never answered isn't: whether it came about, only the database knows.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(in crate::store) async fn commit_many(tx: StoreTransaction<'_>, writes: &[TransactionKind]) -> Result<()> {
    let ended = tx.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    let committed = failpoint::around_commit(writes, tx.inner.commit()).await;
    // Also where the answer is lost: it may be committed.
    if tx.wakes_relay.into_inner() {
        tx.heard.wake_relay();
    }
    heard_out(committed).await?;
    if tx.wakes_runner.into_inner() {
        tx.heard.deployments.notify_one();
    }
    if writes.contains(&TransactionKind::Claim) || !ended.is_empty() {
        tx.heard.announcements.notify_one();
    }
    ended.into_iter().for_each(|outcome| Metrics::get().ended(outcome));
    Ok(())
}
