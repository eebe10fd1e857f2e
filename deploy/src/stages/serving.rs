//! What serves at the end of an attempt: which commit runs, and whether it answers from outside. The script that reads it
//! on the server is run by `leaks_and_prune`.

use std::time::Duration;

use slipway_protocol::{HealthCheck, Serving, Stage};
use tokio::time::Instant;

use crate::project::image_tag;
use crate::{Attempt, StageError};

/// Between two requests to a project that doesn't answer.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a release that was just restored may take to answer.
pub const RESTORED_WARM_UP: Duration = Duration::from_secs(20);
/// How long one that nobody touched may take.
const UNTOUCHED_WARM_UP: Duration = Duration::from_secs(2);

/// A service of the project that runs.
#[derive(Debug, PartialEq, Eq)]
struct RunningService {
    service: String,
    image: String,
    commit: Option<String>,
    port: Option<u16>,
}

impl Attempt {
    /// Adds to an error what serves in spite of it.
    pub(crate) async fn after_failure(&mut self, stage: Stage, mut error: StageError) -> StageError {
        // A plan must change nothing, and the script prunes images, which no layer prevents.
        let looks = self.is_connected() && !self.cancel.is_cancelled() && self.layer.is_none();
        if error.detail.serving.is_none() && looks {
            error.detail.serving = self.find_serving_within(stage, UNTOUCHED_WARM_UP).await;
        }
        error
    }

    /// What serves now, where a release was just restored. `None`: nobody could look.
    pub(crate) async fn find_serving(&mut self, stage: Stage) -> Option<Serving> {
        self.find_serving_within(stage, RESTORED_WARM_UP).await
    }

    async fn find_serving_within(&mut self, stage: Stage, patience: Duration) -> Option<Serving> {
        let output = self.find_leaks_and_prune(stage).await?;
        let all: Vec<RunningService> =
            output.values("runs").iter().filter_map(|line| RunningService::parse(line)).collect();
        let of = |name: &str| all.iter().find(|r| r.service == name && r.port.is_some());
        let Some(web) = of("frontend").or_else(|| of("backend")) else {
            return Some(Serving { commit: None, proven: false });
        };
        let (path, check) = super::service_check::health_check_of(&self.work.request, &web.service);
        let page = format!("http://{}:{}{path}", self.work.target.address.url_form(), web.port.unwrap_or_default());
        let proven = self.answers(&page, &check, patience.min(self.config().health_timeout)).await;
        Some(Serving { commit: web.commit().and_then(|c| c.parse().ok()), proven })
    }

    async fn answers(&self, page: &str, check: &HealthCheck, patience: Duration) -> bool {
        let ends = Instant::now() + patience;
        loop {
            let answer = self.probe().get(page).send().await;
            if answer.is_ok_and(|a| check.accepts(a.status().as_u16())) {
                return true;
            }
            if Instant::now() >= ends || self.cancel.is_cancelled() {
                return false;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl RunningService {
    /// `service image commit port…`; a commit that isn't known is `-`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().map(str::to_owned);
        let (service, image, commit) = (word()?, word()?, word()?);
        let port = words.next().and_then(|p| p.parse().ok());
        Some(Self { service, image, commit: (commit != "-").then_some(commit), port })
    }

    /// The commit that its label names, unless CI has put another image in its place since.
    fn commit(&self) -> Option<&str> {
        let commit = self.commit.as_deref()?;
        (image_tag::is_of_commit(&self.image, commit) || image_tag::is_pinned(&self.image)).then_some(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_known_unless_ci_has_replaced_the_image() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let of = |image: &str| {
            let running = RunningService::parse(&format!("backend {image} {commit} 8080"));
            running.and_then(|r| r.commit().map(str::to_owned))
        };
        assert_eq!(of("ghcr.io/a/b-backend:sha-0123456").as_deref(), Some(commit));
        assert_eq!(of("ghcr.io/a/b-backend:main@sha256:ab").as_deref(), Some(commit));
        assert_eq!(of("ghcr.io/a/b-backend:latest"), None);
        let unlabelled = RunningService::parse("redis redis:7-alpine -");
        assert_eq!(unlabelled.and_then(|r| r.port), None);
    }
}
