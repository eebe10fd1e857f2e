//! The worker's heartbeat: its turn in the fleet. `slipway status` shows which workers live, the worker learns whether
//! the database takes writes, which a ping doesn't show, and what is due until the next turn: that is done at its time,
//! by the parts of this worker that wait for it. Whose deployment a worker may take over is decided by leases.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::readiness::{Condition, Readiness};
use crate::store::{FleetTurn, Store, StoreError, Wakeups, spread};
use crate::telemetry::Metrics;

/// How far apart the turns of all workers are, unless leases are so short that two of them don't fit into one.
pub(crate) const TURN_INTERVAL: Duration = Duration::from_millis(2500);
/// How long one write may take. A frozen database is noticed within ten seconds.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);
/// Within so long all workers ask whose notifications have ended.
const SILENCE_SPREAD: Duration = Duration::from_secs(1);
/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Takes this worker's turns.
pub struct WorkerHeartbeat {
    /// Where they are taken.
    pub store: Store,
    /// Where it's shown whether the database takes writes.
    pub readiness: Readiness,
    /// How long a lease lasts: who holds one and dies is noticed when it expires.
    pub lease: Duration,
    /// Cancelled when the worker stops.
    pub stop: CancellationToken,
}

impl WorkerHeartbeat {
    /// Runs until it's stopped; then the worker counts as gone at once.
    pub async fn run(self) {
        let (wakeups, interval) = (self.store.listen(), turn_interval(self.lease));
        let mut listening = wakeups.listening();
        while !self.stop.is_cancelled() {
            let turn = match self.take_turn(interval).await {
                Ok(turn) => {
                    self.readiness.set_met(Condition::Database);
                    Metrics::get().backlog(turn.backlog.depth, turn.backlog.oldest);
                    turn
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    self.readiness.set_unmet(Condition::Database, format!("the database fails: {error}"));
                    FleetTurn { next: AFTER_FAILURE, ..FleetTurn::default() }
                }
            };
            let next = Instant::now() + turn.next;
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep_until(next) => {}
                () = missed(&wakeups, interval) => {}
                () = fallen_silent(&mut listening) => {}
                () = async {
                    // What is due later is told again before.
                    self.store.follow_turn(turn, interval * 2).await;
                    std::future::pending().await
                } => {}
            }
        }
        if let Err(error) = self.store.remove_heartbeat().await {
            tracing::debug!(%error, "the end of this worker couldn't be written beside its heartbeat");
        }
    }

    async fn take_turn(&self, interval: Duration) -> Result<FleetTurn, StoreError> {
        let write = self.store.take_turn(env!("CARGO_PKG_VERSION"), interval);
        tokio::time::timeout(HEARTBEAT_TIMEOUT, write).await.map_err(|_| StoreError::TimedOut(HEARTBEAT_TIMEOUT))?
    }
}

/// How far apart turns are: with a worker that died, the next one has its turn before leases of the dead one expire.
fn turn_interval(lease: Duration) -> Duration {
    TURN_INTERVAL.min(lease / 2)
}

/// Waits until no notifications come any more: the database may have ended them. Many ask for that one after the other.
async fn fallen_silent(listening: &mut watch::Receiver<bool>) {
    loop {
        if listening.changed().await.is_err() {
            return std::future::pending().await;
        }
        if !*listening.borrow_and_update() {
            break;
        }
    }
    tokio::time::sleep(spread(SILENCE_SPREAD)).await;
}

/// Waits until nobody takes turns any more, though notifications should tell of them: two in a row are missed.
async fn missed(wakeups: &Wakeups, interval: Duration) {
    let mut turns = wakeups.turns();
    loop {
        turns.borrow_and_update();
        let patience = interval * 2 + spread(interval);
        if tokio::time::timeout(patience, turns.changed()).await.is_err() && wakeups.is_listening() {
            return;
        }
    }
}
