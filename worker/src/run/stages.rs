//! The stages of an attempt, one by one; the intent and the outcome of each are written to the journal. The attempt may
//! be stopped between two stages, and the running command can be cancelled within one. What a stage does is in
//! `slipway-deploy`.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_deploy::{CompletedStages, StageError, StageReport};
use slipway_protocol::{Change, ErrorCode, Stage, StageSummary};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::attempt::{AttemptEnd, RunningAttempt, host_key_mismatch};
use super::cancellation::{Canceller, SHUTDOWN_GRACE, StopReason};
use super::persist::persist;
use super::{Runner, deadlines};
use crate::failpoint::{self, Failpoint};
use crate::store::{Boundary, StageEnd, StageIntent, StoreError, leaves_unproven};
use crate::telemetry::Metrics;

impl RunningAttempt<'_> {
    /// Runs the stages of the action; when the attempt is cancelled, the running command dies and this ends soon after.
    pub(super) async fn run_stages(&mut self) -> AttemptEnd {
        let mut url = None;
        let mut proven = BTreeMap::new();
        let stages = self.claim.action.stages();
        // The stage whose intent was written together with the outcome of the one before it.
        let mut begun = None;
        for (at, &stage) in stages.iter().enumerate() {
            if stage == Stage::Clone && self.must_prove() {
                // After preflight has shown that the server is fit, and before anything is done to it.
                proven = match self.prove_completed().await {
                    Ok(proven) => proven,
                    Err(error) => return error.into(),
                };
            }
            let may_begin = if begun == Some(stage) { Ok(()) } else { self.start_stage(stage).await };
            let next = stages.get(at + 1).copied();
            let outcome = match may_begin {
                Ok(()) => match proven.remove(&stage) {
                    Some(report) => {
                        self.record_finished(stage, &report, Duration::ZERO, next).await.map(|b| (report, b))
                    }
                    None => self.execute_stage(stage, next).await,
                },
                Err(ended) => Err(ended),
            };
            self.summary.round_trips = self.pipeline.as_ref().map(|pipeline| pipeline.attempt.round_trips());
            match outcome {
                Ok((report, next)) => (url, begun) = (report.url.or(url), next),
                Err(ended) => return ended,
            }
        }
        AttemptEnd::Done { url }
    }

    /// Whether stages may have been done before that needn't run again.
    fn must_prove(&self) -> bool {
        self.claim.action.deploys() && !self.is_first
    }

    /// The stage that may begin together with the end of the one before it.
    fn at_once(&self, next: Option<Stage>) -> Option<Stage> {
        let stops = self.canceller.reason().is_some() || self.runner.drain.has_begun();
        next.filter(|next| !stops && (*next != Stage::Clone || !self.must_prove()))
    }

    /// Writes the intent to run `stage` into the journal, unless the attempt must stop here.
    async fn start_stage(&mut self, stage: Stage) -> Result<(), AttemptEnd> {
        let Self { runner, claim, .. } = *self;
        if let Some(reason) = self.canceller.reason() {
            return Err(self.end_for(reason));
        }
        if runner.drain.has_begun() {
            return Err(AttemptEnd::Drained);
        }
        let input = self.pipeline.as_ref().map(|pipeline| pipeline.input_hash.clone()).unwrap_or_default();
        let boundary = persist(|| runner.writer.stage_started(&claim.lease, stage, &input)).await?;
        self.stopped_by(boundary, stage).map_or(Ok(()), Err)
    }

    /// The stages that an earlier attempt has done and that the server still shows to be done. The server is asked only
    /// when the journal holds such a stage.
    async fn prove_completed(&mut self) -> Result<BTreeMap<Stage, StageReport>, StoreError> {
        let Self { runner, claim, .. } = *self;
        let Some(pipeline) = self.pipeline.as_mut() else { return Ok(BTreeMap::new()) };
        let done: CompletedStages =
            persist(|| runner.store.completed_stages(&claim.lease, &pipeline.input_hash)).await?;
        if done.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resumed = until_cancelled(runner, self.canceller, self.overdue_at, pipeline.attempt.resume(&done)).await;
        let proven = resumed.unwrap_or_else(|| Err(did_not_end())).unwrap_or_else(|error| {
            let code = error.code.as_str();
            tracing::warn!(error.type = code, "no stage of an earlier attempt can be proven to be done: {}", error.message);
            BTreeMap::new()
        });
        let names: Vec<_> = proven.keys().map(|stage| stage.as_str()).collect();
        tracing::info!(stages = names.join(" "), "these stages were done by an earlier attempt, and needn't run again");
        Ok(proven)
    }

    async fn execute_stage(
        &mut self,
        stage: Stage,
        next: Option<Stage>,
    ) -> Result<(StageReport, Option<Stage>), AttemptEnd> {
        let lease = &self.claim.lease;
        let span = tracing::info_span!(
            "stage",
            otel.name = stage.as_str(),
            otel.kind = "internal",
            stage.name = stage.as_str(),
            cicd.pipeline.task.name = stage.as_str(),
            cicd.pipeline.task.run.id = format!("{}/{}/{stage}", lease.deployment, lease.fence.get()),
            cicd.pipeline.task.run.result = tracing::field::Empty,
            error.type = tracing::field::Empty,
        );
        async {
            let started_at = Instant::now();
            let result = failpoint::around(Failpoint::Stage, self.run_cancellable(stage)).await;
            let took = started_at.elapsed();
            self.flush().await;
            // An answer of a server that may be another one must not be trusted.
            let result = if self.canceller.has_host_key_mismatch() { Err(host_key_mismatch()) } else { result };
            match result {
                Ok(mut report) => {
                    let round_trips = self.pipeline.as_ref().map(|pipeline| pipeline.attempt.round_trips());
                    report.facts.insert("ssh_round_trips".to_owned(), round_trips.into());
                    tracing::Span::current().record("cicd.pipeline.task.run.result", "success");
                    let begun = self.record_finished(stage, &report, took, next).await?;
                    Ok((report, begun))
                }
                Err(error) => Err(self.record_failed(stage, error, took).await?),
            }
        }
        .instrument(span)
        .await
    }

    async fn run_cancellable(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        let (runner, canceller, overdue_at) = (self.runner, self.canceller, self.overdue_at);
        let Some(pipeline) = self.pipeline.as_mut() else {
            return Err(StageError::new(ErrorCode::InternalError, "the attempt hasn't begun"));
        };
        let outcome = until_cancelled(runner, canceller, overdue_at, pipeline.attempt.run(stage)).await;
        outcome.unwrap_or_else(|| Err(did_not_end()))
    }

    /// Writes a stage's failure into the journal, unless it failed because the attempt was cancelled.
    async fn record_failed(
        &mut self,
        stage: Stage,
        error: StageError,
        took: Duration,
    ) -> Result<AttemptEnd, StoreError> {
        let Self { runner, claim, .. } = *self;
        // For whatever reason it failed: these secrets are at GitHub.
        if let Some(digests) = &error.detail.github_digests {
            persist(|| runner.store.record_digests(&claim.lease, claim.event.data.project.id, digests)).await?;
        }
        let error = match self.canceller.reason() {
            None => error,
            Some(StopReason::StageOverdue) => self.stage_overdue().with_tail(error.tail),
            Some(reason) => return Ok(self.end_for(reason)),
        };
        if error.code == ErrorCode::StaleFence && self.is_lease_lost().await? {
            return Ok(AttemptEnd::Lost(StoreError::LeaseLost));
        }
        let code = error.code.as_str();
        Metrics::get().stage(stage, code, took);
        tracing::Span::current().record("cicd.pipeline.task.run.result", "failure").record("error.type", code);
        tracing::warn!(error.type = code, stage.name = %stage, "stage failed: {}", error.message);
        let failure = error.failure(Some(stage));
        let reached = self.pipeline.as_ref().is_some_and(|pipeline| pipeline.attempt.round_trips() > 0);
        let open = persist(|| runner.store.stage_failed(&claim.lease, stage, &failure, took, reached)).await?;
        if !error.services.is_empty() {
            self.summary.services = error.services.to_vec();
        }
        self.summary.serving.clone_from(&error.detail.serving);
        Ok(AttemptEnd::Failed { error, stage: Some(stage), open })
    }

    /// Whether a server that refuses our fence as stale is right. It isn't when our fence is still the newest in the
    /// database: then another Slipway installation, or a clock that ran ahead, has acted on this server, and a person
    /// has to know that.
    async fn is_lease_lost(&mut self) -> Result<bool, StoreError> {
        if !self.lease_guard.is_sure() {
            return Ok(true);
        }
        let Self { runner, claim, .. } = *self;
        match persist(|| runner.store.renew(&claim.lease, runner.settings.lease)).await {
            Ok(_) => Ok(false),
            Err(StoreError::LeaseLost) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn end_for(&self, reason: StopReason) -> AttemptEnd {
        match reason {
            StopReason::LeaseLost => AttemptEnd::Lost(StoreError::LeaseLost),
            StopReason::Cancelled => AttemptEnd::Cancelled,
            StopReason::Drained => AttemptEnd::Drained,
            StopReason::HostKeyMismatch => AttemptEnd::Failed { error: host_key_mismatch(), stage: None, open: None },
            // The stage itself has succeeded in the end, but the stages after it can't run any more.
            StopReason::StageOverdue => AttemptEnd::Failed { error: self.stage_overdue(), stage: None, open: None },
            StopReason::Overdue => AttemptEnd::Failed {
                error: deadlines::overdue(&self.runner.settings.deadlines),
                stage: None,
                open: None,
            },
        }
    }

    fn stage_overdue(&self) -> StageError {
        let limit = self.runner.settings.deadlines.stage.as_secs();
        StageError::new(ErrorCode::DeadlineExceeded, format!("the stage took longer than {limit} s"))
    }

    /// Writes that a stage is done, and that the `next` one begins; gives that one if it has begun.
    async fn record_finished(
        &mut self,
        stage: Stage,
        report: &StageReport,
        took: Duration,
        next: Option<Stage>,
    ) -> Result<Option<Stage>, AttemptEnd> {
        let Self { runner, claim, .. } = *self;
        let next = self.at_once(next);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let summary = StageSummary { stage, change: report.change, duration_ms };
        let digests = report.github_digests.as_ref().map(|digests| (claim.event.data.project.id, digests));
        let end = StageEnd { summary: &summary, facts: &report.facts, digests };
        let input_hash = self.pipeline.as_ref().map(|pipeline| pipeline.input_hash.as_slice()).unwrap_or_default();
        let intent = next.map(|stage| StageIntent { stage, input_hash });
        let boundary = persist(|| runner.writer.stage_finished(&claim.lease, end, intent)).await?;
        let change = match report.change {
            Change::Changed => "changed",
            Change::Unchanged => "unchanged",
        };
        Metrics::get().stage(stage, change, took);
        tracing::info!(stage.name = %stage, stage.change = change, duration_ms, "stage done");
        self.summary.stages.push(summary);
        if !report.services.is_empty() {
            self.summary.services.clone_from(&report.services);
        }
        if report.serving.is_some() {
            self.summary.serving.clone_from(&report.serving);
        }
        let Some(next) = next else { return Ok(None) };
        match self.stopped_by(boundary, next) {
            None => Ok(Some(next)),
            Some(ended) => Err(ended),
        }
    }

    /// What the answer to the intent to run `stage` ends the attempt with, if it does.
    fn stopped_by(&mut self, boundary: Boundary, stage: Stage) -> Option<AttemptEnd> {
        self.unproven |= boundary == Boundary::GoOn && leaves_unproven(self.claim.action, stage);
        match boundary {
            Boundary::GoOn => None,
            Boundary::Superseded(by) => Some(AttemptEnd::Superseded(by)),
            Boundary::Cancelled => Some(AttemptEnd::Cancelled),
        }
    }

    /// Waits until the progress reported so far is written, or can't be.
    pub(super) async fn flush(&mut self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.progress.flush().await;
        }
    }
}

/// Runs `work` to its end, or until it's cancelled: by the lease keeper, or here at the deadline of the drain, of the
/// stage or of the deployment. `None` when it doesn't end soon after that.
async fn until_cancelled<T>(
    runner: &Runner,
    canceller: &Canceller,
    overdue_at: Instant,
    work: impl Future<Output = T>,
) -> Option<T> {
    let cancelled = canceller.stop_token();
    tokio::pin!(work);
    let reason = tokio::select! {
        outcome = &mut work => return Some(outcome),
        () = cancelled.cancelled() => None,
        () = runner.drain.overdue(Duration::ZERO) => Some(StopReason::Drained),
        () = tokio::time::sleep(runner.settings.deadlines.stage) => Some(StopReason::StageOverdue),
        () = tokio::time::sleep_until(overdue_at) => Some(StopReason::Overdue),
    };
    if let Some(reason) = reason {
        canceller.cancel(reason);
    }
    tokio::time::timeout(SHUTDOWN_GRACE, work).await.ok()
}

fn did_not_end() -> StageError {
    StageError::new(ErrorCode::DeadlineExceeded, "what it ran didn't end when it was stopped")
}
