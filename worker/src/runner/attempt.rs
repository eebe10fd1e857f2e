//! One attempt: lease kept, stages run one by one, each with its intent and outcome in the journal, and the end.

use std::time::Duration;

use slipway_deploy::{StageError, StageReport};
use slipway_protocol::{Change, Outcome, Stage, StageSummary};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::keep::{keep, persist, prepare};
use super::{Runner, reporter};
use crate::crash::{self, Step};
use crate::metrics::Metrics;
use crate::scheduler::{MAX_INTERRUPTIONS, Next, Tries, after_failure};
use crate::store::{Boundary, Claim, End, Interrupted, StageEnd, StoreError};
use crate::telemetry;

/// How an attempt came to its end.
enum Ended {
    /// Every stage is done.
    Done { url: Option<String> },
    /// A stage failed; `open` is how long the server's circuit is open since.
    Failed { error: StageError, stage: Option<Stage>, open: Option<Duration> },
    /// It's to stop at this boundary.
    Stopped(End),
    /// This worker drains.
    Drained,
    /// The lease is lost, or can't be shown to be held: nothing may be written.
    Lost,
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        let error = format!("{:#}", anyhow::Error::from(error));
        tracing::warn!(error, "the attempt ends without a word; whoever claims it next goes on");
        Self::Lost
    }
}

/// Carries out a claim to an end that is written, or to a lost lease.
pub(super) async fn carry_out(runner: &Runner, claim: Claim) {
    let lease = claim.lease.clone();
    let span = tracing::info_span!(
        "attempt",
        otel.kind = "internal",
        cicd.pipeline.name = "slipway",
        cicd.pipeline.run.id = %lease.deployment,
        cicd.pipeline.result = tracing::field::Empty,
        deployment.outcome = tracing::field::Empty,
        deployment.id = %lease.deployment,
        deployment.action = %claim.action,
        project.slug = %lease.slug,
        server.handle = %lease.server,
        attempt.number = claim.attempt,
        lease.fence = lease.fence.get(),
        error.type = tracing::field::Empty,
    );
    telemetry::continue_trace(&span, claim.traceparent.as_deref(), None);
    async {
        tracing::info!("attempt begins");
        let cancel = CancellationToken::new();
        let mut seen = StageEnd::default();
        let ended = {
            let work = stages(runner, &claim, &cancel, &mut seen);
            tokio::pin!(work);
            tokio::select! {
                ended = &mut work => ended,
                () = keep(runner, &lease) => {
                    // The running command must be dead before anybody may take this for over.
                    cancel.cancel();
                    let _ = tokio::time::timeout(Duration::from_secs(10), work).await;
                    Ended::Lost
                }
            }
        };
        let written = tokio::select! {
            written = conclude(runner, &claim, ended, &seen) => written,
            () = keep(runner, &lease) => Err(StoreError::LeaseLost),
        };
        match written {
            Ok(result) => {
                tracing::Span::current()
                    .record("cicd.pipeline.result", pipeline_result(result))
                    .record("deployment.outcome", result);
                tracing::info!(result, "attempt ended");
            }
            Err(error) => tracing::warn!(%error, "the attempt's end couldn't be written; its lease expires"),
        }
    }
    .instrument(span)
    .await;
}

/// An attempt's end in the words of OpenTelemetry's conventions for pipelines.
fn pipeline_result(ended: &str) -> &'static str {
    match ended {
        "succeeded" => "success",
        // Nothing had to be done, or somebody else does it.
        "already_deployed" | "superseded" => "skip",
        "cancelled" | "stopped" | "interrupted" => "cancellation",
        "retry" => "error",
        _ => "failure",
    }
}

/// All that the attempt does; when `cancel` is called the running command dies and this ends soon after.
async fn stages(runner: &Runner, claim: &Claim, cancel: &CancellationToken, seen: &mut StageEnd) -> Ended {
    let (work, server) = match prepare(runner, claim).await {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => return Ended::Failed { error, stage: None, open: None },
        Err(error) => return error.into(),
    };
    let (teller, writer) = reporter::channel(runner.store.clone(), claim.lease.clone(), claim.attempt, server);
    let writer = tokio::spawn(writer.run().in_current_span());
    let mut attempt = runner.pipeline.begin(work, teller.clone(), cancel.clone());
    let input = ring::digest::digest(&ring::digest::SHA256, &serde_json::to_vec(&claim.event.data).unwrap_or_default());
    let mut url = None;
    let mut ended = None;
    for &stage in claim.action.stages() {
        if runner.drain.has_begun() {
            ended = Some(Ended::Drained);
            break;
        }
        let began = persist(|| runner.store.stage_started(&claim.lease, stage, input.as_ref()));
        match began.await {
            Ok(Boundary::GoOn) => {}
            Ok(Boundary::Superseded(by)) => ended = Some(Ended::Stopped(End::Superseded { by: Some(by) })),
            Ok(Boundary::Cancelled) => ended = Some(Ended::Stopped(End::Cancelled)),
            Err(error) => ended = Some(error.into()),
        }
        if ended.is_some() {
            break;
        }
        let outcome = one_stage(runner, claim, attempt.as_mut(), stage, cancel, &teller, seen).await;
        seen.round_trips = Some(attempt.round_trips());
        match outcome {
            Ok(report) => url = report.url.or(url),
            Err(end) => {
                ended = Some(end);
                break;
            }
        }
    }
    attempt.close().await;
    drop(teller);
    // The writer ends with the last teller; what holds one for longer must not hold up the end.
    let _ = tokio::time::timeout(Duration::from_secs(5), writer).await;
    ended.unwrap_or(Ended::Done { url })
}

async fn one_stage(
    runner: &Runner,
    claim: &Claim,
    attempt: &mut dyn super::Attempt,
    stage: Stage,
    cancel: &CancellationToken,
    teller: &reporter::Teller,
    seen: &mut StageEnd,
) -> Result<StageReport, Ended> {
    let span = tracing::info_span!(
        "stage",
        otel.name = stage.as_str(),
        otel.kind = "internal",
        stage.name = stage.as_str(),
        cicd.pipeline.task.name = stage.as_str(),
        cicd.pipeline.task.run.id = format!("{}/{}/{stage}", claim.lease.deployment, claim.lease.fence.get()),
        cicd.pipeline.task.run.result = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    async {
        let began = Instant::now();
        let result = crash::around(Step::Stage, within_drain(runner, cancel, attempt.run(stage))).await;
        let took = began.elapsed();
        teller.flush().await;
        match result {
            Ok(mut report) => {
                report.facts.insert("ssh_round_trips".to_owned(), attempt.round_trips().into());
                tracing::Span::current().record("cicd.pipeline.task.run.result", "success");
                finished(runner, claim, stage, &report, took, seen).await?;
                Ok(report)
            }
            Err(_) if cancel.is_cancelled() => Err(Ended::Drained),
            Err(error) => {
                let code = error.code.as_str();
                Metrics::get().stage(stage, code, took);
                tracing::Span::current().record("cicd.pipeline.task.run.result", "failure").record("error.type", code);
                tracing::warn!(error.type = code, stage.name = %stage, "stage failed: {}", error.message);
                let failure = error.failure(Some(stage));
                let open = persist(|| runner.store.stage_failed(&claim.lease, stage, &failure, took)).await?;
                if !error.services.is_empty() {
                    seen.services = error.services.to_vec();
                }
                seen.serving.clone_from(&error.detail.serving);
                Err(Ended::Failed { error, stage: Some(stage), open })
            }
        }
    }
    .instrument(span)
    .await
}

/// Waits for a stage, but at the drain's deadline cancels what it runs.
async fn within_drain<T>(runner: &Runner, cancel: &CancellationToken, stage: impl Future<Output = T>) -> T {
    tokio::pin!(stage);
    let overdue = async {
        runner.drain.token().cancelled().await;
        tokio::time::sleep_until(runner.drain.deadline().unwrap_or_else(Instant::now)).await;
    };
    tokio::select! {
        outcome = &mut stage => return outcome,
        () = overdue => cancel.cancel(),
    }
    stage.await
}

async fn finished(
    runner: &Runner,
    claim: &Claim,
    stage: Stage,
    report: &StageReport,
    took: Duration,
    seen: &mut StageEnd,
) -> Result<(), Ended> {
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
    seen.stages.push(summary);
    if !report.services.is_empty() {
        seen.services.clone_from(&report.services);
    }
    Ok(())
}

/// Writes what follows from the end; gives a word for it.
async fn conclude(runner: &Runner, claim: &Claim, ended: Ended, seen: &StageEnd) -> Result<&'static str, StoreError> {
    let (lease, store) = (&claim.lease, &runner.store);
    let finish = |end: End| async move {
        let span = tracing::info_span!(
            "create slipway.events",
            otel.kind = "producer",
            messaging.system = "rabbitmq",
            messaging.operation.type = "create",
            messaging.operation.name = "create",
            messaging.destination.name = slipway_protocol::topology::EVENTS,
        );
        let outcome = persist(|| store.finish(lease, &end, seen)).instrument(span).await?;
        Metrics::get().ended(outcome);
        Ok::<_, StoreError>(outcome.as_str())
    };
    match ended {
        Ended::Done { url } => finish(End::Succeeded { url }).await,
        Ended::Stopped(end) => finish(end).await,
        Ended::Drained => {
            let became = persist(|| store.interrupt(lease, MAX_INTERRUPTIONS)).await?;
            Metrics::get().interrupted();
            Ok(if became == Interrupted::GivenUp { Outcome::Failed.as_str() } else { "interrupted" })
        }
        Ended::Lost => Err(StoreError::LeaseLost),
        Ended::Failed { error, stage, open } => {
            let failure = error.failure(stage);
            tracing::Span::current().record("error.type", error.code.as_str());
            let tries = Tries { attempt: claim.attempt, waits: claim.waits };
            let reason = match after_failure(&runner.settings.attempts, tries, &error, open) {
                next @ (Next::Retry(delay) | Next::Wait(delay)) => {
                    let again = || async {
                        match next {
                            Next::Wait(_) => store.wait(lease, failure.clone(), delay).await,
                            _ => store.retry(lease, failure.clone(), delay).await,
                        }
                    };
                    return match persist(again).await? {
                        Some(_) => {
                            Metrics::get().retried(error.code.as_str());
                            Ok("retry")
                        }
                        None => Ok("stopped"),
                    };
                }
                Next::Permanent => "permanent",
                Next::Exhausted => "exhausted",
            };
            finish(End::Failed { failure, missing_secret: error.missing_secret, reason }).await
        }
    }
}
