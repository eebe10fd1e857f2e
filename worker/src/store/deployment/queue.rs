//! Whose turn it is. Under a lock that lets one claim decide after the other, the load is fetched; what may be claimed
//! in view of the limits and the servers' circuits is decided in [`crate::scheduler`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::scheduler::{Due, Limits, Load};
use crate::store::Result;
use crate::store::connection::client::StatementValues;
use crate::store::connection::pooler::short_limits;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::seconds;
use crate::store::deployment::head::{DeploymentHead, HEAD_COLUMNS, log_unreadable_once};
use crate::store::deployment::held_deployments::{IS_HELD, Picked};
use crate::store::deployment::history::HISTORY_COLUMNS;
use crate::store::holding::{HELD_RETRIES, held_tries};
use crate::store::server::circuit_breaker::circuit;

/// Key of the advisory lock under which claims decide ("claim" in ASCII).
const CLAIM_LOCK: i64 = 0x63_6c_61_69_6d;

/// So many locked ones are passed over at a time.
const MOST_LOCKED: usize = 64;
/// Each try of a held deployment may keep others waiting for as long as a statement may take: so far apart they are.
const BETWEEN_TRIES: Duration = Duration::from_secs(10);

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

/// What has to hold for deployment `d`, which is due, to be claimed: not $2, no project of $4, and with $3 also what pulls images. What came after
/// an undeployment or a move that is half done waits for it, also while that waits for its next attempt.
const MAY_BE_CLAIMED: &str = "
    id <> ALL ($2) AND d.project_slug <> ALL ($4) AND ($3 OR action NOT IN ('deploy', 'rollback', 'move') OR cancel_requested_at IS NOT NULL)
    AND NOT EXISTS (SELECT FROM maintenance_windows w WHERE w.server IN (d.server, d.moves_from)
                    AND w.starts_at <= now() AND w.ends_at > now())
    AND NOT EXISTS (SELECT 1 FROM project_leases l WHERE l.project_slug = d.project_slug
                    AND l.server = d.server AND l.expires_at > now())
    AND NOT EXISTS (SELECT 1 FROM deployments u WHERE u.state = 'pending' AND u.action = 'undeploy'
                    AND u.fence IS NOT NULL AND u.project_slug = d.project_slug AND u.server = d.server
                    AND u.arrival < d.arrival)
    AND NOT EXISTS (SELECT 1 FROM deployments m WHERE m.state IN ('pending', 'running') AND m.action = 'move'
                    AND m.fence IS NOT NULL AND m.project_slug = d.project_slug AND m.id <> d.id
                    AND d.server IN (m.server, m.moves_from))
    AND NOT EXISTS (SELECT 1 FROM project_leases l WHERE l.project_slug = d.project_slug
                    AND l.server = d.moves_from AND l.expires_at > now())";

const DUE_COLUMNS: &str = "id, server, d.project_slug,
    action IN ('deploy', 'rollback', 'move') AND cancel_requested_at IS NULL AS pulls";

/// What is due first on each server that isn't left out ($1), at most $5 of each, and of these what has been due for longest.
/// The recursion steps from server to server through the index, so that the length of their queues doesn't matter.
fn next_due() -> String {
    format!(
        "WITH RECURSIVE queue (server) AS (
             SELECT min(server) FROM deployments WHERE state = 'pending'
             UNION ALL
             SELECT (SELECT min(d.server) FROM deployments d WHERE d.state = 'pending' AND d.server > q.server)
             FROM queue q WHERE q.server IS NOT NULL
         )
         SELECT head.* FROM queue q CROSS JOIN LATERAL (
             SELECT {DUE_COLUMNS}, run_at, arrival FROM deployments d
             WHERE state = 'pending' AND d.server = q.server AND run_at <= now() AND NOT {IS_HELD} AND {MAY_BE_CLAIMED}
             ORDER BY run_at, arrival LIMIT $5
         ) head
         WHERE q.server <> ALL ($1) ORDER BY head.run_at, head.arrival LIMIT $6"
    )
}

/// What has been due for its next try for longest, of those at which the database has failed.
fn next_held() -> String {
    format!(
        "SELECT {DUE_COLUMNS} FROM held_deployments h JOIN deployments d ON d.id = h.deployment_id
         WHERE h.next_try_at <= now() AND h.tries < {} AND NOT h.goes_on AND d.state = 'pending' AND d.run_at <= now()
           AND d.server IS NOT NULL AND d.server <> ALL ($1) AND {MAY_BE_CLAIMED} ORDER BY h.next_try_at LIMIT 1",
        HELD_RETRIES.attempts
    )
}

/// A deployment that is due.
struct DueDeployment {
    id: Uuid,
    server: String,
    project: String,
    pulls: bool,
}

impl Due for DueDeployment {
    type Server = String;

    fn server(&self) -> &String {
        &self.server
    }

    fn project(&self) -> &str {
        &self.project
    }

    fn pulls(&self) -> bool {
        self.pulls
    }
}

/// Locks the deployments whose turn it is, at most `most`; none other is claimed before this transaction ends. Each row
/// has, beside its head, what a claim tells of it.
pub(in crate::store) async fn lock_due(
    tx: &StoreTransaction<'_>,
    options: &ClaimOptions,
    most: usize,
    picked: &Picked,
) -> Result<Vec<(DeploymentHead, Row)>> {
    let (load, now, holds) = load(tx, &options.registry).await?;
    // One at which the database has failed goes alone, and takes turns with the others.
    let turns: &[bool] = match (holds, holds && tx.turn_of_held()) {
        (false, _) => &[false],
        (true, true) => &[true, false],
        (true, false) => &[false, true],
    };
    for of_held in turns {
        let most = if *of_held { 1 } else { most.max(1) };
        let locked = lock_first(tx, (&load, now), options, *of_held, most, picked).await?;
        if !locked.is_empty() {
            return Ok(locked);
        }
    }
    Ok(Vec::new())
}

async fn lock_first(
    tx: &StoreTransaction<'_>,
    (load, now): (&Load<String>, Timestamp),
    options: &ClaimOptions,
    of_held: bool,
    most: usize,
    picked: &Picked,
) -> Result<Vec<(DeploymentHead, Row)>> {
    let limits = &options.limits;
    let left_out = load.closed_servers(limits, now);
    let (mut unreadable, mut locked_projects): (Vec<Uuid>, Vec<String>) = (Vec::new(), Vec::new());
    let lock = format!(
        "SELECT {HEAD_COLUMNS}, request, waits, {IS_HELD} AS is_held, {HISTORY_COLUMNS} FROM deployments d
         WHERE id = ANY($1) AND state = 'pending' ORDER BY run_at, arrival FOR UPDATE SKIP LOCKED"
    );
    let of_all = i64::try_from(most).unwrap_or(i64::MAX);
    let of_each = of_all.min(i64::from(limits.per_server));
    let sql = if of_held { next_held() } else { next_due() };
    loop {
        let may_pull = load.may_pull(limits);
        let rows = match of_held {
            true => tx.query(&sql, &[&left_out, &unreadable, &may_pull, &locked_projects]).await?,
            false => {
                let values: StatementValues<'_> =
                    &[&left_out, &unreadable, &may_pull, &locked_projects, &of_each, &of_all];
                tx.query(&sql, values).await?
            }
        };
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let due = |row: &Row| DueDeployment {
            id: row.get("id"),
            server: row.get("server"),
            project: row.get::<_, Option<String>>("project_slug").unwrap_or_default(),
            pulls: row.get("pulls"),
        };
        let chosen = load.choose(rows.iter().map(due).collect(), limits, now, most);
        let ids: Vec<Uuid> = chosen.iter().map(|due| due.id).collect();
        if let [id] = ids.as_slice() {
            picked.is(*id);
        }
        let rows = tx.query(&lock, &[&ids]).await?;
        let mut locked = Vec::with_capacity(rows.len());
        for row in rows {
            match DeploymentHead::read(&row) {
                Ok(head) => locked.push((head, row)),
                Err(error) => {
                    let id = row.get("id");
                    log_unreadable_once(id, &error);
                    unreadable.push(id);
                }
            }
        }
        if !locked.is_empty() || chosen.is_empty() {
            return Ok(locked);
        }
        // What is locked is being cancelled or superseded, or somebody looks at it: nobody waits for that but its project.
        locked_projects.extend(chosen.into_iter().filter(|due| !unreadable.contains(&due.id)).map(|due| due.project));
        if locked_projects.len() > MOST_LOCKED {
            return Ok(Vec::new());
        }
    }
}

/// What happens now, the time, and whether a held deployment is to be tried, once no other claim is under way.
async fn load(tx: &StoreTransaction<'_>, registry: &str) -> Result<(Load<String>, Timestamp, bool)> {
    // A worker that is frozen in here delays all claims: the database then ends its transaction. After a burst of
    // requests its statistics are old, and it would read the whole table for each server.
    tx.execute(
        &format!(
            "SELECT set_config('idle_in_transaction_session_timeout', '5s', true),
                    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
                    pg_advisory_xact_lock($1), {}",
            short_limits()
        ),
        &[&CLAIM_LOCK],
    )
    .await?;
    let tries = held_tries();
    let rows = tx
        .query(
            "WITH running AS (
                 SELECT d.server, count(*) AS attempts,
                     count(*) FILTER (WHERE d.registry = $1 AND d.action IN ('deploy', 'rollback', 'move')) AS pulling
                 FROM deployments d JOIN project_leases l
                   ON l.project_slug = d.project_slug AND l.server = d.server AND l.fence = d.fence
                 WHERE d.state = 'running' AND l.expires_at > now() GROUP BY d.server)
             SELECT clock_timestamp() AS now,
                 EXISTS (SELECT FROM held_deployments WHERE next_try_at <= now() AND tries < $2 AND NOT goes_on)
                     AND NOT EXISTS (SELECT FROM held_deployments WHERE tried_at > now() - $3 * interval '1 second') AS holds,
                 server, attempts, pulling, failures, since, open_until
             FROM (SELECT) AS once LEFT JOIN (running FULL JOIN server_circuits USING (server)) ON true",
            &[&registry, &tries, &seconds(BETWEEN_TRIES)],
        )
        .await?;
    let count = |row: &Row, column| row.get::<_, Option<i64>>(column).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let mut load = Load { attempts: BTreeMap::new(), in_registry: 0, circuits: BTreeMap::new() };
    for row in &rows {
        let Some(server) = row.get::<_, Option<String>>("server") else { continue };
        if row.get::<_, Option<i32>>("failures").is_some() {
            load.circuits.insert(server.clone(), circuit(row));
        }
        if let Some(attempts) = count(row, "attempts") {
            load.in_registry += count(row, "pulling").unwrap_or_default();
            load.attempts.insert(server, attempts);
        }
    }
    let (now, holds) = rows.first().map_or((Timestamp::UNIX_EPOCH, false), |row| (row.get("now"), row.get("holds")));
    Ok((load, now, holds))
}
