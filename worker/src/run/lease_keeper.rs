//! Renews the leases of all running attempts of a worker, together, and cancels those that somebody has asked to cancel. What
//! ends when a lease is lost is decided in `attempt`.
//!
//! It has a thread and an event loop of its own: attempts that compute, or are many on a busy machine, would keep renewals
//! waiting behind them, while a thread that mostly sleeps is let run at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use slipway_protocol::DeploymentId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cancellation::{Canceller, StopReason};
use crate::store::{Fence, Lease, LeaseRenewal, RenewOutcome, Store, StoreError};
use crate::telemetry::OutageLog;

/// Until when a lease that was asked for at `asked` is certain: the database's clock starts no earlier.
pub(crate) fn certain_until(asked: Instant, span: Duration) -> Instant {
    asked + span * 4 / 5
}

/// The leases of the running attempts.
#[derive(Clone)]
pub(super) struct LeaseKeeper {
    store: Store,
    span: Duration,
    kept: Arc<Mutex<BTreeMap<(DeploymentId, Fence), HeldLease>>>,
    more: Arc<Notify>,
}

/// A lease that is renewed.
struct HeldLease {
    lease: Lease,
    /// Until when it's certain.
    held_until: watch::Sender<Instant>,
    /// When it's renewed next.
    next: Instant,
    canceller: Canceller,
    lost: CancellationToken,
}

/// The thread that renews, until this is dropped.
pub(super) struct RenewalThread {
    thread: JoinHandle<()>,
    _stop: DropGuard,
}

/// A lease is renewed for as long as this lives.
pub(super) struct KeptLease {
    keeper: LeaseKeeper,
    key: (DeploymentId, Fence),
    lost: CancellationToken,
}

impl LeaseKeeper {
    /// Leases last for `span` from each renewal. Nothing is renewed before [`LeaseKeeper::start`].
    pub(super) fn new(store: Store, span: Duration) -> Self {
        Self { store, span, kept: Arc::default(), more: Arc::default() }
    }

    /// Renews a lease from now on; `held_until` always says until when it's certain, and the attempt is cancelled when
    /// somebody has asked for that, or when the lease is lost.
    pub(super) fn keep(&self, lease: &Lease, held_until: watch::Sender<Instant>, canceller: Canceller) -> KeptLease {
        let (key, lost) = ((lease.deployment, lease.fence), CancellationToken::new());
        // A fifth after it was asked for: at once, where the claim has taken that long.
        let next = *held_until.borrow() - self.span * 3 / 5;
        let held = HeldLease { lease: lease.clone(), held_until, next, canceller, lost: lost.clone() };
        self.change(|kept| kept.insert(key, held));
        self.more.notify_one();
        KeptLease { keeper: self.clone(), key, lost }
    }

    /// Renews what is kept, and looks whether something is to be cancelled when that is heard of.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(&self, cancel_requests: watch::Receiver<()>) -> std::io::Result<RenewalThread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (keeper, stop) = (self.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let renewing = move || {
            let _ = runtime.block_on(stopped.run_until_cancelled(keeper.run(cancel_requests)));
        };
        let thread = std::thread::Builder::new().name("leases".to_owned()).spawn(renewing)?;
        Ok(RenewalThread { thread, _stop: stop.drop_guard() })
    }

    async fn run(self, mut cancel_requests: watch::Receiver<()>) {
        let mut outages = OutageLog::new("leases");
        // The first lease mustn't wait for a connection.
        outages.record(self.store.renew_many(&[], self.span).await.map(drop));
        loop {
            let next = self.change(|kept| kept.values().map(|held| held.next).min());
            tokio::select! {
                () = async {
                    match next {
                        Some(next) => tokio::time::sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                } => outages.record(self.renew_due(self.span / 10).await),
                Ok(()) = cancel_requests.changed() => outages.record(self.renew_due(self.span).await),
                () = self.more.notified() => {}
            }
        }
    }

    /// Renews those that are due within `soon`. Where the database fails it isn't known of any of them whether it's renewed;
    /// they are tried again as long as they are certain.
    async fn renew_due(&self, soon: Duration) -> Result<(), StoreError> {
        let asked = Instant::now();
        let (due, safe_until) = self.change(|kept| {
            let due = kept.values().filter(|held| held.next <= asked + soon);
            let (due, until): (Vec<Lease>, Vec<Instant>) =
                due.map(|held| (held.lease.clone(), *held.held_until.borrow())).unzip();
            (due, until.into_iter().min().unwrap_or(asked))
        });
        if due.is_empty() {
            return Ok(());
        }
        // No later than the end of what's certain: the running command must be dead before the lease expires.
        let renewing = tokio::time::timeout_at(safe_until, self.store.renew_many(&due, self.span));
        let renewed = renewing.await.unwrap_or_else(|_| Err(StoreError::TimedOut(asked.elapsed())));
        let (renewed, outcome) = match renewed {
            Ok(renewed) => (renewed, Ok(())),
            Err(error) => (vec![LeaseRenewal::Busy; due.len()], Err(error)),
        };
        for (lease, renewal) in due.iter().zip(renewed) {
            self.settle(lease, renewal, asked);
        }
        outcome
    }

    /// Has happen what follows for one lease.
    fn settle(&self, lease: &Lease, renewal: LeaseRenewal, asked: Instant) {
        let key = (lease.deployment, lease.fence);
        let lost = self.change(|kept| {
            let held = kept.get_mut(&key)?;
            let until = *held.held_until.borrow();
            match renewal {
                LeaseRenewal::Renewed(outcome) => {
                    let until = certain_until(asked, self.span);
                    held.held_until.send_replace(until);
                    held.next = (asked + self.span / 5).min(until);
                    if outcome == RenewOutcome::Cancel {
                        held.canceller.cancel(StopReason::Cancelled);
                    }
                    None
                }
                LeaseRenewal::Busy if Instant::now() < until => {
                    held.next = (Instant::now() + self.span / 20).min(until);
                    None
                }
                LeaseRenewal::Busy | LeaseRenewal::Lost => kept.remove(&key),
            }
        });
        if let Some(held) = lost {
            // Here too, since the attempt may be busy.
            held.canceller.cancel(StopReason::LeaseLost);
            held.lost.cancel();
            // Only logged as information: the attempt may just have ended, and its lease with it.
            tracing::info!(deployment.id = %lease.deployment, "the lease can't be renewed any more: what still runs is cancelled");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<(DeploymentId, Fence), HeldLease>) -> T) -> T {
        change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RenewalThread {
    /// Whether it doesn't renew any more, which is a mistake.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

impl KeptLease {
    /// Waits until the lease is lost, or may have expired without our knowing.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for KeptLease {
    fn drop(&mut self) {
        self.keeper.change(|kept| drop(kept.remove(&self.key)));
    }
}
