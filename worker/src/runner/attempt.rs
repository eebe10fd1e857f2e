//! One attempt: its lease kept beside it, from the claim to an end that is written or to a lost lease. What it does
//! meanwhile stands in `stages`, what follows from it in `conclude`.

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::{DeploymentWork, LeaseGuard, StageError};
use slipway_protocol::{DeploymentId, ErrorCode, Stage};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::brake::{Canceller, StopReason, WIND_UP};
use super::keep::{PreparedWork, keep, persist, prepare, sure_until};
use super::reporter::{self, ProgressSender};
use super::{Runner, age};
use crate::scheduler::MAX_INTERRUPTIONS;
use crate::store::{AttemptSummary, Boundary, Claim, ServerRecord, StoreError};
use crate::telemetry;

/// How an attempt came to its end.
pub(super) enum AttemptEnd {
    /// Every stage is done.
    Done { url: Option<String> },
    /// A stage failed; `open` is how long the server's circuit is open since.
    Failed { error: StageError, stage: Option<Stage>, open: Option<Duration> },
    /// It's cancelled.
    Cancelled,
    /// A newer request waits.
    Superseded(DeploymentId),
    /// It was interrupted too often.
    GivenUp,
    /// This worker drains.
    Drained,
    /// The lease is lost, or can't be shown to be held: nothing may be written.
    Lost,
}

impl From<StoreError> for AttemptEnd {
    fn from(error: StoreError) -> Self {
        let error = format!("{:#}", anyhow::Error::from(error));
        tracing::warn!(error, "the attempt ends without a word; whoever claims it next goes on");
        Self::Lost
    }
}

/// What ends an attempt on a server that may be another one.
pub(super) fn mistrust() -> StageError {
    let message = "the server showed a host key that was unknown, and meanwhile another one is pinned for it";
    StageError::new(ErrorCode::HostKeyMismatch, message)
}

/// An attempt under way.
pub(super) struct RunningAttempt<'a> {
    pub runner: &'a Runner,
    pub claim: &'a Claim,
    pub brake: &'a Canceller,
    pub hold: LeaseGuard,
    /// Absent until it's begun.
    pub pipeline: Option<RunningPipeline>,
    pub seen: AttemptSummary,
    /// Whether a release was begun on the project, by this attempt or any before, that hasn't proven itself.
    pub unsettled: bool,
    /// When the deployment as a whole has taken too long.
    pub overdue_at: Instant,
}

/// The pipeline's side of an attempt.
pub(super) struct RunningPipeline {
    pub attempt: Box<dyn super::PipelineAttempt>,
    pub teller: Arc<ProgressSender>,
    pub input_hash: Vec<u8>,
    writer: tokio::task::JoinHandle<()>,
}

/// Carries out a claim that was asked for at `asked`.
pub(super) async fn carry_out(runner: &Runner, claim: Claim, asked: Instant, wishes: watch::Receiver<()>) {
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
        let (sure, until) = watch::channel(sure_until(asked, runner.settings.lease));
        let fence = u64::try_from(lease.fence.get()).unwrap_or_default();
        let brake = Canceller::new();
        let mut run = RunningAttempt::new(runner, &claim, &brake, LeaseGuard::new(fence, until));
        let written = {
            let work = run.whole();
            tokio::pin!(work);
            tokio::select! {
                written = &mut work => written,
                () = keep(runner, &lease, &sure, &brake, wishes) => {
                    // The running command must be dead before anybody may take this for over; what hangs beside it, a
                    // write that no database answers among it, isn't waited for.
                    brake.pull(StopReason::LeaseLost);
                    let wound_up = tokio::time::timeout(WIND_UP, work).await;
                    wound_up.unwrap_or(Err(StoreError::LeaseLost))
                }
            }
        };
        // Its lease is over, or lost.
        run.close().await;
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
        "cancelled" | "interrupted" => "cancellation",
        "retry" => "error",
        _ => "failure",
    }
}

impl<'a> RunningAttempt<'a> {
    fn new(runner: &'a Runner, claim: &'a Claim, brake: &'a Canceller, hold: LeaseGuard) -> Self {
        Self {
            runner,
            claim,
            brake,
            hold,
            pipeline: None,
            seen: AttemptSummary::default(),
            unsettled: false,
            overdue_at: Instant::now() + runner.settings.deadlines.deployment,
        }
    }

    /// All of it; gives a word for the end that was written.
    async fn whole(&mut self) -> Result<&'static str, StoreError> {
        let ended = match self.begin().await {
            Ok(()) => self.stages().await,
            Err(ended) => ended,
        };
        self.conclude(ended).await
    }

    async fn close(mut self) {
        let Some(RunningPipeline { attempt, teller, writer, .. }) = self.pipeline.take() else { return };
        let closed = async {
            attempt.close().await;
            drop(teller);
            // The writer ends with the last teller.
            let _ = writer.await;
        };
        // What holds one for longer must not hold up the end.
        let _ = tokio::time::timeout(Duration::from_secs(5), closed).await;
    }

    /// Begins what the pipeline does. Whatever stands against it, it gets as far as this where that can be, so that
    /// what was touched before can be put back.
    async fn begin(&mut self) -> Result<(), AttemptEnd> {
        let Self { runner, claim, .. } = *self;
        let past = persist(|| runner.store.history(&claim.lease)).await?;
        self.unsettled = past.unproven;
        self.overdue_at = Instant::now() + age::left(&runner.settings.deadlines, &past);
        let prepared = prepare(runner, claim, self.hold.clone()).await?;
        let refused = match prepared {
            Ok(PreparedWork { work, server, refused }) => {
                self.begin_with(work, server);
                refused.or_else(|| age::too_old(&runner.settings.deadlines, &past, &claim.event).err())
            }
            Err(error) => Some(error),
        };
        match (claim.boundary, refused) {
            (Boundary::Cancelled, _) => Err(AttemptEnd::Cancelled),
            (Boundary::Superseded(by), _) => Err(AttemptEnd::Superseded(by)),
            (Boundary::GoOn, _) if claim.interruptions > MAX_INTERRUPTIONS => Err(AttemptEnd::GivenUp),
            (Boundary::GoOn, Some(error)) => Err(AttemptEnd::Failed { error, stage: None, open: None }),
            (Boundary::GoOn, None) => Ok(()),
        }
    }

    fn begin_with(&mut self, work: DeploymentWork, server: ServerRecord) {
        let Self { runner, claim, .. } = *self;
        let (teller, writer) =
            reporter::channel(runner.store.clone(), claim.lease.clone(), claim.attempt, server, self.brake.clone());
        let writer = tokio::spawn(writer.run().in_current_span());
        let input_hash = runner.pipeline.input_hash(&work);
        let attempt = runner.pipeline.begin(work, teller.clone(), self.brake.stop());
        self.pipeline = Some(RunningPipeline { attempt, teller, input_hash, writer });
    }
}
