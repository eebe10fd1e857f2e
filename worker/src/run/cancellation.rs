//! What stops a running attempt in the middle of a stage, and why. Who asks for it is in `lease_keeper`, `stages` and
//! `progress`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slipway_deploy::bounds;
use tokio_util::sync::CancellationToken;

/// How long what runs may take to end once it's cancelled, for whatever reason: its commands are killed within
/// [`bounds::KILL_GRACE`], and what doesn't end even then is no longer waited for. That may be longer than the rest of
/// a lease that couldn't be renewed: whoever claims next finds the running command by the project's lock on the server,
/// and ends it there.
pub(crate) const SHUTDOWN_GRACE: Duration = bounds::KILL_GRACE.saturating_add(Duration::from_secs(5));

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Another worker may act on the project.
    LeaseLost,
    /// Somebody asked to cancel the deployment.
    Cancelled,
    /// The time for this worker's drain is over.
    Drained,
    /// The stage takes too long.
    StageOverdue,
    /// The deployment takes too long.
    Overdue,
    /// The server's host key was trusted at first sight, and meanwhile another one is pinned.
    HostKeyMismatch,
}

/// Cancels an attempt; the first reason counts. Restoring the previous release, which may follow, is ended only by a
/// lost lease or by a wrong host key.
#[derive(Debug, Clone)]
pub(super) struct Canceller {
    reason: Arc<OnceLock<StopReason>>,
    stop_token: CancellationToken,
    abort_token: CancellationToken,
    lease_lost: CancellationToken,
}

impl Canceller {
    pub(super) fn new() -> Self {
        let lease_lost = CancellationToken::new();
        let abort_token = lease_lost.child_token();
        Self { reason: Arc::default(), stop_token: abort_token.child_token(), abort_token, lease_lost }
    }

    /// Ends the running command, and with [`StopReason::LeaseLost`] or [`StopReason::HostKeyMismatch`] a restore, too.
    pub(super) fn cancel(&self, reason: StopReason) {
        let _ = self.reason.set(reason);
        match reason {
            StopReason::LeaseLost => self.lease_lost.cancel(),
            StopReason::HostKeyMismatch => self.abort_token.cancel(),
            _ => self.stop_token.cancel(),
        }
    }

    /// Why the attempt was cancelled first, if it was.
    pub(super) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// Whether the lease is lost, whatever the first reason was.
    pub(super) fn is_lease_lost(&self) -> bool {
        self.lease_lost.is_cancelled()
    }

    /// Whether the server may be another one, whatever the first reason was.
    pub(super) fn has_host_key_mismatch(&self) -> bool {
        self.abort_token.is_cancelled() && !self.is_lease_lost()
    }

    /// Cancelled for any reason.
    pub(super) fn stop_token(&self) -> CancellationToken {
        self.stop_token.clone()
    }

    /// Cancelled when nothing more may be done on the server.
    pub(super) fn abort_token(&self) -> CancellationToken {
        self.abort_token.child_token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts_and_a_lost_lease_or_another_server_ends_a_restore_too() {
        for worse in [StopReason::LeaseLost, StopReason::HostKeyMismatch] {
            let canceller = Canceller::new();
            canceller.cancel(StopReason::Cancelled);
            let restore = canceller.abort_token();
            assert!(canceller.stop_token().is_cancelled() && !restore.is_cancelled());
            canceller.cancel(worse);
            assert!(restore.is_cancelled());
            assert_eq!(
                (canceller.is_lease_lost(), canceller.has_host_key_mismatch()),
                (worse == StopReason::LeaseLost, worse == StopReason::HostKeyMismatch)
            );
            assert_eq!(canceller.reason(), Some(StopReason::Cancelled));
        }
    }
}
