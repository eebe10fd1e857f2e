//! What follows from an attempt: another one, or the deployment's end. Before an end that leaves the new release
//! unproven, what served before is put back; see `settle`.

use std::time::Duration;

use slipway_deploy::StageError;
use slipway_protocol::{DeploymentId, ErrorCode, Outcome, Stage};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::attempt::{AttemptEnd, RunningAttempt};
use super::keep::persist;
use crate::metrics::Metrics;
use crate::scheduler::{AttemptCounts, MAX_INTERRUPTIONS, RetryDecision, after_failure};
use crate::store::{DeploymentEnd, INTERRUPTED, RetryOutcome, StoreError, interrupted_too_often};

impl RunningAttempt<'_> {
    /// Writes what follows from the end; gives a word for it.
    pub(super) async fn conclude(&mut self, ended: AttemptEnd) -> Result<&'static str, StoreError> {
        match ended {
            AttemptEnd::Done { url } => self.finish(DeploymentEnd::Succeeded { url }).await,
            AttemptEnd::Cancelled => self.cancelled().await,
            AttemptEnd::Superseded(by) => self.superseded(by).await,
            AttemptEnd::GivenUp => {
                let error =
                    StageError::new(ErrorCode::InterruptedTooOften, interrupted_too_often(self.claim.interruptions));
                tracing::Span::current().record("error.type", error.code.as_str());
                self.failed_for_good(error, None, INTERRUPTED).await
            }
            AttemptEnd::Drained => self.interrupt().await,
            AttemptEnd::Lost => Err(StoreError::LeaseLost),
            AttemptEnd::Failed { error, stage, open } => {
                tracing::Span::current().record("error.type", error.code.as_str());
                let tries = AttemptCounts { attempt: self.claim.attempt, waits: self.claim.waits };
                let in_time = |delay: Duration| Instant::now() + delay < self.overdue_at;
                let reason = match after_failure(&self.runner.settings.attempts, tries, &error, open) {
                    RetryDecision::Retry(delay) if in_time(delay) => {
                        return self.again(&error, stage, delay, true).await;
                    }
                    RetryDecision::Wait(open) if in_time(open) => return self.again(&error, stage, open, false).await,
                    RetryDecision::Retry(_) | RetryDecision::Wait(_) => "overdue",
                    RetryDecision::Permanent => "permanent",
                    RetryDecision::Exhausted => "exhausted",
                };
                self.failed_for_good(error, stage, reason).await
            }
        }
    }

    async fn again(
        &mut self,
        error: &StageError,
        stage: Option<Stage>,
        delay: Duration,
        counts: bool,
    ) -> Result<&'static str, StoreError> {
        let (store, lease, failure) = (&self.runner.store, &self.claim.lease, error.failure(stage));
        let schedule = || async {
            if counts {
                store.retry(lease, failure.clone(), delay).await
            } else {
                store.wait_for_server(lease, failure.clone(), delay).await
            }
        };
        match persist(schedule).await? {
            RetryOutcome::At(_) => {
                Metrics::get().retried(error.code.as_str());
                Ok("retry")
            }
            RetryOutcome::Superseded(by) => self.superseded(by).await,
            RetryOutcome::Cancelled => self.cancelled().await,
        }
    }

    async fn cancelled(&mut self) -> Result<&'static str, StoreError> {
        match self.settle(false).await {
            Ok(_) => self.finish(DeploymentEnd::Cancelled).await,
            Err(cut) => self.cut_short(cut).await,
        }
    }

    /// What it touched is taken over by a newer request for the same server, whose end settles it.
    async fn superseded(&mut self, by: DeploymentId) -> Result<&'static str, StoreError> {
        let (store, lease) = (&self.runner.store, &self.claim.lease);
        if self.unsettled && !persist(|| store.takes_over(by, lease)).await? {
            match self.settle(false).await {
                Ok(_) => {}
                Err(cut) => return self.cut_short(cut).await,
            }
        }
        self.finish(DeploymentEnd::Superseded { by: Some(by) }).await
    }

    async fn cut_short(&mut self, cut: AttemptEnd) -> Result<&'static str, StoreError> {
        match cut {
            AttemptEnd::Drained => self.interrupt().await,
            _ => Err(StoreError::LeaseLost),
        }
    }

    async fn failed_for_good(
        &mut self,
        error: StageError,
        stage: Option<Stage>,
        reason: &'static str,
    ) -> Result<&'static str, StoreError> {
        let settled = match self.settle(true).await {
            Ok(settled) => settled,
            Err(cut) => return self.cut_short(cut).await,
        };
        let error = settled.told_in(error);
        let (failure, missing_secret) = (error.failure(stage), error.missing_secret);
        self.finish(DeploymentEnd::Failed { failure, missing_secret, reason }).await
    }

    async fn interrupt(&mut self) -> Result<&'static str, StoreError> {
        let (store, lease) = (&self.runner.store, &self.claim.lease);
        let became = persist(|| store.interrupt(lease, MAX_INTERRUPTIONS)).await?;
        Metrics::get().interrupted();
        Ok(became.outcome().map_or("interrupted", Outcome::as_str))
    }

    async fn finish(&mut self, end: DeploymentEnd) -> Result<&'static str, StoreError> {
        // Nothing is told after the result.
        self.flush().await;
        if self.brake.is_lost() {
            return Err(StoreError::LeaseLost);
        }
        let span = tracing::info_span!(
            "create slipway.events",
            otel.kind = "producer",
            messaging.system = "rabbitmq",
            messaging.operation.type = "create",
            messaging.operation.name = "create",
            messaging.destination.name = slipway_protocol::topology::EVENTS,
        );
        let (store, lease, seen) = (&self.runner.store, &self.claim.lease, &self.seen);
        let ended = match end {
            DeploymentEnd::Superseded { .. } => {
                persist(|| store.finish_superseded(lease, seen)).instrument(span).await?
            }
            end => Some(persist(|| store.finish(lease, &end, seen)).instrument(span).await?),
        };
        // The newer one was called off: this one is the newest again.
        let Some(outcome) = ended else { return self.interrupt().await };
        Ok(outcome.as_str())
    }
}
