//! Repeats a write of an attempt while the database is away. It never gives up by itself: the attempt's lease runs out
//! beside it, and that ends the attempt.

use std::time::Duration;

use crate::store::StoreError;
use crate::telemetry::OutageLog;

/// Repeats a write while the database is away, as long as the lease is held.
pub(super) async fn persist<T, F>(write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut outages = OutageLog::new("attempt");
    loop {
        match write().await {
            Err(error) if error.is_transient() => {
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
