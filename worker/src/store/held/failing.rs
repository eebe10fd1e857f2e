//! What the database fails at beside messages, for people: deployments, and marks of what was sent.

use std::time::Duration;

use slipway_protocol::DeploymentId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, number};
use crate::store::{Result, Store};

/// What can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldWrite {
    /// The next step of the deployment: its attempt, or its end.
    Deployment,
    /// That the message at this place in the outbox was sent, which it was.
    Mark(i64),
}

/// Something at which the database fails though it answers others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingWrite {
    /// What can't be written.
    pub what: HeldWrite,
    /// How many more messages of that deployment it's about.
    pub and_more: u64,
    /// Which deployment it's about.
    pub deployment: Option<DeploymentId>,
    /// Its project's slug.
    pub project: Option<String>,
    /// What it failed with last.
    pub reason: String,
    /// How often it has failed.
    pub tries: u32,
    /// Since when it has.
    pub waited: Duration,
    /// How long until it's tried again; absent when it waits for people.
    pub next_try_in: Option<Duration>,
}

/// How much of that there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailingWrites {
    /// How many; a thousand stands for that many or more.
    pub count: u64,
    /// Those that have failed for longest, deployments before marks.
    pub writes: Vec<FailingWrite>,
}

impl Store {
    /// What the database fails at: the number, counted up to a thousand, and the first `limit` of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn failing_writes(&self, limit: u32) -> Result<FailingWrites> {
        deadline(async {
            let sql = "WITH failing AS (
                           SELECT NULL::bigint AS position, 1::bigint AS messages, deployment_id, project_slug, reason, tries,
                               since, next_try_at
                           FROM held_deployments WHERE NOT goes_on
                           UNION ALL
                           SELECT min(position), count(*), deployment_id, min(project_slug), min(reason), max(tries),
                               min(since), min(next_try_at)
                           FROM (SELECT * FROM held_marks ORDER BY position LIMIT 1000) first
                           GROUP BY deployment_id, CASE WHEN deployment_id IS NULL THEN position END)
                       SELECT f.position, f.messages, f.deployment_id, f.project_slug, f.reason, f.tries,
                           extract(epoch FROM now() - f.since)::float8 AS waited,
                           CASE WHEN isfinite(f.next_try_at) THEN extract(epoch FROM f.next_try_at - now()) END::float8
                               AS next_try_in,
                           (SELECT sum(messages)::bigint FROM (SELECT messages FROM failing LIMIT 1000) counted) AS count
                       FROM failing f ORDER BY f.position IS NOT NULL, f.since LIMIT $1";
            let rows = self.client().await?.query(sql, &[&i64::from(limit)]).await?;
            let count = rows.first().map_or(0, |row| row.get::<_, i64>("count"));
            Ok(FailingWrites { count: u64::try_from(count).unwrap_or(0), writes: rows.iter().map(failing).collect() })
        })
        .await
    }
}

fn failing(row: &Row) -> FailingWrite {
    FailingWrite {
        what: row.get::<_, Option<i64>>("position").map_or(HeldWrite::Deployment, HeldWrite::Mark),
        and_more: u64::try_from(row.get::<_, i64>("messages") - 1).unwrap_or(0),
        deployment: row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId),
        project: row.get("project_slug"),
        reason: row.get("reason"),
        tries: number(row, "tries"),
        waited: duration(row.get("waited")),
        next_try_in: row.get::<_, Option<f64>>("next_try_in").map(duration),
    }
}
