//! The deadline of every call of the store: a frozen database must not freeze its callers.

use std::time::Duration;

use crate::store::{Result, StoreError};

/// The longest that any call of the store takes before it fails with [`StoreError::TimedOut`].
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Ends a call that the database doesn't answer: a frozen server keeps its connections open.
pub(in crate::store) async fn deadline<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, work).await.map_err(|_| StoreError::TimedOut(DEADLINE))?
}
