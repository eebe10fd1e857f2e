//! The deadline of every call of the store: a frozen database must not freeze its callers.

use std::time::Duration;

use crate::store::{Result, StoreError};

/// The longest that any call of the store takes before it fails with [`StoreError::TimedOut`].
pub const DEADLINE: Duration = Duration::from_secs(15);

/// So long after its last words a connection that has ended is known to have, and isn't lent to the next call.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Ends a call that the database doesn't answer: a frozen server keeps its connections open.
pub(in crate::store) async fn deadline<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(DEADLINE, work).await.map_err(|_| StoreError::TimedOut(DEADLINE))?;
    if done.as_ref().is_err_and(StoreError::is_away) {
        tokio::time::sleep(LAST_WORDS).await;
    }
    done
}
