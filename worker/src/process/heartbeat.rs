//! The worker's heartbeat: a row in the database that is written every few seconds. `slipway status` shows which
//! workers live, and the worker learns whether the database takes writes, which a ping doesn't show. Nothing is decided
//! by these rows: whose deployment a worker may take over is decided by leases.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::readiness::{Condition, Readiness};
use crate::store::{Store, StoreError};

/// How often the row is written.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// How long one write may take. A frozen database is noticed within seven seconds.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes this worker's heartbeat.
pub struct WorkerHeartbeat {
    /// Where it's written.
    pub store: Store,
    /// Where it's shown whether the database takes writes.
    pub readiness: Readiness,
    /// Cancelled when the worker stops.
    pub stop: CancellationToken,
}

impl WorkerHeartbeat {
    /// Runs until it's stopped; then the worker counts as gone at once.
    pub async fn run(self) {
        while !self.stop.is_cancelled() {
            match self.write_heartbeat().await {
                Ok(()) => self.readiness.set_met(Condition::Database),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.readiness.set_unmet(Condition::Database, format!("the database fails: {error}"));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(HEARTBEAT_INTERVAL) => {}
            }
        }
        if let Err(error) = self.store.remove_heartbeat().await {
            tracing::debug!(%error, "the end of this worker couldn't be written beside its heartbeat");
        }
    }

    async fn write_heartbeat(&self) -> Result<(), StoreError> {
        let write = self.store.record_heartbeat(env!("CARGO_PKG_VERSION"));
        tokio::time::timeout(HEARTBEAT_TIMEOUT, write).await.map_err(|_| StoreError::TimedOut(HEARTBEAT_TIMEOUT))?
    }
}
