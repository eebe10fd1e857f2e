//! Repeats a write of an attempt while the database is away: until the attempt's lease has run out beside it, which ends the
//! attempt. What the database fails at though it answers others is given up after some times; the lease expires then, and
//! the interruptions of a deployment are counted.

use std::time::{Duration, Instant};

use crate::store::StoreError;
use crate::telemetry::OutageLog;

/// How often the database may fail at one write, while it answers others.
pub(crate) const MAX_FAILURES: u32 = 4;

/// How long the database may be away for one write. Longer, only this write ends its connections: the lease is still renewed.
pub(crate) const LONGEST_ABSENCE: Duration = Duration::from_secs(900);

/// Repeats a write while the database is away, as long as the lease is held.
pub(super) async fn persist<T, F>(write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut outages = OutageLog::new("attempt");
    let (mut failures, begun) = (0, Instant::now());
    loop {
        match write().await {
            Err(error) if error.is_transient() && failures < MAX_FAILURES && begun.elapsed() < LONGEST_ABSENCE => {
                // A database that is well ends a statement before our own deadline; and the lease is renewed all the time.
                failures += u32::from(matches!(error, StoreError::Database(_)) && !error.is_away());
                outages.record(Err(error));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            outcome => {
                outages.record(Ok::<_, StoreError>(()));
                return outcome;
            }
        }
    }
}
