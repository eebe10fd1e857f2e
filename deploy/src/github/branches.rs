//! What a branch points to, and how the workflow runs of what was pushed to it are getting on.
//!
//! Deliberately not here: what follows from it, and when GitHub is asked again.

use reqwest::Method;
use reqwest::header::ETAG;
use serde::Deserialize;
use slipway_protocol::names::{BranchName, CommitSha, RepositoryName};

use super::answer::plain;
use super::token::TokenScope;
use super::{GithubClient, RepositoryQuestion};
use crate::StageError;

/// How many runs GitHub is asked for at once: a run is up to 20 KiB of JSON, and an answer may have 1 MiB.
const RUNS_PER_PAGE: usize = 30;
/// How many pages of runs are read; nobody has more than a hundred workflows for one push.
const RUN_PAGES: usize = 5;

/// What a branch points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchHead {
    /// Its last commit.
    pub commit: CommitSha,
    /// GitHub's mark of this answer; with it the next question costs nothing while the answer is the same.
    pub etag: Option<String>,
}

/// How the workflow runs of a push are getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushRuns {
    /// There are none, as for every push to the branch before.
    None,
    /// There are none, or none yet, though pushes to the branch have started some: GitHub makes them some seconds after
    /// the push.
    NoneStarted,
    /// So many haven't ended.
    Unfinished(usize),
    /// All others have ended, and this one waits for the rules of a protected environment: somebody's approval, or a timer.
    Held {
        /// The workflow's name.
        workflow: String,
    },
    /// All have ended, and at least this one not well.
    Failed {
        /// The workflow's name.
        workflow: String,
        /// How it ended, in GitHub's words.
        conclusion: String,
    },
    /// All have ended, none of them badly.
    Succeeded,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    full_name: RepositoryName,
}

#[derive(Deserialize)]
struct ReferenceAnswer {
    object: GitObject,
}

#[derive(Deserialize)]
struct GitObject {
    sha: CommitSha,
}

#[derive(Deserialize)]
struct RunsAnswer {
    total_count: usize,
    workflow_runs: Vec<WorkflowRun>,
}

#[derive(Deserialize)]
struct WorkflowRun {
    name: Option<String>,
    status: Option<String>,
    conclusion: Option<String>,
}

impl GithubClient {
    /// How GitHub calls a repository by now: another way than we do once it was renamed or transferred.
    ///
    /// # Errors
    /// As [`Self::branch_head`].
    pub async fn present_name(&self, repository: &RepositoryName) -> Result<RepositoryName, StageError> {
        let (doing, path) = (format!("read the repository {repository}"), format!("/repos/{repository}"));
        let answer = self.ask(repository, TokenScope::Contents, Method::GET, &path, None, &doing).await?;
        Ok(answer.read::<RepositoryAnswer>(&doing)?.full_name)
    }

    /// What `branch` points to; `None` when it's the same as in the answer that had `etag`.
    ///
    /// # Errors
    /// Those of GitHub, such as `github-not-installed` where repository or branch are gone or closed to Slipway.
    pub async fn branch_head(
        &self,
        repository: &RepositoryName,
        branch: &BranchName,
        etag: Option<&str>,
    ) -> Result<Option<BranchHead>, StageError> {
        let doing = format!("read the branch {branch} of {repository}");
        let path = format!("/repos/{repository}/git/ref/heads/{branch}");
        let question =
            RepositoryQuestion { method: Method::GET, path: &path, body: None, doing: &doing, if_none_match: etag };
        let answer = self.ask_repository(repository, TokenScope::Contents, &question).await?;
        if answer.is_unchanged() {
            return Ok(None);
        }
        let commit = answer.read::<ReferenceAnswer>(&doing)?.object.sha;
        let etag = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        Ok(Some(BranchHead { commit, etag }))
    }

    /// How the workflow runs that the push of `commit` to `branch` has started are getting on.
    ///
    /// # Errors
    /// As [`Self::branch_head`]; `github-forbidden` where the GitHub App lacks the permission actions: read.
    pub async fn push_runs(
        &self,
        repository: &RepositoryName,
        branch: &BranchName,
        commit: &CommitSha,
    ) -> Result<PushRuns, StageError> {
        let doing = format!("list the workflow runs of {repository}");
        let mut runs = Vec::new();
        let list = async |filter: &str| -> Result<RunsAnswer, StageError> {
            let path = format!("/repos/{repository}/actions/runs?branch={branch}&event=push&{filter}");
            self.ask(repository, TokenScope::Actions, Method::GET, &path, None, &doing).await?.read(&doing)
        };
        for page in 1..=RUN_PAGES {
            let filter = format!("head_sha={commit}&per_page={RUNS_PER_PAGE}&page={page}");
            let RunsAnswer { total_count, workflow_runs } = list(&filter).await?;
            let last = workflow_runs.is_empty();
            runs.extend(workflow_runs);
            if last || runs.len() >= total_count {
                break;
            }
        }
        if runs.is_empty() && list("per_page=1").await?.total_count > 0 {
            return Ok(PushRuns::NoneStarted);
        }
        Ok(summarize(&runs))
    }
}

fn summarize(runs: &[WorkflowRun]) -> PushRuns {
    if runs.is_empty() {
        return PushRuns::None;
    }
    let ended = |run: &&WorkflowRun| run.status.as_deref() == Some("completed");
    let unfinished = runs.len() - runs.iter().filter(ended).count();
    let held: Vec<&WorkflowRun> = runs.iter().filter(|run| run.status.as_deref() == Some("waiting")).collect();
    match held.first() {
        Some(run) if held.len() == unfinished => {
            return PushRuns::Held { workflow: plain(run.name.as_deref().unwrap_or("a workflow")) };
        }
        _ if unfinished > 0 => return PushRuns::Unfinished(unfinished),
        _ => {}
    }
    let conclusion = |run: &WorkflowRun| run.conclusion.as_deref().unwrap_or("no conclusion").to_owned();
    let well = |run: &&WorkflowRun| matches!(run.conclusion.as_deref(), Some("success" | "neutral" | "skipped"));
    match runs.iter().find(|run| !well(run)) {
        None => PushRuns::Succeeded,
        Some(run) => PushRuns::Failed {
            workflow: plain(run.name.as_deref().unwrap_or("a workflow")),
            conclusion: plain(&conclusion(run)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(runs: &[(&str, Option<&str>)]) -> PushRuns {
        let run = |(status, conclusion): &(&str, Option<&str>)| WorkflowRun {
            name: Some(format!("of {status}")),
            status: Some((*status).to_owned()),
            conclusion: conclusion.map(str::to_owned),
        };
        summarize(&runs.iter().map(run).collect::<Vec<_>>())
    }

    #[test]
    fn a_push_has_succeeded_once_every_run_has_ended_and_none_badly() {
        let good = ("completed", Some("success"));
        assert_eq!(summary(&[]), PushRuns::None);
        assert_eq!(
            summary(&[good, ("completed", Some("skipped")), ("completed", Some("neutral"))]),
            PushRuns::Succeeded
        );
        let held = PushRuns::Held { workflow: "of waiting".to_owned() };
        assert_eq!(summary(&[good, ("waiting", None)]), held);
        assert_eq!(summary(&[("waiting", None), ("queued", None)]), PushRuns::Unfinished(2));
        for status in ["queued", "in_progress", "requested", "pending", "some new status"] {
            assert_eq!(summary(&[good, (status, None)]), PushRuns::Unfinished(1), "{status}");
        }
        for conclusion in ["failure", "cancelled", "timed_out", "action_required", "startup_failure", "stale", "new"] {
            let failed = PushRuns::Failed { workflow: "of completed".to_owned(), conclusion: conclusion.to_owned() };
            assert_eq!(summary(&[good, ("completed", Some(conclusion))]), failed);
        }
        // One that goes on may still be what matters; whether another failed is said in the end.
        assert_eq!(summary(&[("completed", Some("failure")), ("queued", None)]), PushRuns::Unfinished(1));
    }
}
