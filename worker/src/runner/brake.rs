//! What stops a running attempt in the midst of a stage, and why.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slipway_deploy::bounds;
use tokio_util::sync::CancellationToken;

/// How long what runs may take to end once it's told to, why ever: its commands are killed in [`bounds::KILL_GRACE`],
/// and what then still doesn't end is left to itself. That may be longer than what is left of a lease that couldn't be
/// renewed: whoever claims next finds what still runs at the project's lock on the server, and ends it there.
pub(crate) const WIND_UP: Duration = bounds::KILL_GRACE.saturating_add(Duration::from_secs(5));

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Another worker may act on the project.
    LeaseLost,
    /// Somebody asked to cancel the deployment.
    Cancelled,
    /// This worker's drain is over.
    Drained,
    /// The stage takes too long.
    StageOverdue,
    /// The deployment takes too long.
    Overdue,
    /// The server's host key was trusted at first sight, and meanwhile another one is pinned.
    Mistrust,
}

/// Pulled once: the first reason counts. What is put back afterwards ends only when the lease is lost, or when the
/// server may be another one.
#[derive(Debug, Clone)]
pub(super) struct Canceller {
    why: Arc<OnceLock<StopReason>>,
    stop: CancellationToken,
    hands_off: CancellationToken,
    lost: CancellationToken,
}

impl Canceller {
    pub(super) fn new() -> Self {
        let lost = CancellationToken::new();
        let hands_off = lost.child_token();
        Self { why: Arc::default(), stop: hands_off.child_token(), hands_off, lost }
    }

    /// Ends the running command.
    pub(super) fn pull(&self, why: StopReason) {
        let _ = self.why.set(why);
        match why {
            StopReason::LeaseLost => self.lost.cancel(),
            StopReason::Mistrust => self.hands_off.cancel(),
            _ => self.stop.cancel(),
        }
    }

    /// Why it was pulled, if it was.
    pub(super) fn pulled(&self) -> Option<StopReason> {
        self.why.get().copied()
    }

    /// Whether the lease is lost, whyever it was pulled first.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Whether the server may be another one, whyever it was pulled first.
    pub(super) fn is_mistrusted(&self) -> bool {
        self.hands_off.is_cancelled() && !self.is_lost()
    }

    /// Cancelled when it's pulled.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Cancelled when nothing more may be done on the server, whatever else was.
    pub(super) fn hands_off(&self) -> CancellationToken {
        self.hands_off.child_token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts_but_a_lost_lease_and_another_server_stop_what_comes_after_it_too() {
        for worse in [StopReason::LeaseLost, StopReason::Mistrust] {
            let brake = Canceller::new();
            brake.pull(StopReason::Cancelled);
            let settling = brake.hands_off();
            assert!(brake.stop().is_cancelled() && !settling.is_cancelled());
            brake.pull(worse);
            assert!(settling.is_cancelled());
            assert_eq!(
                (brake.is_lost(), brake.is_mistrusted()),
                (worse == StopReason::LeaseLost, worse == StopReason::Mistrust)
            );
            assert_eq!(brake.pulled(), Some(StopReason::Cancelled));
        }
    }
}
