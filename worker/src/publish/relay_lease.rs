//! Holds the relay's lease: renews it in time while this worker is the relay, and takes it when another one has let it
//! expire or has given it back. Until then nothing is asked: the other's renewals are heard of. What the relay sends is
//! in `relay`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::run::certain_until;
use crate::store::{POLL, RelayHeard, RelayLease, RelayStanding, Store, StoreError, Wakeups, spread};
use crate::telemetry::OutageLog;

/// The relay's lease is a quarter longer than a deployment's: what a dead worker left is told within a second after it
/// was taken over, and while nothing happens its renewals are most of what is asked.
const LONGER: (u32, u32) = (5, 4);
/// However long deployments are kept, events don't wait longer for another relay.
pub(crate) const LONGEST: Duration = Duration::from_secs(15);
/// Of many who wait for the lease, one asks first.
const TAKERS_SPREAD: Duration = Duration::from_millis(100);

/// The lease, and until when it's certain that nobody else is the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    lease: RelayLease,
    certain_until: Instant,
}

/// The relay's lease as this worker has it.
#[derive(Clone)]
pub(super) struct LeaseHolder {
    store: Store,
    wakeups: Wakeups,
    span: Duration,
    held: watch::Sender<Option<Held>>,
    doubted: Arc<Notify>,
    asked: Arc<AtomicBool>,
}

impl LeaseHolder {
    /// `lease` is how long a deployment's lasts.
    pub(super) fn new(store: Store, wakeups: Wakeups, lease: Duration) -> Self {
        let span = (lease * LONGER.0 / LONGER.1).min(LONGEST);
        let held = watch::Sender::new(None);
        Self { store, wakeups, span, held, doubted: Arc::default(), asked: Arc::default() }
    }

    /// The lease, while it's certain.
    pub(super) fn sure(&self) -> Option<RelayLease> {
        let held = *self.held.borrow();
        held.filter(|held| Instant::now() < held.certain_until).map(|held| held.lease)
    }

    /// Whether it's known by now if this worker is the relay.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Waits until the lease was taken, renewed or lost.
    pub(super) async fn changed(&self) {
        // Fails only when every sender is gone, and `self` holds one.
        let _ = self.held.subscribe().changed().await;
    }

    /// Waits until it isn't certain any more that this is the lease.
    pub(super) async fn unsure(&self, lease: RelayLease) {
        let mut held = self.held.subscribe();
        loop {
            let Some(until) = held.borrow_and_update().filter(|held| held.lease == lease) else { return };
            tokio::select! {
                _ = held.changed() => {}
                () = tokio::time::sleep_until(until.certain_until) => return,
            }
        }
    }

    /// Another relay has taken over, as it seems: asks at once.
    pub(super) fn doubt(&self) {
        self.held.send_modify(|held| {
            if let Some(held) = held {
                held.certain_until = Instant::now();
            }
        });
        self.doubted.notify_one();
    }

    /// Renews and takes the lease for as long as this is polled.
    pub(super) async fn keep(&self) -> Infallible {
        let mut outages = OutageLog::new("relay's lease");
        let mut heard = self.wakeups.relay();
        self.asked.store(false, Ordering::Release);
        loop {
            heard.borrow_and_update();
            let asked = Instant::now();
            let asking = self.store.take_or_renew_relay_lease(self.held.borrow().map(|held| held.lease), self.span);
            let standing = match tokio::time::timeout(self.span, asking).await {
                Ok(standing) => standing,
                Err(_) => Err(StoreError::TimedOut(self.span)),
            };
            self.asked.store(true, Ordering::Release);
            match standing {
                Ok(standing) => {
                    outages.record(Ok::<_, StoreError>(()));
                    self.record(standing, asked);
                    match standing.lease {
                        Some(_) => self.wait(asked + self.span / 2).await,
                        None => self.stand_by(asked + standing.left, &mut heard).await,
                    }
                }
                Err(error) => {
                    outages.record(Err(error));
                    self.wait(Instant::now() + POLL.min(self.span / 10)).await;
                }
            }
        }
    }

    /// Gives the lease back, so that another relay needn't wait for its end.
    pub(super) async fn give_back(&self) {
        let held = self.held.send_replace(None);
        self.wakeups.set_relays(false);
        if let Some(held) = held
            && let Err(error) = self.store.release_relay_lease(held.lease).await
        {
            tracing::debug!(%error, "the relay's lease couldn't be released; it will expire");
        }
    }

    fn record(&self, standing: RelayStanding, asked: Instant) {
        let held = standing.lease.map(|lease| Held { lease, certain_until: certain_until(asked, self.span) });
        let before = self.held.send_replace(held);
        self.wakeups.set_relays(held.is_some());
        if before.is_some() != held.is_some() {
            tracing::info!(relay = held.is_some(), "this worker has become the relay, or has stopped being it");
        }
        if held.is_some() && standing.waiting {
            self.wakeups.look_at_outbox();
        }
    }

    async fn wait(&self, until: Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.doubted.notified() => {}
        }
    }

    /// Waits until the lease of another relay has expired, which each of its renewals puts off, or was given back.
    async fn stand_by(&self, expires: Instant, heard: &mut watch::Receiver<RelayHeard>) {
        let mut until = expires + spread(TAKERS_SPREAD);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                _ = heard.changed() => {
                    until = Instant::now() + spread(TAKERS_SPREAD);
                    if *heard.borrow_and_update() != RelayHeard::GivenBack {
                        until += self.span;
                    }
                }
            }
        }
    }
}
