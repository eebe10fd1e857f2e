//! Decisions about time and order, as pure code: which of two requests is the newer one, and what follows from an
//! attempt that failed. No clock, no database.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::StageError;
use slipway_deploy::retry::Policy;
use slipway_protocol::DeploymentId;

/// What a request's place in the order of its project depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The producer's own number.
    pub sequence: Option<u64>,
    /// When the event happened, by the producer's clock.
    pub time: Option<Timestamp>,
    /// When it arrived here, as a growing number.
    pub arrival: i64,
}

impl Order {
    /// Compares by the producer's number when both have one, else by time when both have one, else by arrival; what
    /// ties falls through to the next. A replay ties with its original in all but its arrival, and so comes after it.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        fn both<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
            a.zip(b).map_or(Ordering::Equal, |(a, b)| a.cmp(&b))
        }
        both(self.sequence, other.sequence)
            .then_with(|| both(self.time, other.time))
            .then_with(|| self.arrival.cmp(&other.arrival))
    }
}

/// Another deployment of the same project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival {
    /// Which one.
    pub id: DeploymentId,
    /// Its place.
    pub order: Order,
    /// Whether it hasn't ended.
    pub open: bool,
}

/// What follows from a request's arrival: the latest wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrival {
    /// The newest deployment, when that is newer than the request.
    pub superseded_by: Option<DeploymentId>,
    /// Older deployments that haven't ended and give way to the request.
    pub supersedes: Vec<DeploymentId>,
}

/// Places a request among its rivals.
#[must_use]
pub fn arrive(order: &Order, rivals: &[Rival]) -> Arrival {
    let newer = rivals.iter().filter(|r| r.order.compare(order) == Ordering::Greater);
    let superseded_by = newer.max_by(|a, b| a.order.compare(&b.order)).map(|r| r.id);
    let supersedes = match superseded_by {
        Some(_) => Vec::new(),
        None => rivals.iter().filter(|r| r.open).map(|r| r.id).collect(),
    };
    Arrival { superseded_by, supersedes }
}

/// What follows from an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after this delay.
    Retry(Duration),
    /// None: the error isn't of a kind that goes away by itself.
    Permanent,
    /// None: all attempts are used up.
    Exhausted,
}

/// Decides after attempt number `attempt` (from 1) failed with `error`. The delay is drawn with full jitter and is never
/// shorter than what the other side asked for.
#[must_use]
pub fn after_failure(policy: &Policy, attempt: u32, error: &StageError) -> Next {
    if !error.code.class().retries() {
        return Next::Permanent;
    }
    match policy.delay(attempt) {
        Some(delay) => Next::Retry(delay.max(error.retry_after.unwrap_or_default())),
        None => Next::Exhausted,
    }
}
