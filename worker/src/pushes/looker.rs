//! Looks at the branches that are due: asks GitHub what they point to and how the workflow runs of that commit are getting
//! on. Any worker may look at any branch.

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::StageError;
use slipway_deploy::github::{BranchHead, GithubClient};
use slipway_protocol::ErrorCode;

use crate::process::Drain;
use crate::scheduler::LOOK_RETRIES;
use crate::store::{Admission, BranchLook, BranchSeen, LookOutcome, Store, StoreError, Wakeups};
use crate::telemetry::OutageLog;

/// How long one look may take, all its requests together.
pub(crate) const LOOK_TIMEOUT: Duration = Duration::from_secs(90);
/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Looks at branches.
#[derive(Clone)]
pub struct PushLooker {
    /// Where it's written which branches are due, and what was seen.
    pub store: Store,
    /// The client of GitHub's API.
    pub github: GithubClient,
    /// Tell when there may be a branch to look at.
    pub wakeups: Arc<Wakeups>,
    /// How long a branch isn't looked at when nothing happens.
    pub interval: Duration,
    /// Ends the looking as soon as it begins.
    pub drain: Drain,
}

impl PushLooker {
    /// Works until the drain begins. A look that is cut off is begun anew by another worker.
    pub async fn run(self) {
        let mut outages = OutageLog::new("pushes");
        while !self.drain.has_begun() {
            let looked = tokio::select! {
                () = self.drain.token().cancelled() => return,
                looked = self.look_next() => looked,
            };
            let (found, failed) = (matches!(looked, Ok(true)), looked.is_err());
            outages.record(looked.map(drop));
            if !found {
                tokio::select! {
                    () = self.drain.token().cancelled() => return,
                    () = self.wakeups.push() => {}
                    () = tokio::time::sleep(AFTER_FAILURE), if failed => {}
                }
            }
        }
    }

    /// Looks at the branch that has been due for longest; false when none is.
    async fn look_next(&self) -> Result<bool, StoreError> {
        let Some(look) = self.store.next_look().await? else { return Ok(false) };
        let seen = match tokio::time::timeout(LOOK_TIMEOUT, self.ask(&look)).await {
            Ok(seen) => seen,
            Err(_) => {
                let message = format!("GitHub didn't answer all questions about the branch within {LOOK_TIMEOUT:?}");
                Err(StageError::new(ErrorCode::GithubUnavailable, message))
            }
        };
        match seen {
            Ok(seen) => match self.store.finish_look(&look, &seen, self.interval).await {
                Ok(outcome) => log_outcome(&look, &seen, &outcome),
                // What can't be read or written now is for people if it stays so; where the database is away, neither can that.
                Err(error) => self.fail(&look, &error.summary(), None).await?,
            },
            Err(error) => self.fail(&look, &format!("{}: {}", error.code, error.message), error.retry_after).await?,
        }
        Ok(true)
    }

    async fn ask(&self, look: &BranchLook) -> Result<BranchSeen, StageError> {
        let etag = look.etag.as_deref().filter(|_| look.head.is_some());
        let found = self.github.branch_head(&look.repository, &look.branch, etag).await?;
        let (head, etag) = match (found, &look.head) {
            (Some(BranchHead { commit, etag }), _) => (commit, etag),
            (None, Some(head)) => (head.clone(), look.etag.clone()),
            (None, None) => {
                let message = "GitHub says that a branch hasn't changed that nobody has seen";
                return Err(StageError::new(ErrorCode::GithubUnavailable, message));
            }
        };
        let known = look.considered.as_ref().is_none_or(|considered| *considered == head);
        let runs = match known {
            true => None,
            false => Some(self.github.push_runs(&look.repository, &look.branch, &head).await?),
        };
        Ok(BranchSeen { head, etag, runs })
    }

    async fn fail(&self, look: &BranchLook, problem: &str, retry_after: Option<Duration>) -> Result<(), StoreError> {
        let delay = LOOK_RETRIES.delay(look.failures.saturating_add(1)).unwrap_or(LOOK_RETRIES.max);
        let again = delay.max(retry_after.unwrap_or_default());
        tracing::warn!(
            project.id = %look.project,
            failures = look.failures + 1,
            retry_in_s = again.as_secs(),
            "the branch {} of {} couldn't be looked at, and what is pushed there waits: {problem}",
            look.branch,
            look.repository
        );
        self.store.fail_look(look, problem, again).await
    }
}

fn log_outcome(look: &BranchLook, seen: &BranchSeen, outcome: &LookOutcome) {
    let (repository, branch, head) = (&look.repository, &look.branch, &seen.head);
    match outcome {
        LookOutcome::Nothing | LookOutcome::Outdated => {}
        LookOutcome::Considered => {
            tracing::info!(project.id = %look.project, %repository, %branch, %head, "a head isn't deployed that was asked for, or is from before a rollback");
        }
        LookOutcome::Waits(reason) => {
            tracing::info!(project.id = %look.project, %repository, %branch, %head, "a push waits for {reason}");
        }
        LookOutcome::Deployed(id, admission) => {
            let newer = matches!(admission, Admission::Superseded(_));
            tracing::info!(
                deployment.id = %id, project.id = %look.project, %repository, %branch, %head, superseded = newer,
                "a push is deployed"
            );
        }
    }
}
