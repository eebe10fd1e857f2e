//! When an attempt has ended: what serves now, images that nobody needs any more, and secrets that were left where they
//! don't belong. None of it decides about the deployment; a finding is told, and fails nothing that serves.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use slipway_protocol::{ErrorCode, HealthCheck, Serving, Stage};
use tokio::time::Instant;

use crate::lines::ScriptOutput;
use crate::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

/// Another look at a project that doesn't answer.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a release that was just put back may take to answer.
pub const WARM_UP: Duration = Duration::from_secs(20);
/// How long one that nobody touched may take.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A service of the project that runs.
#[derive(Debug, PartialEq, Eq)]
struct RunningService {
    service: String,
    image: String,
    commit: Option<String>,
    port: Option<u16>,
}

impl Attempt {
    /// Tidies up after a success.
    pub(crate) async fn after_success(&mut self, report: StageReport) -> StageReport {
        let Some(said) = self.aftermath(Stage::Secrets).await else { return report };
        report
            .fact("leaks", said.values("leak").to_vec())
            .fact("leaks_sought_everywhere", said.value("sweep").is_none())
            .fact("images_removed", said.values("pruned").len())
    }

    /// Tells in an error what serves in spite of it.
    pub(crate) async fn after_failure(&mut self, stage: Stage, mut error: StageError) -> StageError {
        // A plan touches nothing, and its layer doesn't keep the look from removing images.
        let looks = self.is_connected() && !self.cancel.is_cancelled() && self.layer.is_none();
        if error.detail.serving.is_none() && looks {
            error.detail.serving = self.serving(stage, AT_ONCE).await;
        }
        error
    }

    /// What serves now. `None`: nobody could look.
    pub(crate) async fn proven(&mut self, stage: Stage) -> Option<Serving> {
        self.serving(stage, WARM_UP).await
    }

    async fn serving(&mut self, stage: Stage, patience: Duration) -> Option<Serving> {
        let said = self.aftermath(stage).await?;
        let all: Vec<RunningService> =
            said.values("runs").iter().filter_map(|line| RunningService::parse(line)).collect();
        let of = |name: &str| all.iter().find(|r| r.service == name && r.port.is_some());
        let Some(web) = of("frontend").or_else(|| of("backend")) else {
            return Some(Serving { commit: None, proven: false });
        };
        let (path, check) = super::verify::asked_of(&self.work.request, &web.service);
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

    /// Runs the script and warns of what it finds. What goes wrong here has no say.
    async fn aftermath(&mut self, stage: Stage) -> Option<ScriptOutput> {
        let repository = &self.work.request.repository.name;
        let prefix = format!("{}/{repository}-", self.image_registry().as_str()).to_ascii_lowercase();
        let script = Script::new("aftermath", scripts::LEAKS_AND_PRUNE)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .bytes("prefix", prefix.as_bytes())
            .bytes("needles", self.redactor.sought().expose_secret().as_bytes());
        let said = match self.exec(stage, &script).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("what the attempt left on the server couldn't be looked at");
                return None;
            }
        };
        for place in said.values("leak") {
            let code = ErrorCode::SecretLeaked.as_str();
            let place = self.redactor.clean(place);
            tracing::warn!(error.type = code, place, "a known secret stands where it doesn't belong");
            self.say(stage, &format!("warning: {code}: a known secret stands in {place}"));
        }
        Some(said)
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
        let own = commit.get(..7).is_some_and(|short| self.image.ends_with(&format!(":sha-{short}")));
        (own || self.image.contains("@sha256:")).then_some(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_told_unless_ci_has_replaced_the_image() {
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
