//! Tells the commits' pages on GitHub how deployments are getting on, through its Deployments API. It follows what the
//! database says and holds nothing up: a deployment succeeds whether or not GitHub hears of it. A worker that dies is
//! followed by another; then a status may be told twice, but never a second deployment.

use std::time::Duration;

use slipway_deploy::StageError;
use slipway_deploy::github::{GithubClient, GithubDeploymentState};
use slipway_deploy::retry::RetryPolicy;
use slipway_protocol::Outcome;

use crate::lifecycle::Drain;
use crate::store::{Announcement, State, Store, StoreError};

/// How often the database is asked.
const POLL: Duration = Duration::from_secs(1);
/// How often and how far apart one announcement is tried: about two hours in all.
pub(crate) const TRIES: RetryPolicy =
    RetryPolicy { initial: Duration::from_secs(5), max: Duration::from_secs(600), multiplier: 2.0, attempts: 20 };

/// Tells GitHub.
pub struct Announcer {
    /// What is to be told.
    pub store: Store,
    /// Who is told.
    pub github: GithubClient,
    /// When to stop.
    pub drain: Drain,
}

impl Announcer {
    /// Tells until the drain begins; what ends after that is told by another worker, or at the next start.
    pub async fn run(self) {
        while !self.drain.has_begun() {
            match self.next().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "what GitHub is to be told isn't known now"),
            }
            tokio::select! {
                () = self.drain.token().cancelled() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Whether there was something to tell.
    async fn next(&self) -> Result<bool, StoreError> {
        let Some(news) = self.store.next_announcement().await? else { return Ok(false) };
        let (status, end) = status(&news);
        match self.tell(&news, status).await {
            Ok(()) => self.store.mark_announced(news.deployment, status.as_str(), end).await?,
            Err(AnnounceError::Store(error)) => return Err(error),
            Err(AnnounceError::Github(error)) => self.failed(&news, &error).await?,
        }
        Ok(true)
    }

    async fn tell(&self, news: &Announcement, status: GithubDeploymentState) -> Result<(), AnnounceError> {
        let known = news.github_id.and_then(|id| u64::try_from(id).ok());
        let number = match known {
            Some(number) => number,
            None => {
                // One that was tried before may have arrived.
                let again = news.tries > 1;
                let create = self.github.create_deployment(
                    &news.repository,
                    &news.commit,
                    news.server.as_str(),
                    news.deployment,
                    again,
                );
                let number = create.await?;
                self.store.record_github_id(news.deployment, i64::try_from(number).unwrap_or(i64::MAX)).await?;
                number
            }
        };
        let description = description(news);
        Ok(self.github.tell_deployment(&news.repository, number, status, description, news.url.as_deref()).await?)
    }

    async fn failed(&self, news: &Announcement, error: &StageError) -> Result<(), StoreError> {
        let delay = TRIES.delay(news.tries).filter(|_| error.code.class().retries());
        let again = delay.map(|delay| error.retry_after.unwrap_or_default().max(delay));
        if again.is_none() {
            tracing::warn!(
                deployment.id = %news.deployment,
                error.type = error.code.as_str(),
                "GitHub's page of the commit doesn't show the deployment: {}; give the GitHub App the permission \
                 deployments: write, or set SLIPWAY_GITHUB_DEPLOYMENTS=false",
                error.message
            );
        }
        self.store
            .record_announcement_failure(news.deployment, &format!("{}: {}", error.code, error.message), again)
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

/// GitHub's word for how a deployment is getting on, and whether it's the last one.
fn status(news: &Announcement) -> (GithubDeploymentState, bool) {
    match news.state {
        State::Ended(_) if news.gone => (GithubDeploymentState::Inactive, true),
        State::Pending | State::Running => (GithubDeploymentState::InProgress, false),
        State::Ended(outcome) => match outcome {
            Outcome::Succeeded | Outcome::AlreadyDeployed => (GithubDeploymentState::Success, true),
            Outcome::Failed | Outcome::MissingSecret => (GithubDeploymentState::Failure, true),
            Outcome::Cancelled | Outcome::Superseded => (GithubDeploymentState::Inactive, true),
        },
    }
}

/// At most 140 characters, as GitHub asks.
fn description(news: &Announcement) -> &'static str {
    match news.state {
        State::Ended(_) if news.gone => "Taken off the server",
        State::Pending | State::Running => "Slipway is deploying",
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
