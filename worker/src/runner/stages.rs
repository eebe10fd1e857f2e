//! The stages of an attempt, one by one, each with its intent and outcome in the journal. Between two of them the
//! attempt may be stopped; within one, what runs can be cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_deploy::{CompletedStages, StageError, StageReport};
use slipway_protocol::{Change, ErrorCode, Stage, StageSummary};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::attempt::{AttemptEnd, RunningAttempt, mistrust};
use super::brake::{Canceller, StopReason, WIND_UP};
use super::keep::persist;
use super::{Runner, age};
use crate::crash::{self, Failpoint};
use crate::metrics::Metrics;
use crate::store::{Boundary, StoreError, leaves_unproven};

impl RunningAttempt<'_> {
    /// All that the attempt does; when the brake is pulled the running command dies and this ends soon after.
    pub(super) async fn stages(&mut self) -> AttemptEnd {
        let mut url = None;
        let mut proven = BTreeMap::new();
        for &stage in self.claim.action.stages() {
            if stage == Stage::Clone && self.claim.action.deploys() {
                // Once the server is known to be fit, and before anything is done to it.
                proven = match self.proven().await {
                    Ok(proven) => proven,
                    Err(error) => return error.into(),
                };
            }
            let outcome = match self.boundary(stage).await {
                Ok(()) => match proven.remove(&stage) {
                    Some(report) => self.finished(stage, &report, Duration::ZERO).await.map(|()| report),
                    None => self.one_stage(stage).await,
                },
                Err(ended) => Err(ended),
            };
            self.seen.round_trips = self.pipeline.as_ref().map(|begun| begun.attempt.round_trips());
            match outcome {
                Ok(report) => url = report.url.or(url),
                Err(ended) => return ended,
            }
        }
        AttemptEnd::Done { url }
    }

    /// Notes the intent to run `stage`, unless the attempt is to stop here.
    async fn boundary(&mut self, stage: Stage) -> Result<(), AttemptEnd> {
        let Self { runner, claim, .. } = *self;
        if let Some(why) = self.brake.pulled() {
            return Err(self.stopped(why));
        }
        if runner.drain.has_begun() {
            return Err(AttemptEnd::Drained);
        }
        let input = self.pipeline.as_ref().map(|begun| begun.input_hash.clone()).unwrap_or_default();
        match persist(|| runner.store.stage_started(&claim.lease, stage, &input)).await? {
            Boundary::GoOn => {
                self.unsettled |= leaves_unproven(claim.action, stage);
                Ok(())
            }
            Boundary::Superseded(by) => Err(AttemptEnd::Superseded(by)),
            Boundary::Cancelled => Err(AttemptEnd::Cancelled),
        }
    }

    /// What an earlier attempt has done and the server shows to be done still. Nothing is asked of the server unless
    /// the journal has something to offer.
    async fn proven(&mut self) -> Result<BTreeMap<Stage, StageReport>, StoreError> {
        let Self { runner, claim, .. } = *self;
        let Some(begun) = self.pipeline.as_mut() else { return Ok(BTreeMap::new()) };
        let done: CompletedStages = persist(|| runner.store.completed_stages(&claim.lease, &begun.input_hash)).await?;
        if done.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resumed = until_braked(runner, self.brake, self.overdue_at, begun.attempt.resume(&done)).await;
        let proven = resumed.unwrap_or_else(|| Err(unending())).unwrap_or_else(|error| {
            tracing::warn!(error.type = error.code.as_str(), "nothing is resumed: {}", error.message);
            BTreeMap::new()
        });
        let names: Vec<_> = proven.keys().map(|stage| stage.as_str()).collect();
        tracing::info!(stages = names.join(" "), "done by an earlier attempt, and still so");
        Ok(proven)
    }

    async fn one_stage(&mut self, stage: Stage) -> Result<StageReport, AttemptEnd> {
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
            let began = Instant::now();
            let result = crash::around(Failpoint::Stage, self.braked(stage)).await;
            let took = began.elapsed();
            self.flush().await;
            // What a server says that may be another one is worth nothing.
            let result = if self.brake.is_mistrusted() { Err(mistrust()) } else { result };
            match result {
                Ok(mut report) => {
                    let round_trips = self.pipeline.as_ref().map(|begun| begun.attempt.round_trips());
                    report.facts.insert("ssh_round_trips".to_owned(), round_trips.into());
                    tracing::Span::current().record("cicd.pipeline.task.run.result", "success");
                    self.finished(stage, &report, took).await?;
                    Ok(report)
                }
                Err(error) => Err(self.failed(stage, error, took).await?),
            }
        }
        .instrument(span)
        .await
    }

    async fn braked(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        let (runner, brake, overdue_at) = (self.runner, self.brake, self.overdue_at);
        let Some(begun) = self.pipeline.as_mut() else {
            return Err(StageError::new(ErrorCode::InternalError, "the attempt hasn't begun"));
        };
        let outcome = until_braked(runner, brake, overdue_at, begun.attempt.run(stage)).await;
        outcome.unwrap_or_else(|| Err(unending()))
    }

    /// Notes a stage's failure. One whose reason is the brake is the brake's.
    async fn failed(&mut self, stage: Stage, error: StageError, took: Duration) -> Result<AttemptEnd, StoreError> {
        let Self { runner, claim, .. } = *self;
        // Whyever it failed: GitHub has what it has.
        if let Some(digests) = &error.detail.github_digests {
            persist(|| runner.store.record_digests(&claim.lease, claim.event.data.project.id, digests)).await?;
        }
        let error = match self.brake.pulled() {
            None => error,
            Some(StopReason::StageOverdue) => self.stage_overdue().with_tail(error.tail),
            Some(why) => return Ok(self.stopped(why)),
        };
        if error.code == ErrorCode::StaleFence && self.is_lost().await? {
            return Ok(AttemptEnd::Lost);
        }
        let code = error.code.as_str();
        Metrics::get().stage(stage, code, took);
        tracing::Span::current().record("cicd.pipeline.task.run.result", "failure").record("error.type", code);
        tracing::warn!(error.type = code, stage.name = %stage, "stage failed: {}", error.message);
        let failure = error.failure(Some(stage));
        let reached = self.pipeline.as_ref().is_some_and(|begun| begun.attempt.round_trips() > 0);
        let open = persist(|| runner.store.stage_failed(&claim.lease, stage, &failure, took, reached)).await?;
        if !error.services.is_empty() {
            self.seen.services = error.services.to_vec();
        }
        self.seen.serving.clone_from(&error.detail.serving);
        Ok(AttemptEnd::Failed { error, stage: Some(stage), open })
    }

    /// Whether a server that refuses our fence is right. It isn't when the database still knows ours as the newest:
    /// then another Slipway, or a clock that ran ahead, has acted on this server, which somebody has to hear of.
    async fn is_lost(&mut self) -> Result<bool, StoreError> {
        if !self.hold.is_sure() {
            return Ok(true);
        }
        let Self { runner, claim, .. } = *self;
        match persist(|| runner.store.renew(&claim.lease, runner.settings.lease)).await {
            Ok(_) => Ok(false),
            Err(StoreError::LeaseLost) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn stopped(&self, why: StopReason) -> AttemptEnd {
        match why {
            StopReason::LeaseLost => AttemptEnd::Lost,
            StopReason::Cancelled => AttemptEnd::Cancelled,
            StopReason::Drained => AttemptEnd::Drained,
            StopReason::Mistrust => AttemptEnd::Failed { error: mistrust(), stage: None, open: None },
            // It came to its end all the same, but what follows it can't run any more.
            StopReason::StageOverdue => AttemptEnd::Failed { error: self.stage_overdue(), stage: None, open: None },
            StopReason::Overdue => {
                AttemptEnd::Failed { error: age::overdue(&self.runner.settings.deadlines), stage: None, open: None }
            }
        }
    }

    fn stage_overdue(&self) -> StageError {
        let limit = self.runner.settings.deadlines.stage.as_secs();
        StageError::new(ErrorCode::DeadlineExceeded, format!("the stage took longer than {limit} s"))
    }

    async fn finished(&mut self, stage: Stage, report: &StageReport, took: Duration) -> Result<(), AttemptEnd> {
        let Self { runner, claim, .. } = *self;
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let summary = StageSummary { stage, change: report.change, duration_ms };
        let digests = report.github_digests.as_ref().map(|digests| (claim.event.data.project.id, digests));
        persist(|| runner.store.stage_finished(&claim.lease, &summary, &report.facts, digests)).await?;
        let change = match report.change {
            Change::Changed => "changed",
            Change::Unchanged => "unchanged",
        };
        Metrics::get().stage(stage, change, took);
        tracing::info!(stage.name = %stage, stage.change = change, duration_ms, "stage done");
        self.seen.stages.push(summary);
        if !report.services.is_empty() {
            self.seen.services.clone_from(&report.services);
        }
        Ok(())
    }

    /// Waits until everything told so far is written, or can't be.
    pub(super) async fn flush(&mut self) {
        if let Some(begun) = &self.pipeline {
            begun.teller.flush().await;
        }
    }
}

/// Runs `work` to its end, or until soon after the brake is pulled: by what is heard beside it, or here at the drain's
/// deadline, at a stage's or at the deployment's. `None` when it doesn't end even then.
async fn until_braked<T>(
    runner: &Runner,
    brake: &Canceller,
    overdue_at: Instant,
    work: impl Future<Output = T>,
) -> Option<T> {
    let stop = brake.stop();
    tokio::pin!(work);
    let why = tokio::select! {
        outcome = &mut work => return Some(outcome),
        () = stop.cancelled() => None,
        () = runner.drain.overdue(Duration::ZERO) => Some(StopReason::Drained),
        () = tokio::time::sleep(runner.settings.deadlines.stage) => Some(StopReason::StageOverdue),
        () = tokio::time::sleep_until(overdue_at) => Some(StopReason::Overdue),
    };
    if let Some(why) = why {
        brake.pull(why);
    }
    tokio::time::timeout(WIND_UP, work).await.ok()
}

fn unending() -> StageError {
    StageError::new(ErrorCode::DeadlineExceeded, "what it ran didn't end when it was stopped")
}
