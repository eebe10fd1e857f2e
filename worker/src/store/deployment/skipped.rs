//! Deployments at which the database fails though it answers others: they are left out for a while, longer each time, so that
//! those behind them get their turn. This process alone knows of them; another one finds out by itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use slipway_protocol::DeploymentId;
use uuid::Uuid;

use crate::store::{Result, StoreError};

/// So often the database may be away at one before that is left out.
const AWAY_TIMES: u32 = 3;
const FIRST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(600);

static SKIPPED: Mutex<BTreeMap<Uuid, Skipped>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy)]
struct Skipped {
    until: Instant,
    pause: Duration,
    /// How often the database was away at it, one time after the other.
    away: u32,
}

/// The deployments that are left out now.
pub(in crate::store) fn skipped() -> Vec<Uuid> {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    skipped.iter().filter(|(_, skipped)| skipped.until > now).map(|(id, _)| *id).collect()
}

/// Which deployment a call was about, when it looks for one itself.
#[derive(Default)]
pub(in crate::store) struct Picked(OnceLock<Uuid>);

impl Picked {
    /// It's about this one.
    pub(in crate::store) fn is(&self, id: DeploymentId) {
        let _ = self.0.set(id.0);
    }

    /// Leaves the deployment out for a while if the database failed at it, and not altogether.
    pub(in crate::store) fn skip_failing<T>(&self, outcome: Result<T>) -> Result<T> {
        let Some(id) = self.0.get() else { return outcome };
        let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(_) => drop(skipped.remove(id)),
            // A database that is well ends a statement before our own deadline.
            Err(error @ StoreError::Database(_)) if !error.fails_at_any() => {
                let now = Instant::now();
                let at = skipped.entry(*id).or_insert(Skipped { until: now, pause: Duration::ZERO, away: 0 });
                at.away += u32::from(error.is_away());
                // The pick before it had its answer: one at which it's always away ends its connection itself.
                if error.is_away() && at.away < AWAY_TIMES {
                    return outcome;
                }
                let pause = (at.pause * 2).clamp(FIRST, LONGEST);
                *at = Skipped { until: now + pause, pause, away: at.away };
                let (reason, retry_in_s) = (error.summary(), pause.as_secs());
                tracing::error!(deployment.id = %id, reason, retry_in_s, "the database fails at a deployment, and others go on");
            }
            Err(_) => {}
        }
        outcome
    }
}
