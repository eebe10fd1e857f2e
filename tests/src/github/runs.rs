//! Workflow runs of a repository, and what a branch points to.
//!
//! Deliberately not here: jobs, checks and logs, and running anything. A test says how a run is getting on.

use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{ApiError, Reply};
use super::hosted_repository::{HostedRepository, HostedRun, RepoRef};
use super::permissions::Needs;
use super::secrets::{ListPage, is_wanted};
use super::shapes;
use super::state::GithubState;

/// GitHub's JSON of a run, as far as anybody here reads it.
pub(super) fn describe(run: &HostedRun, repository: &HostedRepository) -> Value {
    let status = match run.conclusion {
        Some(_) => "completed",
        None if run.waiting => "waiting",
        None => "in_progress",
    };
    let url = format!("{}/actions/runs/{}", shapes::api_url(repository), run.id);
    json!({
        "id": run.id,
        "name": run.workflow,
        "head_branch": run.branch,
        "head_sha": run.sha,
        "event": run.event,
        "status": status,
        "conclusion": run.conclusion,
        "run_attempt": 1,
        "run_number": 1,
        "node_id": shapes::node_id("WFR", run.id),
        "display_title": "A change",
        "path": ".github/workflows/main.yml",
        "workflow_id": 1,
        "url": url,
        "html_url": format!("https://github.com/{}/actions/runs/{}", repository.full_name(), run.id),
        "jobs_url": format!("{url}/jobs"),
        "logs_url": format!("{url}/logs"),
        "check_suite_url": format!("{}/check-suites/1", shapes::api_url(repository)),
        "cancel_url": format!("{url}/cancel"),
        "rerun_url": format!("{url}/rerun"),
        "artifacts_url": format!("{url}/artifacts"),
        "workflow_url": format!("{}/actions/workflows/1", shapes::api_url(repository)),
        "pull_requests": [],
        "created_at": shapes::BIRTH,
        "updated_at": shapes::BIRTH,
        "head_commit": null,
        "head_repository": shapes::minimal_repository(repository),
        "repository": shapes::minimal_repository(repository),
    })
}

impl GithubState {
    /// `GET …/git/ref/heads/{branch}`, where `sha` is what the branch was found to be.
    pub(super) fn get_reference(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        reference: &str,
        sha: Option<&str>,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        let sha = sha.ok_or_else(ApiError::not_found)?;
        let url = format!("{}/git", shapes::api_url(repository));
        Ok(Reply::ok(&json!({
            "ref": format!("refs/{reference}"),
            "node_id": "REF_1",
            "url": format!("{url}/refs/{reference}"),
            "object": { "type": "commit", "sha": sha, "url": format!("{url}/commits/{sha}") },
        })))
    }

    /// `GET …/actions/runs`, newest first
    pub(super) fn list_runs(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        query: &str,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        let filter = |name: &str, value: &str| is_wanted(query, name, value);
        let matching =
            repository.runs.iter().rev().filter(|run| {
                filter("head_sha", &run.sha) && filter("branch", &run.branch) && filter("event", &run.event)
            });
        let all: Vec<Value> = matching.map(|run| describe(run, repository)).collect();
        let total = all.len();
        Ok(Reply::ok(&json!({
            "total_count": total,
            "workflow_runs": ListPage::of(query).of_items(all.into_iter()),
        })))
    }
}
