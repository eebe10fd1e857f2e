//! Pruning what isn't a deployment. Each statement removes a bounded number of rows, the oldest first, and leaves out what
//! somebody has locked.

use std::time::Duration;

use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, seconds};
use crate::store::{Result, Store};

/// Rows that are pruned by their age alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldRows {
    /// Events that were published, of deployments that have ended.
    Events,
    /// Dead letters that were replayed or archived.
    DeadLetters,
    /// The messages of those.
    DeadLetterBodies,
    /// What operators did.
    Audit,
    /// What was asked to be cancelled.
    Cancellations,
    /// Rules about sources that were revoked.
    SourceRules,
    /// Allowances that were taken back.
    Allowances,
    /// Ids of requests whose rows are gone.
    Ids,
    /// What GitHub holds of projects that are nowhere any more.
    GithubDigests,
    /// Halves of requests of projects that are nowhere any more, or never were anywhere.
    Halves,
    /// Deployments that GitHub should have heard of, and never was told of: nobody tells it anything.
    Untold,
    /// What people were told, or couldn't be told.
    Notifications,
    /// Webhooks that GitHub doesn't send again.
    Webhooks,
}

impl OldRows {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Events,
        Self::DeadLetters,
        Self::DeadLetterBodies,
        Self::Audit,
        Self::Cancellations,
        Self::SourceRules,
        Self::Allowances,
        Self::Ids,
        Self::GithubDigests,
        Self::Halves,
        Self::Untold,
        Self::Notifications,
        Self::Webhooks,
    ];

    /// The name, as `slipway status` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::DeadLetters => "dead letters",
            Self::DeadLetterBodies => "messages of dead letters",
            Self::Audit => "audit",
            Self::Cancellations => "cancellations",
            Self::SourceRules => "revoked source rules",
            Self::Allowances => "revoked allowances",
            Self::Ids => "ids of requests",
            Self::GithubDigests => "digests of GitHub's secrets",
            Self::Halves => "halves of requests",
            Self::Untold => "deployments that GitHub never heard of",
            Self::Notifications => "notifications",
            Self::Webhooks => "webhooks",
        }
    }

    /// Changes at most `$2` rows that are older than `$1` seconds.
    fn statement(self) -> &'static str {
        match self {
            // What isn't about a deployment is removed when it's published, unless somebody has dropped it.
            Self::Events => {
                "DELETE FROM outbox WHERE ctid = ANY(ARRAY(
                     SELECT o.ctid FROM outbox o LEFT JOIN deployments d ON d.id = o.deployment_id
                     WHERE o.published_at < now() - $1 * interval '1 second'
                       AND (d.id IS NULL OR d.finished_at IS NOT NULL)
                     ORDER BY o.published_at LIMIT $2 FOR UPDATE OF o SKIP LOCKED))"
            }
            Self::DeadLetters => {
                "DELETE FROM dead_letters WHERE id = ANY(ARRAY(
                     SELECT id FROM dead_letters WHERE state <> 'open' AND updated_at < now() - $1 * interval '1 second'
                     ORDER BY updated_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            // Their time stays: they are removed by it later. What was sent again is in the outbox or in the queue by now.
            Self::DeadLetterBodies => {
                "UPDATE dead_letters SET body = NULL WHERE id = ANY(ARRAY(
                     SELECT id FROM dead_letters WHERE state <> 'open' AND updated_at < now() - $1 * interval '1 second'
                       AND body IS NOT NULL
                     ORDER BY updated_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            Self::Audit => {
                "DELETE FROM operator_audit WHERE number = ANY(ARRAY(
                     SELECT number FROM operator_audit WHERE at < now() - $1 * interval '1 second'
                     ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            Self::Cancellations => {
                "DELETE FROM cancellations WHERE id = ANY(ARRAY(
                     SELECT id FROM cancellations WHERE requested_at < now() - $1 * interval '1 second'
                     ORDER BY requested_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            Self::SourceRules => {
                "DELETE FROM source_rules WHERE id = ANY(ARRAY(
                     SELECT id FROM source_rules WHERE revoked_at < now() - $1 * interval '1 second'
                     LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            Self::Allowances => {
                "DELETE FROM allowances WHERE number = ANY(ARRAY(
                     SELECT number FROM allowances WHERE revoked_at < now() - $1 * interval '1 second'
                     LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            Self::Ids => {
                "DELETE FROM ended_requests WHERE id = ANY(ARRAY(
                     SELECT id FROM ended_requests WHERE ended_at < now() - $1 * interval '1 second'
                     ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            // Without them, what is there is written anew by the next deployment.
            Self::GithubDigests => {
                "DELETE FROM github_digests WHERE (project_id, server, name) IN (
                     SELECT project_id, server, name FROM github_digests g
                     WHERE updated_at < now() - $1 * interval '1 second'
                       AND NOT EXISTS (SELECT FROM slug_owners o WHERE o.project_id = g.project_id)
                     LIMIT $2 FOR UPDATE SKIP LOCKED)"
            }
            // A duplicate of theirs is recognised all the same.
            Self::Halves => {
                "WITH gone AS (
                     DELETE FROM project_halves WHERE id = ANY(ARRAY(
                         SELECT id FROM project_halves h
                         WHERE received_at < now() - $1 * interval '1 second' AND waits_until IS NULL
                           AND NOT EXISTS (SELECT FROM slug_owners o WHERE o.project_id = h.project_id)
                         ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED))
                     RETURNING id)
                 INSERT INTO ended_requests (id) SELECT id FROM gone ON CONFLICT DO NOTHING"
            }
            Self::Untold => {
                "DELETE FROM github_deployments WHERE deployment_id = ANY(ARRAY(
                     SELECT g.deployment_id FROM github_deployments g JOIN deployments d ON d.id = g.deployment_id
                     WHERE NOT g.done AND g.next_try_at < now() - $1 * interval '1 second' AND g.told IS NULL
                       AND d.finished_at < now() - $1 * interval '1 second'
                     ORDER BY g.next_try_at LIMIT $2 FOR UPDATE OF g SKIP LOCKED))"
            }
            Self::Notifications => {
                "DELETE FROM notifications WHERE ctid = ANY(ARRAY(
                     SELECT ctid FROM notifications WHERE ended_at < now() - $1 * interval '1 second'
                     ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
            Self::Webhooks => {
                "DELETE FROM webhook_deliveries WHERE ctid = ANY(ARRAY(
                     SELECT ctid FROM webhook_deliveries WHERE received_at < now() - $1 * interval '1 second'
                     ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
            }
        }
    }
}

impl Store {
    /// How long ago the dead letter failed last that has one of these ids; `None` when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letter_age(&self, ids: &[Uuid]) -> Result<Option<Duration>> {
        deadline(async {
            let sql =
                "SELECT extract(epoch FROM now() - max(last_failed_at))::float8 FROM dead_letters WHERE id = ANY($1)";
            let row = self.client().await?.query_one(sql, &[&ids]).await?;
            Ok(row.get::<_, Option<f64>>(0).map(duration))
        })
        .await
    }

    /// Removes at most `limit` rows of a kind that are older than `age`; gives their number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_old(&self, rows: OldRows, age: Duration, limit: u32) -> Result<u64> {
        deadline(async {
            let client = self.client().await?;
            Ok(client.execute(rows.statement(), &[&seconds(age), &i64::from(limit)]).await?)
        })
        .await
    }
}
