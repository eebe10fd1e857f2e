//! Whose turn it is. Under a lock that lets one claim decide after the other, the load is fetched; what may be claimed
//! in view of the limits and the servers' circuits is decided in [`crate::scheduler`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use crate::scheduler::{Limits, Load};
use crate::store::Result;
use crate::store::deployment::head::{DeploymentHead, HEAD_COLUMNS, log_unreadable_once};
use crate::store::deployment::skipped::skipped;
use crate::store::server::circuit_breaker;

/// Key of the advisory lock under which claims decide ("claim" in ASCII).
const CLAIM_LOCK: i64 = 0x63_6c_61_69_6d;

/// What a worker asks for when it claims, and what it must not exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimOptions {
    /// How long the lease lasts at first.
    pub lease: Duration,
    /// What all workers together never exceed.
    pub limits: Limits,
    /// Where this worker pulls images from.
    pub registry: String,
}

/// The duration of the lease alone: with the default limits, and no registry that they apply to.
impl From<Duration> for ClaimOptions {
    fn from(lease: Duration) -> Self {
        Self { lease, limits: Limits::default(), registry: String::new() }
    }
}

/// The head of the queue of each server that isn't left out, and of these the one that has been due for longest. What
/// came after an undeployment that is half done waits for it, also while that waits for its next attempt. The
/// recursion steps from server to server through the index, so that the length of their queues doesn't matter.
const NEXT_DUE: &str = "
    WITH RECURSIVE queue (server) AS (
        SELECT min(server) FROM deployments WHERE state = 'pending'
        UNION ALL
        SELECT (SELECT min(d.server) FROM deployments d WHERE d.state = 'pending' AND d.server > q.server)
        FROM queue q WHERE q.server IS NOT NULL
    )
    SELECT head.id, q.server FROM queue q CROSS JOIN LATERAL (
        SELECT id, run_at, arrival FROM deployments d
        WHERE state = 'pending' AND d.server = q.server AND run_at <= now() AND id <> ALL ($2)
          AND ($3 OR action NOT IN ('deploy', 'rollback') OR cancel_requested_at IS NOT NULL)
          AND NOT EXISTS (SELECT 1 FROM project_leases l WHERE l.project_slug = d.project_slug
                          AND l.server = d.server AND l.expires_at > now())
          AND NOT EXISTS (SELECT 1 FROM deployments u WHERE u.state = 'pending' AND u.action = 'undeploy'
                          AND u.fence IS NOT NULL AND u.project_slug = d.project_slug AND u.server = d.server
                          AND u.arrival < d.arrival)
        ORDER BY run_at, arrival LIMIT 1
    ) head
    WHERE q.server <> ALL ($1) ORDER BY head.run_at, head.arrival LIMIT 1";

/// Locks the deployment whose turn it is; none other is claimed before this transaction ends.
pub(in crate::store) async fn lock_next_due(
    tx: &Transaction<'_>,
    options: &ClaimOptions,
) -> Result<Option<(DeploymentHead, Row)>> {
    let (mut closed_servers, may_pull) = capacity(tx, options).await?;
    let mut unreadable = skipped();
    let lock = format!(
        "SELECT {HEAD_COLUMNS}, request, waits FROM deployments WHERE id = $1 AND state = 'pending' FOR UPDATE SKIP LOCKED"
    );
    while let Some(head) = tx.query_opt(NEXT_DUE, &[&closed_servers, &unreadable, &may_pull]).await? {
        let id: Uuid = head.get("id");
        let Some(row) = tx.query_opt(&lock, &[&id]).await? else {
            // It's being cancelled or superseded: nobody waits for that.
            closed_servers.push(head.get("server"));
            continue;
        };
        match DeploymentHead::read(&row) {
            Ok(head) => return Ok(Some((head, row))),
            Err(error) => {
                log_unreadable_once(id, &error);
                unreadable.push(id);
            }
        }
    }
    Ok(None)
}

/// The servers on which nothing may be claimed now, and whether anything may that pulls images.
async fn capacity(tx: &Transaction<'_>, options: &ClaimOptions) -> Result<(Vec<String>, bool)> {
    // A worker that is frozen in here delays all claims: the database then ends its transaction. After a burst of
    // requests its statistics are old, and it would read the whole table for each server.
    let locked = tx
        .query_one(
            "SELECT set_config('idle_in_transaction_session_timeout', '5s', true),
                    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
                    pg_advisory_xact_lock($1), clock_timestamp() AS now",
            &[&CLAIM_LOCK],
        )
        .await?;
    let load = load(tx, &options.registry).await?;
    Ok((load.closed_servers(&options.limits, locked.get::<_, Timestamp>("now")), load.may_pull(&options.limits)))
}

async fn load(tx: &Transaction<'_>, registry: &str) -> Result<Load<String>> {
    let rows = tx
        .query(
            "SELECT d.server, count(*) AS attempts,
                 count(*) FILTER (WHERE d.registry = $1 AND d.action IN ('deploy', 'rollback')) AS pulling
             FROM deployments d JOIN project_leases l
               ON l.project_slug = d.project_slug AND l.server = d.server AND l.fence = d.fence
             WHERE d.state = 'running' AND l.expires_at > now() GROUP BY d.server",
            &[&registry],
        )
        .await?;
    let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut load =
        Load { attempts: BTreeMap::new(), in_registry: 0, circuits: circuit_breaker::read_circuits(tx).await? };
    for row in &rows {
        load.attempts.insert(row.get("server"), count(row.get("attempts")));
        load.in_registry += count(row.get("pulling"));
    }
    Ok(load)
}
