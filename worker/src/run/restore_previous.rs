//! Goes back to the previous release when the new one hasn't proven itself, whichever attempt had begun it. A server
//! that can't be reached for the moment may be restarting, and is waited for. What is done on the server is the matter
//! of `slipway-deploy`.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::{RestoreOutcome, StageError};
use slipway_protocol::ErrorCode;
use tokio_util::sync::CancellationToken;

use super::PipelineAttempt;
use super::attempt::{AttemptEnd, RunningAttempt, host_key_mismatch};
use super::cancellation::SHUTDOWN_GRACE;
use super::persist::persist;
use crate::store::StoreError;

impl RunningAttempt<'_> {
    /// Restores the previous release if the new one is unproven; `keep_first` as for
    /// [`PipelineAttempt::restore_previous`]. A restore that fails doesn't change the deployment's outcome. An error says
    /// why the restore was aborted.
    pub(super) async fn restore_previous(&mut self, keep_first: bool) -> Result<RestoreOutcome, AttemptEnd> {
        if !self.unproven {
            return Ok(RestoreOutcome::Nothing);
        }
        if self.canceller.has_host_key_mismatch() {
            return Ok(RestoreOutcome::Unknown(host_key_mismatch()));
        }
        let restored = self.restore_within_deadline(keep_first).await?;
        // Whatever came of it: without the lease nothing may be written.
        if self.canceller.is_lease_lost() {
            return Err(AttemptEnd::Lost(StoreError::LeaseLost));
        }
        if let (Some(order), Some(digests)) = (&self.claim.moves, self.take_former_digests()) {
            let (store, lease, project) = (&self.runner.store, &self.claim.lease, self.claim.event.data.project.id);
            persist(|| store.record_digests_of(lease, &order.from, project, &digests)).await?;
        }
        self.summary.round_trips = self.pipeline.as_ref().map(|pipeline| pipeline.attempt.round_trips());
        self.summary.restored = restored.is_complete();
        self.unproven = !self.summary.restored;
        if let Some(description) = restored.describe() {
            tracing::info!("{description}");
        }
        self.summary.serving = restored.serving().or(self.summary.serving.take());
        if !restored.services().is_empty() {
            self.summary.services = restored.services().to_vec();
        }
        Ok(restored)
    }

    /// What GitHub holds again of the server that a move has gone back to.
    fn take_former_digests(&mut self) -> Option<BTreeMap<String, String>> {
        self.pipeline.as_mut()?.attempt.take_former_digests()
    }

    async fn restore_within_deadline(&mut self, keep_first: bool) -> Result<RestoreOutcome, AttemptEnd> {
        let (runner, abort) = (self.runner, self.canceller.abort_token());
        let Some(pipeline) = self.pipeline.as_mut() else {
            let error = StageError::new(ErrorCode::InternalError, "there was nothing to reach the server with");
            return Ok(RestoreOutcome::Unknown(error));
        };
        let restore = restore_with_retries(pipeline.attempt.as_mut(), keep_first, &abort);
        tokio::pin!(restore);
        let aborted = tokio::select! {
            restored = &mut restore => return Ok(restored),
            () = abort.cancelled() => Ok(RestoreOutcome::Unknown(host_key_mismatch())),
            () = runner.drain.overdue(Duration::ZERO) => Err(AttemptEnd::Drained),
            () = tokio::time::sleep(runner.settings.deadlines.restore) => {
                Ok(RestoreOutcome::Unknown(StageError::new(ErrorCode::DeadlineExceeded, "it took too long")))
            }
        };
        abort.cancel();
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, restore).await;
        aborted
    }
}

async fn restore_with_retries(
    attempt: &mut dyn PipelineAttempt,
    keep_first: bool,
    abort: &CancellationToken,
) -> RestoreOutcome {
    let mut tried = 0;
    loop {
        tried += 1;
        let restored = attempt.restore_previous(keep_first, abort.clone()).await;
        let RestoreOutcome::Unknown(error) = &restored else { return restored };
        let is_unreachable = error.code.is_connection_failure() && !abort.is_cancelled();
        let Some(delay) = RetryPolicy::RESTORE.delay(tried).filter(|_| is_unreachable) else { return restored };
        let code = error.code.as_str();
        tracing::warn!(error.type = code, "the previous release isn't restored yet, and that is tried again: {}", error.message);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = abort.cancelled() => return restored,
        }
    }
}
