//! What stops a running attempt in the midst of a stage, and why.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slipway_deploy::bounds;
use tokio_util::sync::CancellationToken;

/// How long what runs may take to end once it's told to: its commands are killed in [`bounds::KILL_GRACE`], and what
/// then still doesn't end is left to itself.
pub(crate) const WIND_UP: Duration = bounds::KILL_GRACE.saturating_add(Duration::from_secs(5));

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
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
}

/// Pulled once: the first reason counts. Losing the lease ends what is put back afterwards as well.
#[derive(Debug, Clone)]
pub(super) struct Brake {
    why: Arc<OnceLock<Why>>,
    stop: CancellationToken,
    lost: CancellationToken,
}

impl Brake {
    pub(super) fn new() -> Self {
        let lost = CancellationToken::new();
        Self { why: Arc::default(), stop: lost.child_token(), lost }
    }

    /// Ends the running command.
    pub(super) fn pull(&self, why: Why) {
        let _ = self.why.set(why);
        if why == Why::LeaseLost { self.lost.cancel() } else { self.stop.cancel() }
    }

    /// Why it was pulled, if it was.
    pub(super) fn pulled(&self) -> Option<Why> {
        self.why.get().copied()
    }

    /// Whether the lease is lost, whyever it was pulled first.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Cancelled when it's pulled.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Cancelled when the lease is lost, whatever else was.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.child_token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts_but_a_lost_lease_stops_what_comes_after_it_too() {
        let brake = Brake::new();
        brake.pull(Why::Cancelled);
        let settling = brake.lost();
        assert!(brake.stop().is_cancelled() && !settling.is_cancelled());
        brake.pull(Why::LeaseLost);
        assert!(settling.is_cancelled() && brake.is_lost());
        assert_eq!(brake.pulled(), Some(Why::Cancelled));
    }
}
