//! What a claim has to respect: the limits over all workers, and the servers' circuits. Here it's fetched, under a lock
//! that lets one claim decide after the other; what follows from it is decided in [`crate::scheduler`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Transaction;

use super::{Result, circuits};
use crate::scheduler::{Limits, Load};

/// Key of the advisory lock under which claims decide ("claim" in ASCII).
const LOCK: i64 = 0x63_6c_61_69_6d;

/// On which terms a worker claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How long the lease lasts at first.
    pub lease: Duration,
    /// What all workers together never exceed.
    pub limits: Limits,
    /// Where this worker pulls images from.
    pub registry: String,
}

/// A lease under the default limits, from no registry in particular.
impl From<Duration> for Terms {
    fn from(lease: Duration) -> Self {
        Self { lease, limits: Limits::default(), registry: String::new() }
    }
}

/// The servers on which nothing may be claimed before this transaction ends; `None` when that is so for all.
pub(super) async fn left_out(tx: &Transaction<'_>, terms: &Terms) -> Result<Option<Vec<String>>> {
    // Whoever is stopped in here holds up all claims: the database then ends its transaction.
    let locked = tx
        .query_one(
            "SELECT set_config('idle_in_transaction_session_timeout', '5s', true), pg_advisory_xact_lock($1),
                    clock_timestamp() AS now",
            &[&LOCK],
        )
        .await?;
    let load = load(tx, &terms.registry).await?;
    Ok(load.left_out(&terms.limits, locked.get::<_, Timestamp>("now")))
}

async fn load(tx: &Transaction<'_>, registry: &str) -> Result<Load<String>> {
    let rows = tx
        .query(
            "SELECT d.server, count(*) AS attempts, count(*) FILTER (WHERE d.registry = $1) AS pulling
             FROM deployments d JOIN project_leases l
               ON l.project_slug = d.project_slug AND l.server = d.server AND l.fence = d.fence
             WHERE d.state = 'running' AND l.expires_at > now() GROUP BY d.server",
            &[&registry],
        )
        .await?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut load = Load { attempts: BTreeMap::new(), in_registry: 0, circuits: circuits::all(tx).await? };
    for row in &rows {
        load.attempts.insert(row.get("server"), count(row.get("attempts")));
        load.in_registry += count(row.get("pulling"));
    }
    Ok(load)
}
