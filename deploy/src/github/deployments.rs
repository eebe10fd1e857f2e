//! Deployments as GitHub shows them on a commit's page.
//!
//! Deliberately not here: when a status is added, and what is done about one that GitHub doesn't take.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_protocol::DeploymentId;
use slipway_protocol::names::{CommitSha, RepositoryName};

use super::GithubClient;
use super::token::TokenScope;
use crate::StageError;

/// The key of the payload under which GitHub keeps our own id.
const OUR_ID: &str = "slipway_deployment";

/// GitHub's states of a deployment, as far as they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GithubDeploymentState {
    /// The deployment has begun and not ended.
    InProgress,
    /// The commit serves.
    Success,
    /// It couldn't be deployed.
    Failure,
    /// It is no longer wanted.
    Inactive,
}

impl GithubDeploymentState {
    /// The name that GitHub uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Inactive => "inactive",
        }
    }
}

#[derive(Deserialize)]
struct AnnouncedDeployment {
    id: u64,
    #[serde(default)]
    payload: Value,
}

impl GithubClient {
    /// Makes a deployment of `commit` to `environment` on GitHub and gives its number there. With `look_first` one that
    /// an earlier call has made is found instead of made again.
    ///
    /// # Errors
    /// GitHub's own, such as `github-forbidden` without the permission `deployments: write`.
    pub async fn create_deployment(
        &self,
        repository: &RepositoryName,
        commit: &CommitSha,
        environment: &str,
        id: DeploymentId,
        look_first: bool,
    ) -> Result<u64, StageError> {
        let path = format!("/repos/{repository}/deployments");
        if look_first {
            let doing = format!("list the deployments of {repository}");
            let sought = format!("{path}?sha={commit}&environment={environment}&per_page=100");
            let answer = self.ask(repository, TokenScope::Deployments, Method::GET, &sought, None, &doing).await?;
            let known: Vec<AnnouncedDeployment> = answer.read(&doing)?;
            let ours = |known: &&AnnouncedDeployment| known.payload[OUR_ID] == id.to_string();
            if let Some(known) = known.iter().find(ours) {
                return Ok(known.id);
            }
        }
        let doing = format!("create a deployment of {repository}");
        let body = json!({
            "ref": commit,
            "environment": environment,
            "description": "Slipway",
            "payload": { OUR_ID: id },
            // Not GitHub's to decide: the request came after whatever checks its producer wants.
            "required_contexts": [],
            "auto_merge": false,
            "production_environment": true,
        });
        let answer = self.ask(repository, TokenScope::Deployments, Method::POST, &path, Some(&body), &doing).await?;
        Ok(answer.read::<AnnouncedDeployment>(&doing)?.id)
    }

    /// Adds a status to a deployment; `description` has 140 characters at most.
    ///
    /// # Errors
    /// As [`Self::create_deployment`].
    pub async fn add_deployment_status(
        &self,
        repository: &RepositoryName,
        number: u64,
        status: GithubDeploymentState,
        description: &str,
        url: Option<&str>,
    ) -> Result<(), StageError> {
        let doing = format!("tell the state of a deployment of {repository}");
        let path = format!("/repos/{repository}/deployments/{number}/statuses");
        let mut body = json!({ "state": status.as_str(), "description": description });
        if let Some(url) = url {
            body["environment_url"] = url.into();
        }
        self.ask(repository, TokenScope::Deployments, Method::POST, &path, Some(&body), &doing).await.map(drop)
    }
}
