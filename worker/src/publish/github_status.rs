//! Shows the state of deployments on the commits' pages on GitHub, through its Deployments API. It follows the database
//! and delays nothing: a deployment succeeds whether or not GitHub can be reached. When a worker dies, another one
//! continues; then a status may be sent twice, but a deployment is never created twice.

use std::time::Duration;

use slipway_deploy::StageError;
use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::github::{GithubClient, GithubDeploymentState};
use slipway_protocol::Outcome;

use crate::process::Drain;
use crate::store::{Announcement, State, Store, StoreError};

/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often and how far apart one status is tried: for about two hours.
pub(crate) const STATUS_RETRIES: RetryPolicy =
    RetryPolicy { initial: Duration::from_secs(5), max: Duration::from_secs(600), multiplier: 2.0, attempts: 20 };

/// Sends the state of deployments to GitHub.
pub struct GithubStatusPublisher {
    /// Where it's read what GitHub doesn't know yet.
    pub store: Store,
    /// The client of its API.
    pub github: GithubClient,
    /// Ends the publishing as soon as it begins.
    pub drain: Drain,
}

impl GithubStatusPublisher {
    /// Works until the drain begins; what ends after that is sent by another worker, or after the next start.
    pub async fn run(self) {
        let wakeups = self.store.listen();
        while !self.drain.has_begun() {
            let asked = self.publish_next().await;
            if let Ok(true) = asked {
                continue;
            }
            if let Err(error) = &asked {
                tracing::debug!(%error, "the database couldn't be asked for what GitHub doesn't know yet");
            }
            tokio::select! {
                () = self.drain.token().cancelled() => {}
                () = wakeups.announcement() => {}
                () = tokio::time::sleep(AFTER_FAILURE), if asked.is_err() => {}
            }
        }
    }

    /// Sends the next status; false when there is none.
    async fn publish_next(&self) -> Result<bool, StoreError> {
        let Some(announcement) = self.store.next_announcement().await? else { return Ok(false) };
        let (status, is_last) = github_state(&announcement);
        match self.send_status(&announcement, status).await {
            Ok(()) => self.store.mark_announced(announcement.deployment, status.as_str(), is_last).await?,
            Err(AnnounceError::Store(error)) => return Err(error),
            Err(AnnounceError::Github(error)) => self.schedule_retry(&announcement, &error).await?,
        }
        Ok(true)
    }

    async fn send_status(
        &self,
        announcement: &Announcement,
        status: GithubDeploymentState,
    ) -> Result<(), AnnounceError> {
        let existing = announcement.github_id.and_then(|id| u64::try_from(id).ok());
        let number = match existing {
            Some(number) => number,
            None => {
                // An earlier try may have created it, though its answer got lost.
                let may_exist = announcement.tries > 1;
                let create = self.github.create_deployment(
                    &announcement.repository,
                    &announcement.commit,
                    announcement.server.as_str(),
                    announcement.deployment,
                    may_exist,
                );
                let number = create.await?;
                self.store.record_github_id(announcement.deployment, i64::try_from(number).unwrap_or(i64::MAX)).await?;
                number
            }
        };
        let description = description(announcement);
        Ok(self
            .github
            .add_deployment_status(&announcement.repository, number, status, description, announcement.url.as_deref())
            .await?)
    }

    async fn schedule_retry(&self, announcement: &Announcement, error: &StageError) -> Result<(), StoreError> {
        let delay = STATUS_RETRIES.delay(announcement.tries).filter(|_| error.code.class().retries());
        let next_try = delay.map(|delay| error.retry_after.unwrap_or_default().max(delay));
        if next_try.is_none() {
            tracing::warn!(
                deployment.id = %announcement.deployment,
                error.type = error.code.as_str(),
                "GitHub's page of the commit doesn't show the deployment: {}; give the GitHub App the permission \
                 deployments: write, or set SLIPWAY_GITHUB_DEPLOYMENTS=false",
                error.message
            );
        }
        self.store
            .record_announcement_failure(
                announcement.deployment,
                &format!("{}: {}", error.code, error.message),
                next_try,
            )
            .await
    }
}

enum AnnounceError {
    Store(StoreError),
    Github(StageError),
}

impl From<StoreError> for AnnounceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<StageError> for AnnounceError {
    fn from(error: StageError) -> Self {
        Self::Github(error)
    }
}

/// A deployment's state in GitHub's words, and whether it's the last one.
fn github_state(announcement: &Announcement) -> (GithubDeploymentState, bool) {
    match announcement.state {
        State::Ended(_) if announcement.gone => (GithubDeploymentState::Inactive, true),
        State::Pending | State::Running | State::Unknown => (GithubDeploymentState::InProgress, false),
        State::Ended(outcome) => match outcome {
            Outcome::Succeeded | Outcome::AlreadyDeployed => (GithubDeploymentState::Success, true),
            Outcome::Failed | Outcome::MissingSecret => (GithubDeploymentState::Failure, true),
            Outcome::Cancelled | Outcome::Superseded => (GithubDeploymentState::Inactive, true),
        },
    }
}

/// The text beside the state; GitHub allows 140 characters.
fn description(announcement: &Announcement) -> &'static str {
    match announcement.state {
        State::Ended(_) if announcement.gone => "Taken off the server",
        State::Pending | State::Running | State::Unknown => "Slipway is deploying",
        State::Ended(outcome) => match outcome {
            Outcome::Succeeded => "Deployed by Slipway",
            Outcome::AlreadyDeployed => "Deployed already; nothing had to be changed",
            Outcome::Failed => "Not deployed; Slipway's result says why",
            Outcome::MissingSecret => "Not deployed: a secret is missing",
            Outcome::Cancelled => "Cancelled",
            Outcome::Superseded => "Superseded by a newer request",
        },
    }
}
