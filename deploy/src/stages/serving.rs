//! What serves at the end of an attempt: which commit runs, and whether it answers from outside. The script that reads it
//! on the server is run by `leaks_and_prune`; which commit is proven is decided in `origin`.

use std::time::Duration;

use slipway_protocol::names::CommitSha;
use slipway_protocol::{Action, HealthCheck, Serving, Stage};
use tokio::time::Instant;

use super::origin::{ContainerOrigin, join_proofs, read_origins};
use super::served_commit::find_commit;
use crate::http::page_request;
use crate::remote::output::ScriptOutput;
use crate::{Attempt, StageError, StageReport};

/// Between two requests to a project that doesn't answer.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a release that was just restored may take to answer.
pub const RESTORED_WARM_UP: Duration = Duration::from_secs(20);
/// How long one that nobody touched may take.
const UNTOUCHED_WARM_UP: Duration = Duration::from_secs(2);
/// How much of a page is read to find its commit.
const MAX_PAGE_BYTES: usize = 64 * 1024;

/// What is on the server of the project.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Present {
    /// What answers.
    pub serving: Serving,
    /// The commit that its web service has, running or not; none where nothing proves one.
    pub commit: Option<CommitSha>,
}

impl Attempt {
    /// Adds to an error what serves in spite of it.
    pub(crate) async fn after_failure(&mut self, stage: Stage, mut error: StageError) -> StageError {
        // A plan must change nothing, and the script prunes images, which no layer prevents.
        if self.work.action == Action::Move {
            return self.take_back_after(stage, error).await;
        }
        let looks = self.session().is_some() && !self.cancel.is_cancelled() && self.layer.is_none();
        if error.detail.serving.is_none() && looks {
            let present = self.find_present_within(stage, UNTOUCHED_WARM_UP).await;
            error.detail.serving = present.map(|present| present.serving);
        }
        error
    }

    /// Adds what serves to the report of a start, which doesn't choose the version itself.
    pub(crate) async fn after_start(&mut self, mut report: StageReport) -> StageReport {
        if self.work.action == Action::Start {
            let present = self.find_present_within(Stage::Verify, UNTOUCHED_WARM_UP).await;
            report.serving = present.map(|present| present.serving);
        }
        report
    }

    /// What is there now, where a release was just restored. `None`: nobody could look.
    pub(crate) async fn find_present(&mut self, stage: Stage) -> Option<Present> {
        let touched = self.left.unchanged.is_none();
        self.find_present_within(stage, if touched { RESTORED_WARM_UP } else { UNTOUCHED_WARM_UP }).await
    }

    async fn find_present_within(&mut self, stage: Stage, patience: Duration) -> Option<Present> {
        let output = self.find_leaks_and_prune(stage).await?;
        Some(self.look(&output, patience).await)
    }

    /// What is there, out of what `tell_origins` has told; what runs is asked for its page.
    pub(crate) async fn look(&self, output: &ScriptOutput, patience: Duration) -> Present {
        let origins = read_origins(output, &self.work.request.repository.name);
        let of = |name: &str, runs| origins.iter().find(|o| o.service == name && o.runs == runs && o.port.is_some());
        let web = |runs| of("frontend", runs).or_else(|| of("backend", runs));
        let Some(ContainerOrigin { service, port: Some(port), commit, .. }) = web(true) else {
            let commit = web(false).and_then(|origin| origin.commit.clone());
            return Present { serving: Serving { commit: None, proven: false }, commit };
        };
        let (path, check) = super::service_check::health_check_of(&self.work.request, service);
        let page = format!("http://{}:{port}{path}", self.work.target.address.url_form());
        let answer = self.ask(&page, &check, patience.min(self.config().health_timeout)).await;
        let named = answer.as_deref().and_then(find_commit);
        let commit = join_proofs(commit.clone(), named.as_deref());
        Present { serving: Serving { commit: commit.clone(), proven: answer.is_some() }, commit }
    }

    /// The beginning of the page's healthy answer; `None` when there was none in time.
    async fn ask(&self, page: &str, check: &HealthCheck, patience: Duration) -> Option<Vec<u8>> {
        let ends = Instant::now() + patience;
        loop {
            let answer = page_request(self.probe(), page, check).send().await.ok();
            if let Some(mut answer) = answer.filter(|answer| check.accepts(answer.status().as_u16())) {
                let mut body = Vec::new();
                while body.len() < MAX_PAGE_BYTES
                    && let Ok(Some(chunk)) = answer.chunk().await
                {
                    body.extend_from_slice(&chunk);
                }
                return Some(body);
            }
            if Instant::now() >= ends || self.cancel.is_cancelled() {
                return None;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
