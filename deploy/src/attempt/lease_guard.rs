//! An attempt's lease of its project: the number of its claim (the fence), which the server compares, and until when this
//! process may be sure to be the only one. Granting and renewing it is the worker's task.

use std::pin::pin;
use std::task::Poll;

use slipway_protocol::ErrorCode;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::StageError;

/// The right to act on a project. It ends by itself unless it's renewed, and nothing that changes anything is begun
/// after its end: a process that was frozen finds out before it acts, not after.
///
/// The times are of the monotonic clock, which goes on while a process is stopped. It doesn't go on while the whole machine
/// sleeps; then the server refuses the older number.
#[derive(Debug, Clone)]
pub struct LeaseGuard {
    fence: u64,
    sure_until: Option<watch::Receiver<Instant>>,
}

impl LeaseGuard {
    /// The lease of claim number `fence`; `sure_until` is the time until which nobody else can have a newer one.
    #[must_use]
    pub fn new(fence: u64, sure_until: watch::Receiver<Instant>) -> Self {
        Self { fence, sure_until: Some(sure_until) }
    }

    /// A lease without an end, for callers that know that nobody else acts.
    #[must_use]
    pub fn endless(fence: u64) -> Self {
        Self { fence, sure_until: None }
    }

    /// The number of the claim: of two that act on one project, the higher one is right.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether it's certain that nobody else may act on the project.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.sure_until.as_ref().is_none_or(|until| Instant::now() < *until.borrow())
    }

    /// Fails once that isn't certain any more.
    ///
    /// # Errors
    /// `stale-fence`.
    pub(crate) fn check(&self) -> Result<(), StageError> {
        if self.is_sure() {
            return Ok(());
        }
        let message = format!("claim {} wasn't renewed in time: another worker may act on the project", self.fence);
        Err(StageError::new(ErrorCode::StaleFence, message))
    }

    /// Runs `work` for as long as the lease is certain: for writes whose receiver can't compare fences. The clock is
    /// checked before every step of it.
    ///
    /// # Errors
    /// Those of `work`, and `stale-fence`.
    pub(crate) async fn run_while_held<T>(
        &self,
        work: impl Future<Output = Result<T, StageError>>,
    ) -> Result<T, StageError> {
        let mut work = pin!(work);
        std::future::poll_fn(|context| match self.check() {
            Ok(()) => work.as_mut().poll(context),
            Err(lapsed) => Poll::Ready(Err(lapsed)),
        })
        .await
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_ends_by_itself_and_one_that_is_goes_on() {
        let (renew, until) = watch::channel(Instant::now() + Duration::from_secs(3600));
        let lease = LeaseGuard::new(7, until);
        assert!(lease.check().is_ok());
        renew.send(Instant::now()).unwrap();
        assert_eq!(lease.check().unwrap_err().code, ErrorCode::StaleFence);
        renew.send(Instant::now() + Duration::from_secs(3600)).unwrap();
        assert!(lease.is_sure() && lease.fence() == 7);
        assert!(LeaseGuard::endless(1).is_sure());
    }

    #[tokio::test]
    async fn work_that_sleeps_over_the_end_of_its_lease_never_wakes() {
        let (renew, until) = watch::channel(Instant::now() + Duration::from_secs(3600));
        let (go_on, woke) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (asked, witness, lease) = (go_on.clone(), woke.clone(), LeaseGuard::new(7, until));
        let work = tokio::spawn(async move {
            let sleeper = async {
                asked.notified().await;
                witness.store(true, Ordering::SeqCst);
                Ok(())
            };
            lease.run_while_held(sleeper).await
        });
        tokio::task::yield_now().await;
        renew.send(Instant::now()).unwrap();
        go_on.notify_one();
        assert_eq!(work.await.unwrap().unwrap_err().code, ErrorCode::StaleFence);
        assert!(!woke.load(Ordering::SeqCst));
    }
}
