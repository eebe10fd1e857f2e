//! One attempt, from the claim to an end that is written or to a lost lease; the lease is renewed beside it. The stages
//! are in `stages`, what follows from them in `conclude`.
//!
//! [`RunningAttempt`] is the worker's side: lease, deadlines and journal. What acts on the server is a
//! [`PipelineAttempt`], in production `slipway_deploy::Attempt`.

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::{DeploymentWork, LeaseGuard, StageError};
use slipway_protocol::{DeploymentId, ErrorCode, Stage};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::cancellation::{Canceller, SHUTDOWN_GRACE, StopReason};
use super::lease_keeper::{LeaseKeeper, certain_until};
use super::prepare::{PreparedWork, prepare};
use super::progress::{self, ProgressSender};
use super::{PipelineAttempt, Runner, deadlines};
use crate::scheduler::MAX_INTERRUPTIONS;
use crate::store::{AttemptSummary, Boundary, Claim, ServerRecord, StoreError};
use crate::telemetry;

/// How an attempt came to its end.
pub(super) enum AttemptEnd {
    /// Every stage is done.
    Done { url: Option<String> },
    /// A stage failed; `open` is for how long the server's circuit is open because of that.
    Failed { error: StageError, stage: Option<Stage>, open: Option<Duration> },
    /// Somebody asked to cancel the deployment.
    Cancelled,
    /// A newer request for the same project waits.
    Superseded(DeploymentId),
    /// It was interrupted too often.
    GivenUp,
    /// This worker drains.
    Drained,
    /// The lease is lost, or can't be shown to be held: nothing may be written.
    Lost(StoreError),
}

impl From<StoreError> for AttemptEnd {
    fn from(error: StoreError) -> Self {
        tracing::warn!(
            error = error.summary(),
            "the attempt ends here, and its end isn't written; the next claim continues it"
        );
        Self::Lost(error)
    }
}

/// The error of an attempt on a server that may be another one.
pub(super) fn host_key_mismatch() -> StageError {
    let message = "the server showed a host key that was unknown, and meanwhile another one is pinned for it";
    StageError::new(ErrorCode::HostKeyMismatch, message)
}

/// An attempt under way.
pub(super) struct RunningAttempt<'a> {
    pub runner: &'a Runner,
    pub claim: &'a Claim,
    pub canceller: &'a Canceller,
    pub lease_guard: LeaseGuard,
    /// Absent until it has begun.
    pub pipeline: Option<RunningPipeline>,
    pub summary: AttemptSummary,
    /// Whether this attempt, or one before it, has begun a release on the project that hasn't proven itself.
    pub unproven: bool,
    /// Whether no stage of this deployment, or of one that it resumes, has ever begun.
    pub is_first: bool,
    /// When the deployment as a whole has taken too long.
    pub overdue_at: Instant,
}

/// What acts on the server, and what reports its progress.
pub(super) struct RunningPipeline {
    pub attempt: Box<dyn PipelineAttempt>,
    pub progress: Arc<ProgressSender>,
    pub input_hash: Vec<u8>,
    writer: tokio::task::JoinHandle<()>,
}

/// Executes a claim.
pub(super) async fn execute_claim(runner: &Runner, claim: Claim, keeper: &LeaseKeeper) {
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
        let (held_until, until) = watch::channel(certain_until(claim.asked_at, runner.settings.lease));
        let fence = u64::try_from(lease.fence.get()).unwrap_or_default();
        let canceller = Canceller::new();
        let mut attempt = RunningAttempt::new(runner, &claim, &canceller, LeaseGuard::new(fence, until));
        let written = {
            // Renewed until the end of this block.
            let kept = keeper.keep(&lease, held_until, canceller.clone());
            let work = attempt.execute();
            tokio::pin!(work);
            tokio::select! {
                written = &mut work => written,
                () = kept.lost() => {
                    // The running command must be dead before this counts as ended. A write that no database answers
                    // isn't waited for.
                    canceller.cancel(StopReason::LeaseLost);
                    let ended = tokio::time::timeout(SHUTDOWN_GRACE, work).await;
                    ended.unwrap_or(Err(StoreError::LeaseLost))
                }
            }
        };
        attempt.close().await;
        match written {
            Ok(result) => {
                tracing::Span::current()
                    .record("cicd.pipeline.result", pipeline_result(result))
                    .record("deployment.outcome", result);
                tracing::info!(result, "attempt ended");
            }
            Err(error) => {
                tracing::warn!(%error, "the attempt's end couldn't be written; its lease expires");
                runner.store.hold_failing(lease.deployment, &error).await;
            }
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
    fn new(runner: &'a Runner, claim: &'a Claim, canceller: &'a Canceller, lease_guard: LeaseGuard) -> Self {
        Self {
            runner,
            claim,
            canceller,
            lease_guard,
            pipeline: None,
            summary: AttemptSummary {
                moves: claim.moves.as_ref().map(|_| claim.event.data.project.id),
                ..AttemptSummary::default()
            },
            unproven: false,
            is_first: false,
            overdue_at: Instant::now() + runner.settings.deadlines.deployment,
        }
    }

    /// Runs the attempt to its end; gives the name of the outcome that was written.
    async fn execute(&mut self) -> Result<&'static str, StoreError> {
        let ended = match self.begin().await {
            Ok(()) => self.run_stages().await,
            Err(ended) => ended,
        };
        self.conclude(ended).await
    }

    async fn close(mut self) {
        let Some(RunningPipeline { attempt, progress, writer, .. }) = self.pipeline.take() else { return };
        let closed = async {
            attempt.close().await;
            drop(progress);
            // The writer ends with the last sender.
            let _ = writer.await;
        };
        // An end that is written must not wait for a sender that is still held somewhere.
        let _ = tokio::time::timeout(Duration::from_secs(5), closed).await;
    }

    /// Begins the pipeline's attempt, even when there is a reason not to run any stage: restoring the previous release
    /// needs it, too.
    async fn begin(&mut self) -> Result<(), AttemptEnd> {
        let Self { runner, claim, .. } = *self;
        let history = claim.history;
        (self.unproven, self.is_first) = (history.unproven, !history.begun && !history.resumes);
        self.overdue_at = Instant::now() + deadlines::remaining(&runner.settings.deadlines, &history);
        let prepared = prepare(runner, claim, self.lease_guard.clone()).await?;
        let refused = match prepared {
            Ok(PreparedWork { work, server, refused }) => {
                self.begin_with(work, server);
                refused.or_else(|| deadlines::check_age(&runner.settings.deadlines, &history, &claim.event).err())
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
        let (progress, writer) = progress::channel(
            runner.store.clone(),
            claim.lease.clone(),
            (claim.attempt, claim.interruptions),
            server,
            self.canceller.clone(),
        );
        let writer = tokio::spawn(writer.run().in_current_span());
        let input_hash = runner.pipeline.input_hash(&work);
        let attempt = runner.pipeline.begin(work, progress.clone(), self.canceller.stop_token());
        self.pipeline = Some(RunningPipeline { attempt, progress, input_hash, writer });
    }
}
