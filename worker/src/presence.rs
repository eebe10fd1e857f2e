//! The worker's sign of life in the database, every few seconds: `slipway status` shows who lives, and the worker
//! learns whether the database answers and takes writes, which a ping doesn't tell. Nothing is decided by these rows.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::readiness::{Condition, Readiness};
use crate::store::{Store, StoreError};

/// How often.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
/// How long the database may take for one. A frozen one is noticed within seven seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Says that this worker lives.
pub struct WorkerHeartbeat {
    /// Where.
    pub store: Store,
    /// Told whether the database takes it.
    pub readiness: Readiness,
    /// When to stop.
    pub stop: CancellationToken,
}

impl WorkerHeartbeat {
    /// Goes on until it's stopped; then the worker counts as gone at once.
    pub async fn run(self) {
        while !self.stop.is_cancelled() {
            match self.sign().await {
                Ok(()) => self.readiness.met(Condition::Database),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.readiness.unmet(Condition::Database, format!("the database fails: {error}"));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(BEAT) => {}
            }
        }
        if let Err(error) = self.store.remove_heartbeat().await {
            tracing::debug!(%error, "this worker's last sign of life stays");
        }
    }

    async fn sign(&self) -> Result<(), StoreError> {
        let sign = self.store.record_heartbeat(env!("CARGO_PKG_VERSION"));
        tokio::time::timeout(PATIENCE, sign).await.map_err(|_| StoreError::TimedOut(PATIENCE))?
    }
}
