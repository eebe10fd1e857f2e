//! An attempt's hold on its project: the number of its claim, which the server compares, and until when this process
//! may count on being the only one. Who grants and renews it is the worker's matter.

use std::pin::pin;
use std::task::Poll;

use slipway_protocol::ErrorCode;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::StageError;

/// The right to act on a project. It ends by itself unless it's renewed, and nothing that changes anything is begun
/// after its end: a process that was frozen finds out before it acts, not after.
///
/// The moments are of the monotonic clock, which goes on while a process is stopped. It doesn't while a whole machine
/// sleeps; then it's the server that refuses the older number.
#[derive(Debug, Clone)]
pub struct LeaseGuard {
    fence: u64,
    sure_until: Option<watch::Receiver<Instant>>,
}

impl LeaseGuard {
    /// The hold of claim number `fence`; `sure_until` tells until when nobody else can have a newer one.
    #[must_use]
    pub fn new(fence: u64, sure_until: watch::Receiver<Instant>) -> Self {
        Self { fence, sure_until: Some(sure_until) }
    }

    /// A hold without an end, for whoever knows that nobody else acts.
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

    /// Refuses once it isn't certain any more.
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

    /// Does `work` for as long as the hold is certain: for writes whose receiver compares no numbers. The clock is
    /// looked at before every step of it.
    ///
    /// # Errors
    /// Those of `work`, and `stale-fence`.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = Result<T, StageError>>) -> Result<T, StageError> {
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
    async fn a_hold_that_is_not_renewed_ends_by_itself_and_one_that_is_goes_on() {
        let (renew, until) = watch::channel(Instant::now() + Duration::from_secs(3600));
        let hold = LeaseGuard::new(7, until);
        assert!(hold.check().is_ok());
        renew.send(Instant::now()).unwrap();
        assert_eq!(hold.check().unwrap_err().code, ErrorCode::StaleFence);
        renew.send(Instant::now() + Duration::from_secs(3600)).unwrap();
        assert!(hold.is_sure() && hold.fence() == 7);
        assert!(LeaseGuard::endless(1).is_sure());
    }

    #[tokio::test]
    async fn work_that_sleeps_over_the_end_of_its_hold_never_wakes() {
        let (renew, until) = watch::channel(Instant::now() + Duration::from_secs(3600));
        let (go_on, woke) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (asked, witness, hold) = (go_on.clone(), woke.clone(), LeaseGuard::new(7, until));
        let work = tokio::spawn(async move {
            let sleeper = async {
                asked.notified().await;
                witness.store(true, Ordering::SeqCst);
                Ok(())
            };
            hold.during(sleeper).await
        });
        tokio::task::yield_now().await;
        renew.send(Instant::now()).unwrap();
        go_on.notify_one();
        assert_eq!(work.await.unwrap().unwrap_err().code, ErrorCode::StaleFence);
        assert!(!woke.load(Ordering::SeqCst));
    }
}
