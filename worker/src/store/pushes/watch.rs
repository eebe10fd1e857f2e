//! Which branches are watched: that follows from the requests that were accepted. The looks at them are in `look`.

use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::names::{BranchName, CommitSha, RepositoryName, ServerHandle, Slug};
use slipway_protocol::{Action, Project, ProjectId, ProjectReady, PushDeployer};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::scheduler::RUN_NEEDED;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::{number, readable, seconds};
use crate::store::connection::wakeups;
use crate::store::{Result, Store};

pub(in crate::store) const TABLE: &str = "watched_branches";

/// A branch whose pushes are deployed, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedBranch {
    /// The project that its pushes go to.
    pub project: Project,
    /// The server that it's on.
    pub server: ServerHandle,
    /// Where the branch is.
    pub repository: RepositoryName,
    /// The branch itself.
    pub branch: BranchName,
    /// Whether CI's job deploys its pushes as well.
    pub deployed_by: PushDeployer,
    /// What it pointed to at the last look.
    pub head: Option<CommitSha>,
    /// Since when that is known.
    pub head_since: Option<Timestamp>,
    /// The last commit about which it was decided whether it's deployed; `None` when the project was just rolled back.
    pub considered: Option<CommitSha>,
    /// What has to happen before its head is deployed.
    pub waits_for: Option<String>,
    /// Why GitHub couldn't be asked at the last look.
    pub problem: Option<String>,
    /// How many looks have failed in a row.
    pub failures: u32,
    /// When it was looked at last.
    pub looked_at: Option<Timestamp>,
    /// When it's looked at again.
    pub look_at: Timestamp,
}

/// How the branches are getting on that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BranchCounts {
    /// All of them.
    pub watched: u64,
    /// Those that GitHub hasn't shown, several times in a row.
    pub unreadable: u64,
    /// Those that should have been looked at long ago.
    pub overdue: u64,
    /// Those whose push has waited for long for a workflow run that succeeds.
    pub held_back: u64,
}

impl Store {
    /// Every watched branch, by project.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn watched_branches(&self) -> Result<Vec<WatchedBranch>> {
        deadline(async {
            let sql = "SELECT * FROM watched_branches ORDER BY project_slug, project_id";
            self.client().await?.query(sql, &[]).await?.iter().map(watched).collect()
        })
        .await
    }

    /// How many branches are watched. One counts as unreadable after `failures` failed looks, as overdue when it
    /// should have been looked at longer ago than `patience`, and as held back when it needs a workflow run for longer
    /// than `held`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn branch_counts(&self, failures: u32, patience: Duration, held: Duration) -> Result<BranchCounts> {
        deadline(async {
            let sql = "SELECT count(*), count(*) FILTER (WHERE failures >= $1),
                           count(*) FILTER (WHERE look_at < now() - $2 * interval '1 second'),
                           count(*) FILTER (WHERE starts_with(waits_for, $3)
                               AND head_since < now() - $4 * interval '1 second')
                       FROM watched_branches";
            let failures = i32::try_from(failures).unwrap_or(i32::MAX);
            let values: [&(dyn ToSql + Sync); 4] = [&failures, &seconds(patience), &RUN_NEEDED, &seconds(held)];
            let row = self.client().await?.query_one(sql, &values).await?;
            let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
            Ok(BranchCounts { watched: count(0), unreadable: count(1), overdue: count(2), held_back: count(3) })
        })
        .await
    }
}

/// Watches the branch of a request that was accepted, or no longer. A branch that was watched before keeps what is known
/// of it; of another one, whatever isn't the request's commit is a push. One without a server isn't watched before it has one.
pub(in crate::store) async fn watch(tx: &StoreTransaction<'_>, request: &ProjectReady) -> Result<()> {
    let (project, repository) = (&request.project, &request.repository);
    let Some(server) = &request.server else { return Ok(()) };
    if !repository.pushes_deployed_by.watches() {
        tx.execute("DELETE FROM watched_branches WHERE project_id = $1", &[&project.id.0]).await?;
        return Ok(());
    }
    let kept = [("head", ""), ("head_since", ""), ("etag", ""), ("considered", "ELSE $7")]
        .map(|(column, new)| {
            let same = "lower(w.repository) = lower($4) AND w.branch = $5";
            format!("{column} = CASE WHEN {same} THEN w.{column} {new} END")
        })
        .join(", ");
    let sql = format!(
        "INSERT INTO watched_branches AS w (project_id, project_slug, server, repository, branch, deployed_by,
             considered)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (project_id) DO UPDATE SET project_slug = $2, server = $3, repository = $4, branch = $5,
             deployed_by = $6, {kept}, waits_for = NULL, problem = NULL, failures = 0, marks = w.marks + 1,
             looks = w.looks + 1, looking = false, look_at = now()"
    );
    let values: [&(dyn ToSql + Sync); 7] = [
        &project.id.0,
        &project.slug.as_str(),
        &server.handle.as_str(),
        &repository.name.as_str(),
        &repository.branch.as_str(),
        &repository.pushes_deployed_by.as_str(),
        &repository.commit.as_str(),
    ];
    tx.execute(&sql, &values).await?;
    wake(tx).await
}

/// What was pushed to a project's branch is deployed to `to` from now on, where it was to `from` before.
pub(in crate::store) async fn watch_elsewhere(
    tx: &StoreTransaction<'_>,
    project: ProjectId,
    from: &ServerHandle,
    to: &ServerHandle,
) -> Result<()> {
    let sql = "UPDATE watched_branches SET server = $3, marks = marks + 1,
                   look_at = CASE WHEN looking THEN look_at ELSE now() END
               WHERE project_id = $1 AND server = $2";
    match tx.execute(sql, &[&project.0, &from.as_str(), &to.as_str()]).await? {
        0 => Ok(()),
        _ => wake(tx).await,
    }
}

/// What a command that was accepted means for the project's branch: after a start, what waited for it is deployed.
pub(in crate::store) async fn heed_command(
    tx: &StoreTransaction<'_>,
    project: ProjectId,
    server: &ServerHandle,
    action: Action,
) -> Result<()> {
    match action {
        Action::Start => look_again(tx, project, server).await,
        _ => Ok(()),
    }
}

/// What the end of a deployment means for the project's branch. After a rollback nothing from before it is deployed:
/// whatever the branch points to at the next look, a look that has begun doesn't count. A project that is gone isn't
/// watched any more. Any other end may be what a push waited for.
pub(in crate::store) async fn heed_end(
    tx: &StoreTransaction<'_>,
    project: ProjectId,
    server: &ServerHandle,
    action: Action,
    has_succeeded: bool,
) -> Result<()> {
    let sql = match action {
        Action::Rollback if has_succeeded => {
            "UPDATE watched_branches SET considered = NULL, waits_for = NULL, looks = looks + 1, looking = false,
                 look_at = now()
             WHERE project_id = $1 AND server = $2"
        }
        Action::Undeploy if has_succeeded => "DELETE FROM watched_branches WHERE project_id = $1 AND server = $2",
        _ => return look_again(tx, project, server).await,
    };
    tx.execute(sql, &[&project.0, &server.as_str()]).await?;
    wake(tx).await
}

/// Has a branch looked at that has a push waiting, or may have one when the look is written that goes on.
async fn look_again(tx: &StoreTransaction<'_>, project: ProjectId, server: &ServerHandle) -> Result<()> {
    let sql = "UPDATE watched_branches SET marks = marks + 1, look_at = CASE WHEN looking THEN look_at ELSE now() END
               WHERE project_id = $1 AND server = $2 AND (looking OR waits_for IS NOT NULL)";
    match tx.execute(sql, &[&project.0, &server.as_str()]).await? {
        0 => Ok(()),
        _ => wake(tx).await,
    }
}

/// Wakes who looks at branches, once the transaction is committed.
pub(in crate::store) async fn wake(tx: &StoreTransaction<'_>) -> Result<()> {
    tx.execute("SELECT pg_notify($1, '')", &[&wakeups::PUSHES]).await?;
    Ok(())
}

fn watched(row: &Row) -> Result<WatchedBranch> {
    Ok(WatchedBranch {
        project: Project {
            id: ProjectId(row.get("project_id")),
            slug: readable(TABLE, "project_slug", Slug::new(row.get::<_, String>("project_slug")))?,
        },
        server: readable(TABLE, "server", ServerHandle::new(row.get::<_, String>("server")))?,
        repository: repository(row)?,
        branch: branch(row)?,
        deployed_by: deployed_by(row)?,
        head: commit(row, "head")?,
        head_since: row.get("head_since"),
        considered: commit(row, "considered")?,
        waits_for: row.get("waits_for"),
        problem: row.get("problem"),
        failures: number(row, "failures"),
        looked_at: row.get("looked_at"),
        look_at: row.get("look_at"),
    })
}

pub(in crate::store) fn repository(row: &Row) -> Result<RepositoryName> {
    readable(TABLE, "repository", RepositoryName::new(row.get::<_, String>("repository")))
}

pub(in crate::store) fn branch(row: &Row) -> Result<BranchName> {
    readable(TABLE, "branch", BranchName::new(row.get::<_, String>("branch")))
}

pub(in crate::store) fn commit(row: &Row, column: &'static str) -> Result<Option<CommitSha>> {
    row.get::<_, Option<String>>(column).map(|sha| readable(TABLE, column, CommitSha::new(sha))).transpose()
}

pub(in crate::store) fn deployed_by(row: &Row) -> Result<PushDeployer> {
    readable(TABLE, "deployed_by", serde_json::from_value(row.get::<_, String>("deployed_by").into()))
}
