//! Renews the lease of a running attempt, and cancels the attempt when somebody has asked for that. What ends when the
//! lease is lost is decided in `attempt`.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::cancellation::{Canceller, StopReason};
use crate::store::{Lease, RenewOutcome, Store, StoreError};

/// Until when a lease that was asked for at `asked` is certain: the database's clock starts no earlier.
pub(crate) fn certain_until(asked: Instant, span: Duration) -> Instant {
    asked + span * 4 / 5
}

/// Renews the lease, and cancels the attempt when somebody has asked for that; returns when the lease is lost, or when
/// it may have expired without our knowing. `held_until` always says until when the lease is certain.
///
/// It's a task of its own, since an attempt that computes, or waits for something without giving way, would keep its own
/// task from renewing.
pub(super) async fn keep_lease(
    (store, span): (Store, Duration),
    lease: Lease,
    held_until: watch::Sender<Instant>,
    canceller: Canceller,
    mut cancel_requests: watch::Receiver<()>,
) {
    // Asked for just now.
    let mut next = (Instant::now() + span / 5).min(*held_until.borrow());
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            Ok(()) = cancel_requests.changed() => {}
        }
        let (asked, safe_until) = (Instant::now(), *held_until.borrow());
        let renewal = tokio::time::timeout_at(safe_until, store.renew(&lease, span)).await;
        match renewal {
            Ok(Ok(outcome)) => {
                held_until.send_replace(certain_until(asked, span));
                if outcome == RenewOutcome::Cancel {
                    canceller.cancel(StopReason::Cancelled);
                }
            }
            Ok(Err(StoreError::LeaseLost)) => break,
            Ok(Err(error)) if Instant::now() < safe_until => {
                tracing::warn!(%error, "the lease couldn't be renewed yet")
            }
            Ok(Err(_)) | Err(_) => break,
        }
        // No later than the end of what's certain: the running command must be dead before the lease expires.
        next = (Instant::now() + span / 5).min(*held_until.borrow());
    }
    // Here too, since the attempt may be busy.
    canceller.cancel(StopReason::LeaseLost);
    // Only logged as information: the attempt may just have ended, and its lease with it.
    tracing::info!(deployment.id = %lease.deployment, "the lease can't be renewed any more: what still runs is cancelled");
}
