//! Deployments and their statuses, with GitHub's conflicts: a branch that is behind, and checks that haven't passed.
//!
//! Deliberately not here: the merge that `auto_merge` makes (a reference that is behind is always answered with the
//! conflict), `auto_inactive`, and environments' protection rules.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{ApiError, Reply, required};
use super::hosted_repository::{CreatedDeployment, DeploymentStatus, HostedRepository, RepoRef};
use super::permissions::Needs;
use super::references::Found;
use super::secrets::{ListPage, is_wanted};
use super::shapes;
use super::state::GithubState;

const STATES: [&str; 7] = ["error", "failure", "inactive", "in_progress", "queued", "pending", "success"];
const MAX_DESCRIPTION: usize = 140;

impl GithubState {
    /// `GET …/deployments`, newest first
    pub(super) fn list_deployments(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        query: &str,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        let filter = |name: &str, value: &str| is_wanted(query, name, value);
        let matching = repository.deployments.iter().rev().filter(|deployment| {
            filter("sha", &deployment.sha)
                && filter("ref", &deployment.reference)
                && filter("environment", &deployment.environment)
        });
        Ok(Reply::ok(&ListPage::of(query).of_items(matching.map(|one| describe(repository, one))).into()))
    }

    /// `GET …/deployments/{id}`
    pub(super) fn get_deployment(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        id: u64,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        Ok(Reply::ok(&describe(repository, find(repository, id)?)))
    }

    /// `POST …/deployments`, where `found` is what the reference was found to be in the bare repository.
    pub(super) fn create_deployment(
        &mut self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        body: &Value,
        found: Found,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        repository.ensure_writable()?;
        let reference = required(body, "ref")?;
        let description = text(body, "description", MAX_DESCRIPTION)?;
        let sha = found.sha.ok_or_else(|| ApiError::invalid(format!("No ref found for: {reference}")))?;
        if found.behind && body["auto_merge"].as_bool().unwrap_or(true) {
            let message = format!("Conflict merging {} into {reference}.", repository.default_branch);
            return Err(ApiError::new(StatusCode::CONFLICT, message));
        }
        check_contexts(repository, &sha, reference, &body["required_contexts"])?;

        let repository_id = repository.id;
        let environment = body["environment"].as_str().unwrap_or("production").to_owned();
        let deployment = CreatedDeployment {
            id: self.next_id(),
            sha,
            reference: reference.to_owned(),
            environment,
            description,
            payload: if body["payload"].is_null() { json!({}) } else { body["payload"].clone() },
            created_at: self.timestamp(),
            statuses: Vec::new(),
        };
        let repository = self.repositories.get_mut(&repository_id).ok_or_else(ApiError::not_found)?;
        let answer = describe(repository, &deployment);
        repository.deployments.push(deployment);
        Ok(Reply::created(&answer))
    }

    /// `GET …/deployments/{id}/statuses`, newest first
    pub(super) fn list_statuses(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        id: u64,
        query: &str,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        let deployment = find(repository, id)?;
        let statuses = deployment.statuses.iter().rev().map(|status| describe_status(repository, deployment, status));
        Ok(Reply::ok(&ListPage::of(query).of_items(statuses).into()))
    }

    /// `POST …/deployments/{id}/statuses`
    pub(super) fn create_status(
        &mut self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        id: u64,
        body: &Value,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        repository.ensure_writable()?;
        find(repository, id)?;
        let state = required(body, "state")?;
        if !STATES.contains(&state) {
            return Err(ApiError::invalid_request(&format!("{state} is not a member of {STATES:?}.")));
        }
        let repository_id = repository.id;
        let status = DeploymentStatus {
            id: self.next_id(),
            state: state.to_owned(),
            description: text(body, "description", MAX_DESCRIPTION)?,
            log_url: text(body, "log_url", usize::MAX)?,
            environment_url: text(body, "environment_url", usize::MAX)?,
            created_at: self.timestamp(),
        };
        let repository = self.repositories.get_mut(&repository_id).ok_or_else(ApiError::not_found)?;
        let deployment = repository.deployments.iter_mut().find(|one| one.id == id).ok_or_else(ApiError::not_found)?;
        deployment.statuses.push(status.clone());
        let repository = &self.repositories[&repository_id];
        Ok(Reply::created(&describe_status(repository, find(repository, id)?, &status)))
    }
}

fn find(repository: &HostedRepository, id: u64) -> Result<&CreatedDeployment, ApiError> {
    repository.deployments.iter().find(|deployment| deployment.id == id).ok_or_else(ApiError::not_found)
}

fn text(body: &Value, field: &str, max_chars: usize) -> Result<String, ApiError> {
    match &body[field] {
        Value::Null => Ok(String::new()),
        Value::String(text) if text.chars().count() <= max_chars => Ok(text.clone()),
        Value::String(_) => Err(ApiError::invalid(format!("{field} is too long (maximum is {max_chars} characters)"))),
        other => Err(ApiError::invalid_request(&format!("For 'properties/{field}', {other} is not a string."))),
    }
}

/// Absent: every check that has reported must have passed. A list: those must. An empty list: none need.
fn check_contexts(repository: &HostedRepository, sha: &str, reference: &str, wanted: &Value) -> Result<(), ApiError> {
    let reported: Vec<_> = repository.statuses.iter().filter(|status| status.sha == sha).collect();
    let state_of = |context: &str| {
        reported.iter().rev().find(|status| status.context == context).map_or("pending", |status| status.state.as_str())
    };
    let contexts: Vec<&str> = match wanted.as_array() {
        Some(wanted) => wanted.iter().filter_map(Value::as_str).collect(),
        None => reported.iter().map(|status| status.context.as_str()).collect(),
    };
    if contexts.iter().all(|context| state_of(context) == "success") {
        return Ok(());
    }
    let contexts: Vec<Value> =
        contexts.iter().map(|context| json!({ "context": context, "state": state_of(context) })).collect();
    let error = json!({
        "contexts": contexts, "resource": "Deployment", "field": "required_contexts", "code": "invalid",
    });
    let message = format!("Conflict: Commit status checks failed for {reference}.");
    Err(ApiError { errors: vec![error], ..ApiError::new(StatusCode::CONFLICT, message) })
}

fn describe(repository: &HostedRepository, deployment: &CreatedDeployment) -> Value {
    let repository_url = shapes::api_url(repository);
    let url = format!("{repository_url}/deployments/{}", deployment.id);
    json!({
        "id": deployment.id,
        "node_id": shapes::node_id("DE", deployment.id),
        "creator": shapes::account(&repository.owner),
        "repository_url": repository_url,
        "updated_at": shapes::time(deployment.created_at),
        "url": url,
        "statuses_url": format!("{url}/statuses"),
        "sha": deployment.sha,
        "ref": deployment.reference,
        "task": "deploy",
        "payload": deployment.payload,
        "environment": deployment.environment,
        "description": deployment.description,
        "created_at": shapes::time(deployment.created_at),
    })
}

fn describe_status(repository: &HostedRepository, deployment: &CreatedDeployment, status: &DeploymentStatus) -> Value {
    let repository_url = shapes::api_url(repository);
    let deployment_url = format!("{repository_url}/deployments/{}", deployment.id);
    json!({
        "id": status.id,
        "node_id": shapes::node_id("DES", status.id),
        "url": format!("{deployment_url}/statuses/{}", status.id),
        "deployment_url": deployment_url,
        "repository_url": repository_url,
        "creator": shapes::account(&repository.owner),
        "target_url": status.log_url,
        "updated_at": shapes::time(status.created_at),
        "state": status.state,
        "description": status.description,
        "environment": deployment.environment,
        "log_url": status.log_url,
        "environment_url": status.environment_url,
        "created_at": shapes::time(status.created_at),
    })
}
