//! What follows from an attempt: another attempt, or the deployment's end. Before an end that would leave the new
//! release unproven, the previous one is restored; see `restore_previous`.

use std::time::Duration;

use slipway_deploy::StageError;
use slipway_protocol::{Action, DeploymentId, ErrorCode, Outcome, Stage};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::attempt::{AttemptEnd, RunningAttempt};
use super::persist::persist;
use crate::scheduler::{AttemptCounts, MAX_INTERRUPTIONS, RetryDecision, after_failure};
use crate::store::{DeploymentEnd, INTERRUPTED, NextAttempt, RetryOutcome, StoreError, interrupted_too_often};
use crate::telemetry::Metrics;

impl RunningAttempt<'_> {
    /// Writes what follows from the end; gives the name of the outcome.
    pub(super) async fn conclude(&mut self, ended: AttemptEnd) -> Result<&'static str, StoreError> {
        match ended {
            AttemptEnd::Done { url } => match self.finish(DeploymentEnd::Succeeded { url }).await {
                Err(StoreError::GivesWay(by)) => self.finish_superseded(by).await,
                ended => ended,
            },
            AttemptEnd::Cancelled => self.finish_cancelled().await,
            AttemptEnd::Superseded(by) => self.finish_superseded(by).await,
            AttemptEnd::GivenUp => {
                let error =
                    StageError::new(ErrorCode::InterruptedTooOften, interrupted_too_often(self.claim.interruptions));
                tracing::Span::current().record("error.type", error.code.as_str());
                self.fail_permanently(error, None, INTERRUPTED).await
            }
            AttemptEnd::Drained => self.interrupt().await,
            AttemptEnd::Lost(error) => Err(error),
            AttemptEnd::Failed { error, stage, open } => {
                tracing::Span::current().record("error.type", error.code.as_str());
                if let Some(ended) = self.leave_ports(&error, stage).await? {
                    return Ok(ended);
                }
                let tries = AttemptCounts { attempt: self.claim.attempt, waits: self.claim.waits };
                let in_time = |delay: Duration| Instant::now() + delay < self.overdue_at;
                let reason = match after_failure(&self.runner.settings.attempts, tries, &error, open) {
                    RetryDecision::Retry(delay) if in_time(delay) => {
                        return self.schedule_retry(&error, stage, NextAttempt::Counted(delay)).await;
                    }
                    RetryDecision::Wait(open) if in_time(open) => {
                        return self.schedule_retry(&error, stage, NextAttempt::Server(open)).await;
                    }
                    RetryDecision::Pause(delay) if in_time(delay) => {
                        return self.schedule_retry(&error, stage, NextAttempt::Uncounted(delay)).await;
                    }
                    RetryDecision::Retry(_) | RetryDecision::Wait(_) | RetryDecision::Pause(_) => "overdue",
                    RetryDecision::Permanent => "permanent",
                    RetryDecision::Exhausted => "exhausted",
                };
                self.fail_permanently(error, stage, reason).await
            }
        }
    }

    /// Has a deployment tried again with other ports, where Slipway chose those that turned out to be strangers'.
    async fn leave_ports(
        &mut self,
        error: &StageError,
        stage: Option<Stage>,
    ) -> Result<Option<&'static str>, StoreError> {
        let occupied = &error.detail.occupied_ports;
        let chooses = matches!(self.claim.action, Action::Deploy | Action::Move);
        if error.code != ErrorCode::PortOccupied || !chooses || occupied.is_empty() {
            return Ok(None);
        }
        let (store, lease, failure) = (&self.runner.store, &self.claim.lease, error.failure(stage));
        let limits = &self.runner.settings.placement;
        let left = persist(|| store.leave_ports(lease, occupied, failure.clone(), limits)).await?;
        match left {
            Some(outcome) => self.conclude_scheduled(outcome, error).await.map(Some),
            None => Ok(None),
        }
    }

    async fn schedule_retry(
        &mut self,
        error: &StageError,
        stage: Option<Stage>,
        next: NextAttempt,
    ) -> Result<&'static str, StoreError> {
        let (store, lease, failure) = (&self.runner.store, &self.claim.lease, error.failure(stage));
        let outcome = persist(|| store.schedule_attempt(lease, failure.clone(), next)).await?;
        self.conclude_scheduled(outcome, error).await
    }

    async fn conclude_scheduled(
        &mut self,
        outcome: RetryOutcome,
        error: &StageError,
    ) -> Result<&'static str, StoreError> {
        match outcome {
            RetryOutcome::At(_) => {
                Metrics::get().retried(error.code.as_str());
                Ok("retry")
            }
            RetryOutcome::Superseded(by) => self.finish_superseded(by).await,
            RetryOutcome::Cancelled => self.finish_cancelled().await,
        }
    }

    async fn finish_cancelled(&mut self) -> Result<&'static str, StoreError> {
        match self.restore_previous(false).await {
            Ok(_) => self.finish(DeploymentEnd::Cancelled).await,
            Err(aborted) => self.conclude_aborted_restore(aborted).await,
        }
    }

    /// Restores the previous release unless the newer request is for the same server: then the end of that one decides.
    async fn finish_superseded(&mut self, by: DeploymentId) -> Result<&'static str, StoreError> {
        let (store, lease) = (&self.runner.store, &self.claim.lease);
        // What a move leaves is on two servers, and nothing else takes that over.
        let moves = self.claim.action == Action::Move;
        if self.unproven && (moves || !persist(|| store.takes_over(by, lease)).await?) {
            match self.restore_previous(false).await {
                Ok(_) => {}
                Err(aborted) => return self.conclude_aborted_restore(aborted).await,
            }
        }
        self.finish(DeploymentEnd::Superseded { by: Some(by) }).await
    }

    async fn conclude_aborted_restore(&mut self, aborted: AttemptEnd) -> Result<&'static str, StoreError> {
        match aborted {
            AttemptEnd::Drained => self.interrupt().await,
            _ => Err(StoreError::LeaseLost),
        }
    }

    async fn fail_permanently(
        &mut self,
        error: StageError,
        stage: Option<Stage>,
        reason: &'static str,
    ) -> Result<&'static str, StoreError> {
        let restored = match self.restore_previous(true).await {
            Ok(restored) => restored,
            Err(aborted) => return self.conclude_aborted_restore(aborted).await,
        };
        let error = restored.add_to(error);
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
        // No event may follow the result.
        self.flush().await;
        if self.canceller.is_lease_lost() {
            return Err(StoreError::LeaseLost);
        }
        // Nothing of a move is on its new server that was called off before it brought anything.
        self.summary.restored |= self.claim.action == Action::Move && !self.unproven;
        let span = tracing::info_span!(
            "create slipway.events",
            otel.kind = "producer",
            messaging.system = "rabbitmq",
            messaging.operation.type = "create",
            messaging.operation.name = "create",
            messaging.destination.name = slipway_protocol::topology::EVENTS,
        );
        let (store, lease, summary) = (&self.runner.store, &self.claim.lease, &self.summary);
        let ended = match end {
            DeploymentEnd::Superseded { .. } => {
                persist(|| store.finish_superseded(lease, summary)).instrument(span).await?
            }
            end => {
                let writer = &self.runner.writer;
                Some(persist(|| writer.finish(lease, &end, summary)).instrument(span).await?)
            }
        };
        // The newer request was cancelled: this deployment is the newest again.
        let Some(outcome) = ended else { return self.interrupt().await };
        Ok(outcome.as_str())
    }
}
