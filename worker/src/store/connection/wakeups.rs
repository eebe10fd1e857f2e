//! Who waits for work is woken when there is some: by what this process commits itself, by notifications of others
//! (LISTEN), and at times that a turn of the fleet has told. A notification may be lost with its connection; the next
//! turn finds what it was about. Where no notifications come at all, everybody polls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use tokio::sync::{Notify, watch};
use tokio_util::sync::DropGuard;

/// Channel of deployments that may be claimed and, with [`CANCEL_REQUESTED`], of those that somebody wants to stop.
pub(in crate::store) const DEPLOYMENTS: &str = "slipway_deployments";
/// Payload of [`DEPLOYMENTS`] when running attempts are to look for requests to cancel.
pub(in crate::store) const CANCEL_REQUESTED: &str = "wish";
/// Channel of new rows in the outbox.
pub(in crate::store) const OUTBOX: &str = "slipway_outbox";
/// Channel of branches that are to be looked at.
pub(in crate::store) const PUSHES: &str = "slipway_pushes";
/// Channel of the relay's lease: it was renewed, or, with [`GIVEN_BACK`], is free.
pub(in crate::store) const RELAY: &str = "slipway_relay";
/// Payload of [`RELAY`] when its lease was given back.
pub(in crate::store) const GIVEN_BACK: &str = "free";
/// Channel of turns: some worker lives, and the database takes writes.
pub(in crate::store) const FLEET: &str = "slipway_fleet";

/// How often everybody looks who isn't told of anything, since no notifications come.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// Workers that hear of work ask for it one after the other: so far apart, and all of them within [`LAST_ASKS`].
const ONE_ASKS: Duration = Duration::from_millis(4);
const LAST_ASKS: Duration = Duration::from_millis(250);

/// What a process hears; its parts wait for it.
#[derive(Default)]
pub(in crate::store) struct ProcessSignals {
    pub deployments: Notify,
    pub outbox: Notify,
    /// The relay is elsewhere, and has to be told of what was written to the outbox.
    pub(super) untold: Notify,
    /// Whether the relay is here.
    pub(super) relays: AtomicBool,
    pub pushes: Notify,
    pub expired: Notify,
    pub announcements: Notify,
    pub placements: Notify,
    pub questions: Notify,
    pub halves: Notify,
    pub held: Notify,
    pub(super) turn_of_held: AtomicBool,
    pub relay: watch::Sender<RelayHeard>,
    pub turns: watch::Sender<()>,
    pub(super) cancel_requests: watch::Sender<()>,
    pub(super) listening: watch::Sender<bool>,
    pub(super) listener: std::sync::Mutex<std::sync::Weak<DropGuard>>,
    pub(super) workers: AtomicUsize,
    /// Whether a runner is at work here.
    pub(super) runs: AtomicBool,
    pub(super) running: AtomicUsize,
    /// Slots of the runner that nothing is meant for yet.
    pub(super) free_slots: AtomicUsize,
    pub(super) asks_later: AtomicBool,
    /// Connections from before lead to a server that takes no writes (any more).
    pub(super) stale_before: std::sync::Mutex<Option<std::time::Instant>>,
    pub(super) listens_in_vain: Notify,
}

/// What was heard last of the relay's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayHeard {
    /// Nothing yet.
    #[default]
    Nothing,
    /// It was renewed.
    Renewed,
    /// It's free.
    GivenBack,
}

impl ProcessSignals {
    /// Takes a free slot of this process's runner for work that is being committed; false when others have to be told.
    pub(super) fn reserve_slot(&self) -> bool {
        self.free_slots.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1)).is_ok()
    }

    pub(super) fn has_runner(&self) -> bool {
        self.runs.load(Ordering::Acquire)
    }

    /// The channel that a statement has to notify by itself when it tells something; `None` where [`Self::wake_relay`] does
    /// after the commit.
    pub(super) fn relay_to_notify(&self) -> Option<&'static str> {
        (!self.has_runner()).then_some(OUTBOX)
    }

    /// Events are committed: the relay looks, here or elsewhere.
    pub(super) fn wake_relay(&self) {
        match self.relays.load(Ordering::Acquire) {
            true => self.outbox.notify_one(),
            false => self.untold.notify_one(),
        }
    }

    /// Has no connection used again that is there now.
    pub(super) fn give_up_connections(&self) {
        *self.stale_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::time::Instant::now());
        self.listens_in_vain.notify_one();
    }

    pub(super) fn wake_all(&self) {
        self.deployments.notify_one();
        self.outbox.notify_one();
        self.pushes.notify_one();
        self.cancel_requests.send_replace(());
    }

    /// Has the runner ask after a while, since all the others have heard the same.
    fn ask_in_turn(self: &Arc<Self>) {
        let workers = u32::try_from(self.workers.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        if workers < 2 {
            self.deployments.notify_one();
        } else if !self.asks_later.swap(true, Ordering::AcqRel) {
            let (heard, wait) = (self.clone(), spread(ONE_ASKS.saturating_mul(workers).min(LAST_ASKS)));
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                heard.asks_later.store(false, Ordering::Release);
                heard.deployments.notify_one();
            });
        }
    }

    pub(super) fn take(self: &Arc<Self>, channel: &str, payload: &str) {
        match (channel, payload) {
            (DEPLOYMENTS, CANCEL_REQUESTED) => {
                self.cancel_requests.send_replace(());
                self.ask_in_turn();
            }
            (DEPLOYMENTS, _) => self.ask_in_turn(),
            (OUTBOX, _) => self.outbox.notify_one(),
            (PUSHES, _) => self.pushes.notify_one(),
            (RELAY, GIVEN_BACK) => drop(self.relay.send_replace(RelayHeard::GivenBack)),
            (RELAY, _) => drop(self.relay.send_replace(RelayHeard::Renewed)),
            (FLEET, _) => self.turns.send_replace(()),
            _ => {}
        }
    }
}

/// A random time up to `longest`: many who wait for one thing don't come at once.
pub(crate) fn spread(longest: Duration) -> Duration {
    let policy = RetryPolicy { initial: longest, max: longest, multiplier: 1.0, attempts: u32::MAX };
    policy.delay(1).unwrap_or(longest)
}

/// Wake-ups of this process; notifications come until the last one is dropped.
#[derive(Clone)]
pub struct Wakeups {
    pub(super) heard: Arc<ProcessSignals>,
    pub(super) _listening: Arc<DropGuard>,
}

impl Wakeups {
    /// Waits until there may be a deployment to claim.
    pub async fn deployment(&self) {
        self.wait_for(&self.heard.deployments).await;
    }

    /// Waits until there may be something to publish or to read in the outbox.
    pub async fn outbox(&self) {
        self.wait_for(&self.heard.outbox).await;
    }

    /// Waits until there may be a branch to look at.
    pub async fn push(&self) {
        self.wait_for(&self.heard.pushes).await;
    }

    /// Waits until there may be something that GitHub doesn't know.
    pub async fn announcement(&self) {
        self.wait_for(&self.heard.announcements).await;
    }

    /// Waits until a request may get a server that has none.
    pub async fn placement(&self) {
        self.wait_for(&self.heard.placements).await;
    }

    /// Waits until a server may have to be asked for its facts.
    pub async fn question(&self) {
        self.wait_for(&self.heard.questions).await;
    }

    /// Waits until a lease of a running deployment may have expired.
    pub async fn expired(&self) {
        self.heard.expired.notified().await;
    }

    /// Waits until a half may have waited for long enough.
    pub async fn half(&self) {
        self.heard.halves.notified().await;
    }

    /// Waits until a turn has told that messages are held.
    pub async fn held(&self) {
        self.heard.held.notified().await;
    }

    /// Changes whenever something is heard of the relay's lease.
    #[must_use]
    pub fn relay(&self) -> watch::Receiver<RelayHeard> {
        self.heard.relay.subscribe()
    }

    /// Changes whenever a worker has taken its turn.
    #[must_use]
    pub fn turns(&self) -> watch::Receiver<()> {
        self.heard.turns.subscribe()
    }

    /// Changes whenever somebody may have asked to cancel a running attempt.
    #[must_use]
    pub fn cancel_requests(&self) -> watch::Receiver<()> {
        self.heard.cancel_requests.subscribe()
    }

    /// Whether the relay is in this process: it needn't be notified by the database then.
    pub fn set_relays(&self, relays: bool) {
        self.heard.relays.store(relays, Ordering::Release);
    }

    /// Has the outbox looked at, since something waits in it.
    pub fn look_at_outbox(&self) {
        self.heard.outbox.notify_one();
    }

    /// Whether notifications come.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        *self.heard.listening.borrow()
    }

    /// Changes whenever notifications begin to come or end.
    #[must_use]
    pub fn listening(&self) -> watch::Receiver<bool> {
        self.heard.listening.subscribe()
    }

    /// What is told by notifications, or looked for while there are none.
    async fn wait_for(&self, signal: &Notify) {
        let mut listening = self.heard.listening.subscribe();
        loop {
            let polls = !*listening.borrow_and_update();
            tokio::select! {
                () = signal.notified() => return,
                () = tokio::time::sleep(POLL), if polls => return,
                changed = listening.changed() => if changed.is_err() { return },
            }
        }
    }
}
