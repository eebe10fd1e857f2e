//! Transactions, and the ends of deployments in them: whoever commits an end counts it, once.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Transaction;
use slipway_protocol::Outcome;

use crate::failpoint;
use crate::failpoint::{Failpoint, TransactionKind};
use crate::store::Result;
use crate::store::connection::client::{StoreClient, prepared};
use crate::telemetry::Metrics;

/// A transaction under way; dropped, nothing of it has happened.
pub(in crate::store) struct StoreTransaction<'c> {
    inner: Transaction<'c>,
    ended: Mutex<Vec<Outcome>>,
}

prepared!(StoreTransaction<'_>, inner);

impl<'c> StoreTransaction<'c> {
    pub(in crate::store) async fn begin(client: &'c mut StoreClient) -> Result<Self> {
        Ok(Self { inner: client.0.transaction().await?, ended: Mutex::default() })
    }

    /// Has the end of a deployment counted once this transaction is committed.
    pub(in crate::store) fn count_end(&self, outcome: Outcome) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
    }
}

/// Commits `tx`; the only place that does, so that every write is a boundary at which tests let a worker die, and every
/// end is counted. One whose commit is never answered isn't: whether it came about, only the database knows.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(in crate::store) async fn commit(tx: StoreTransaction<'_>, write: TransactionKind) -> Result<()> {
    let ended = tx.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    failpoint::around(Failpoint::Commit(write), tx.inner.commit()).await?;
    ended.into_iter().for_each(|outcome| Metrics::get().ended(outcome));
    Ok(())
}
