//! Which deployments' states have still to be announced to GitHub. Nothing here decides about a deployment: any worker
//! that finds an announcement due makes it.

use std::time::Duration;

use slipway_protocol::names::{CommitSha, RepositoryName, ServerHandle};
use slipway_protocol::{DeploymentId, ProjectId};
use tokio_postgres::Row;

use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::{readable, seconds};
use crate::store::deployment::state::State;
use crate::store::deployment::versions::LAST_UNDEPLOYMENT;
use crate::store::{Result, Store};

/// How long a worker has for one announcement before another takes it over; longer than all its requests together.
pub(crate) const ANNOUNCEMENT_LEASE: Duration = Duration::from_secs(300);
/// Older deployments aren't announced any more: after an upgrade, or after a long time without GitHub.
const ANNOUNCEMENT_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A deployment's state that GitHub has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The deployment's id here; GitHub keeps it in its payload.
    pub deployment: DeploymentId,
    /// The repository that shows it.
    pub repository: RepositoryName,
    /// The commit on whose page it's shown.
    pub commit: CommitSha,
    /// The server it's deployed to, which GitHub shows as the environment.
    pub server: ServerHandle,
    /// How it's getting on, or how it ended.
    pub state: State,
    /// Where the project answers, once it does.
    pub url: Option<String>,
    /// Whether the project was taken off the server since.
    pub gone: bool,
    /// GitHub's number of it, once it has one.
    pub github_id: Option<i64>,
    /// How often it was tried, this time included, since the last success.
    pub tries: u32,
}

impl Store {
    /// The next deployment that GitHub has to hear of: one that runs, or one that has ended since. Whoever gets it has
    /// five minutes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_announcement(&self) -> Result<Option<Announcement>> {
        deadline(async {
            let client = self.client().await?;
            client
                .execute(
                    "INSERT INTO github_deployments (deployment_id)
                     SELECT id FROM deployments d
                     WHERE accepted_at > now() - $1 * interval '1 second' AND attempt > 0 AND repository IS NOT NULL
                       AND commit_sha IS NOT NULL AND server IS NOT NULL AND action IN ('deploy', 'rollback')
                       AND coalesce(finished_at, now()) > now() - interval '1 hour'
                       AND NOT EXISTS (SELECT 1 FROM github_deployments g WHERE g.deployment_id = d.id)
                     ON CONFLICT DO NOTHING",
                    &[&seconds(ANNOUNCEMENT_MAX_AGE)],
                )
                .await?;
            let row = client
                .query_opt(
                    &format!(
                        "WITH due AS (
                         SELECT g.deployment_id FROM github_deployments g JOIN deployments d ON d.id = g.deployment_id
                         WHERE NOT g.done AND g.next_try_at <= now() AND (g.told IS NULL OR d.finished_at IS NOT NULL)
                         ORDER BY g.next_try_at LIMIT 1 FOR UPDATE OF g SKIP LOCKED)
                     UPDATE github_deployments g SET tries = g.tries + 1, next_try_at = now() + $1 * interval '1 second'
                     FROM due, deployments d WHERE g.deployment_id = due.deployment_id AND d.id = due.deployment_id
                     RETURNING d.id, d.repository, d.commit_sha, d.server, d.state, d.result ->> 'url' AS url,
                               g.github_id, g.tries,
                               d.arrival < {LAST_UNDEPLOYMENT} AS gone"
                    ),
                    &[&seconds(ANNOUNCEMENT_LEASE)],
                )
                .await?;
            row.as_ref().map(announcement).transpose()
        })
        .await
    }

    /// Stores GitHub's number of a deployment, before any status is announced.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_github_id(&self, deployment: DeploymentId, github_id: i64) -> Result<()> {
        self.update_announcement(
            "UPDATE github_deployments SET github_id = $2 WHERE deployment_id = $1",
            &[&deployment.0, &github_id],
        )
        .await
    }

    /// Marks `status` as announced; after the `end` nothing follows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_announced(&self, deployment: DeploymentId, status: &str, end: bool) -> Result<()> {
        self.update_announcement(
            "UPDATE github_deployments SET told = $2, done = $3, problem = NULL, tries = 0, next_try_at = now()
             WHERE deployment_id = $1",
            &[&deployment.0, &status, &end],
        )
        .await
    }

    /// Stores why the announcement failed; without a delay it isn't tried again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_announcement_failure(
        &self,
        deployment: DeploymentId,
        problem: &str,
        again: Option<Duration>,
    ) -> Result<()> {
        let delay = again.map(seconds);
        self.update_announcement(
            "UPDATE github_deployments SET problem = $2, done = $3::float8 IS NULL,
                 next_try_at = now() + coalesce($3, 0) * interval '1 second' WHERE deployment_id = $1",
            &[&deployment.0, &problem, &delay],
        )
        .await
    }

    async fn update_announcement(
        &self,
        sql: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<()> {
        deadline(async {
            self.client().await?.execute(sql, values).await?;
            Ok(())
        })
        .await
    }
}

/// Has it announced that a project was taken off a server. GitHub knows that of all but the latest version by itself.
pub(in crate::store) async fn announce_undeployment(
    tx: &StoreTransaction<'_>,
    project: ProjectId,
    server: &ServerHandle,
) -> Result<()> {
    tx.execute(
        "UPDATE github_deployments SET done = false, next_try_at = now() WHERE told = 'success' AND deployment_id = (
             SELECT id FROM deployments WHERE project_id = $1 AND server = $2
               AND action IN ('deploy', 'rollback') AND state IN ('succeeded', 'already_deployed')
             ORDER BY arrival DESC LIMIT 1)",
        &[&project.0, &server.as_str()],
    )
    .await?;
    Ok(())
}

fn announcement(row: &Row) -> Result<Announcement> {
    const TABLE: &str = "deployments";
    let text = |column: &str| row.get::<_, String>(column);
    Ok(Announcement {
        deployment: DeploymentId(row.get("id")),
        repository: readable(TABLE, "repository", RepositoryName::new(text("repository")))?,
        commit: readable(TABLE, "commit_sha", CommitSha::new(text("commit_sha")))?,
        server: readable(TABLE, "server", ServerHandle::new(text("server")))?,
        state: readable(TABLE, "state", row.get::<_, &str>("state").parse())?,
        url: row.get("url"),
        gone: row.get("gone"),
        github_id: row.get("github_id"),
        tries: u32::try_from(row.get::<_, i32>("tries")).unwrap_or(u32::MAX),
    })
}
