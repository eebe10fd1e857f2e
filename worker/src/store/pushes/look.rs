//! The looks at watched branches. A look is claimed, GitHub is asked outside of any transaction, and what was seen is
//! written together with the deployment that follows from it. Of two looks at once the later one counts.

use std::time::Duration;

use slipway_deploy::github::PushRuns;
use slipway_protocol::names::{BranchName, CommitSha, RepositoryName};
use slipway_protocol::{Action, DeploymentId, ProjectId};
use tokio_postgres::Row;

use crate::failpoint::TransactionKind;
use crate::scheduler::{PushDecision, PushView};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::{duration, number, seconds};
use crate::store::deployment::project_lock::lock_project;
use crate::store::deployment::superseding::Admission;
use crate::store::pushes::push::PushTarget;
use crate::store::pushes::watch;
use crate::store::{Result, Store};

/// How long a worker has for one look before another one begins; longer than all its requests together may take.
pub(crate) const LOOK_LEASE: Duration = Duration::from_secs(120);

/// When to look again after a look that was asked for and has found nothing new: what GitHub tells may be older than what it
/// has told of.
pub(crate) const SECOND_LOOK: Duration = Duration::from_secs(20);

/// A branch to be looked at, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchLook {
    /// Whose branch it is.
    pub project: ProjectId,
    /// Where it is.
    pub repository: RepositoryName,
    /// The branch itself.
    pub branch: BranchName,
    /// What it pointed to at the last look.
    pub head: Option<CommitSha>,
    /// GitHub's mark of that answer.
    pub etag: Option<String>,
    /// The last commit about which it was decided whether it's deployed.
    pub considered: Option<CommitSha>,
    /// How many looks have failed in a row.
    pub failures: u32,
    looks: i64,
    marks: i64,
}

/// What a look has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchSeen {
    /// What the branch points to.
    pub head: CommitSha,
    /// GitHub's mark of that answer.
    pub etag: Option<String>,
    /// How the workflow runs of that commit are getting on; not asked for one that was considered.
    pub runs: Option<PushRuns>,
}

/// What followed from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookOutcome {
    /// The branch's head was considered before.
    Nothing,
    /// The head counts as considered, and isn't deployed.
    Considered,
    /// Nothing yet, for this reason.
    Waits(String),
    /// It's deployed.
    Deployed(DeploymentId, Admission),
    /// A later look has begun, or the branch isn't watched any more: nothing was written.
    Outdated,
}

impl Store {
    /// The branch that has been due for longest. Whoever gets it has two minutes.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn next_look(&self) -> Result<Option<BranchLook>> {
        deadline(async {
            let sql = "WITH due AS (
                           SELECT project_id FROM watched_branches WHERE look_at <= now()
                           ORDER BY look_at LIMIT 1 FOR UPDATE SKIP LOCKED)
                       UPDATE watched_branches w SET looks = looks + 1, looking = true,
                           look_at = now() + $1 * interval '1 second'
                       FROM due WHERE w.project_id = due.project_id RETURNING w.*";
            let row = self.client().await?.query_opt(sql, &[&seconds(LOOK_LEASE)]).await?;
            row.as_ref().map(look).transpose()
        })
        .await
    }

    /// Has every branch looked at soon, unless another worker has lived within `silence`: while nobody did, webhooks got
    /// lost. Gives how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn catch_up(&self, silence: Duration) -> Result<u64> {
        deadline(async {
            let sql = "UPDATE watched_branches SET look_at = least(look_at, now()) WHERE NOT looking AND NOT EXISTS (
                           SELECT FROM workers WHERE name <> $1 AND seen_at > now() - $2 * interval '1 second')";
            Ok(self.client().await?.execute(sql, &[&self.name, &seconds(silence)]).await?)
        })
        .await
    }

    /// Writes what a look has seen, and stores the deployment that follows from it. The next look comes after
    /// `interval` at the latest.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read; then nothing was written.
    pub async fn finish_look(&self, look: &BranchLook, seen: &BranchSeen, interval: Duration) -> Result<LookOutcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            // As whoever accepts a request for the project. The row itself is locked last, by its update.
            lock_project(&tx, look.project).await?;
            let sql = "SELECT *, extract(epoch FROM now() - head_since)::float8 AS known_for FROM watched_branches
                       WHERE project_id = $1 AND looks = $2";
            let Some(row) = tx.query_opt(sql, &[&look.project.0, &look.looks]).await? else {
                return Ok(LookOutcome::Outdated);
            };
            let (outcome, pause) = self.follow(&tx, &row, seen).await?;
            let told = row.get::<_, i64>("marks_seen") < look.marks;
            let pause = pause.or_else(|| (told && outcome == LookOutcome::Nothing).then_some(SECOND_LOOK));
            let considered = !matches!(outcome, LookOutcome::Waits(_));
            let waits_for = if let LookOutcome::Waits(reason) = &outcome { Some(reason) } else { None };
            let deployed = i32::from(matches!(outcome, LookOutcome::Deployed(..)));
            let pause = seconds(pause.unwrap_or(interval).min(interval));
            let written = tx
                .execute(
                    "UPDATE watched_branches SET head = $4, etag = $5,
                         head_since = CASE WHEN head IS DISTINCT FROM $4 THEN now() ELSE head_since END,
                         considered = CASE WHEN $6 THEN $4 ELSE considered END, waits_for = $7, problem = NULL,
                         failures = 0, deployments = deployments + $8, marks_seen = $3, looking = false, looked_at = now(),
                         look_at = now() + CASE WHEN marks = $3 THEN $9::float8 ELSE 0 END * interval '1 second'
                     WHERE project_id = $1 AND looks = $2",
                    &[
                        &look.project.0,
                        &look.looks,
                        &look.marks,
                        &seen.head.as_str(),
                        &seen.etag,
                        &considered,
                        &waits_for,
                        &deployed,
                        &pause,
                    ],
                )
                .await?;
            if written == 0 {
                return Ok(LookOutcome::Outdated);
            }
            commit(tx, TransactionKind::Accept).await?;
            Ok(outcome)
        })
        .await
    }

    /// What follows from what was seen, and after how long to look again, if that matters.
    async fn follow(
        &self,
        tx: &StoreTransaction<'_>,
        row: &Row,
        seen: &BranchSeen,
    ) -> Result<(LookOutcome, Option<Duration>)> {
        let (head, considered) = (watch::commit(row, "head")?, watch::commit(row, "considered")?);
        if considered.as_ref() == Some(&seen.head) {
            return Ok((LookOutcome::Nothing, None));
        }
        let next = i64::from(row.get::<_, i32>("deployments")) + 1;
        let target = PushTarget {
            project: row.get("project_id"),
            server: row.get("server"),
            deployed_by: watch::deployed_by(row)?,
            number: format!("{}.{next}", row.get::<_, i64>("number")),
        };
        let basis = target.basis(tx).await?;
        let known = row.get::<_, Option<f64>>("known_for").map(duration).filter(|_| head.as_ref() == Some(&seen.head));
        let last = target.last_action(tx).await?;
        let view = PushView {
            head: &seen.head,
            runs: seen.runs.as_ref(),
            considered: considered.as_ref(),
            requested: basis.as_ref().map(|basis| &basis.commit),
            last_action: last.map(|(action, _)| action),
            rolling_back: last.is_some_and(|(action, ended)| action == Action::Rollback && !ended),
            succeeded: target.has_succeeded(tx).await?,
            known_for: known.unwrap_or_default(),
        };
        match (view.decide(), &basis) {
            (PushDecision::Nothing, _) => Ok((LookOutcome::Nothing, None)),
            (PushDecision::Deploy, Some(basis)) => {
                let (deployment, admission) = self.insert_push(tx, &target, basis, &seen.head).await?;
                Ok((LookOutcome::Deployed(deployment, admission), None))
            }
            (PushDecision::Consider | PushDecision::Deploy, _) => Ok((LookOutcome::Considered, None)),
            (PushDecision::Wait(reason, pause), _) => Ok((LookOutcome::Waits(reason), pause)),
        }
    }

    /// Writes that GitHub didn't show the branch, and why.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fail_look(&self, look: &BranchLook, problem: &str, again: Duration) -> Result<()> {
        deadline(async {
            let sql = "UPDATE watched_branches SET problem = $3, failures = failures + 1, looking = false,
                           looked_at = now(), look_at = now() + $4 * interval '1 second'
                       WHERE project_id = $1 AND looks = $2";
            let client = self.client().await?;
            client.execute(sql, &[&look.project.0, &look.looks, &problem, &seconds(again)]).await?;
            Ok(())
        })
        .await
    }
}

fn look(row: &Row) -> Result<BranchLook> {
    Ok(BranchLook {
        project: ProjectId(row.get("project_id")),
        repository: watch::repository(row)?,
        branch: watch::branch(row)?,
        head: watch::commit(row, "head")?,
        etag: row.get("etag"),
        considered: watch::commit(row, "considered")?,
        failures: number(row, "failures"),
        looks: row.get("looks"),
        marks: row.get("marks"),
    })
}
