//! Putting back what served before a release that hasn't proven itself: whose release that was doesn't matter. A server
//! that can't be reached for the moment may be restarting, and is waited for.

use std::time::Duration;

use slipway_deploy::retry::RetryPolicy;
use slipway_deploy::{RestoreOutcome, StageError};
use slipway_protocol::ErrorCode;
use tokio_util::sync::CancellationToken;

use super::PipelineAttempt;
use super::attempt::{AttemptEnd, RunningAttempt, mistrust};
use super::brake::WIND_UP;

impl RunningAttempt<'_> {
    /// Puts back what served, if a release was begun that hasn't proven itself; `keep` as for [`PipelineAttempt::settle`].
    /// However that goes, it's no reason of its own. An error is what cut it short.
    pub(super) async fn settle(&mut self, keep: bool) -> Result<RestoreOutcome, AttemptEnd> {
        if !self.unsettled {
            return Ok(RestoreOutcome::Nothing);
        }
        if self.brake.is_mistrusted() {
            return Ok(RestoreOutcome::Unknown(mistrust()));
        }
        let settled = self.settle_now(keep).await?;
        // Whatever came of it was cut short.
        if self.brake.is_lost() {
            return Err(AttemptEnd::Lost);
        }
        self.seen.round_trips = self.pipeline.as_ref().map(|begun| begun.attempt.round_trips());
        self.seen.restored = settled.is_settled();
        self.unsettled = !self.seen.restored;
        if let Some(words) = settled.words() {
            tracing::info!("{words}");
        }
        self.seen.serving = settled.serving().or(self.seen.serving.take());
        if !settled.services().is_empty() {
            self.seen.services = settled.services().to_vec();
        }
        Ok(settled)
    }

    async fn settle_now(&mut self, keep: bool) -> Result<RestoreOutcome, AttemptEnd> {
        let (runner, stop) = (self.runner, self.brake.hands_off());
        let Some(begun) = self.pipeline.as_mut() else {
            let error = StageError::new(ErrorCode::InternalError, "there was nothing to reach the server with");
            return Ok(RestoreOutcome::Unknown(error));
        };
        let settling = patiently(begun.attempt.as_mut(), keep, &stop);
        tokio::pin!(settling);
        let cut = tokio::select! {
            settled = &mut settling => return Ok(settled),
            () = stop.cancelled() => Ok(RestoreOutcome::Unknown(mistrust())),
            () = runner.drain.overdue(Duration::ZERO) => Err(AttemptEnd::Drained),
            () = tokio::time::sleep(runner.settings.deadlines.settle) => {
                Ok(RestoreOutcome::Unknown(StageError::new(ErrorCode::DeadlineExceeded, "it took too long")))
            }
        };
        stop.cancel();
        let _ = tokio::time::timeout(WIND_UP, settling).await;
        cut
    }
}

async fn patiently(attempt: &mut dyn PipelineAttempt, keep: bool, stop: &CancellationToken) -> RestoreOutcome {
    let mut tried = 0;
    loop {
        tried += 1;
        let settled = attempt.settle(keep, stop.clone()).await;
        let RestoreOutcome::Unknown(error) = &settled else { return settled };
        let away = error.code.is_connection_failure() && !stop.is_cancelled();
        let Some(delay) = RetryPolicy::PUT_BACK.delay(tried).filter(|_| away) else { return settled };
        tracing::warn!(error.type = error.code.as_str(), "not put back yet, and tried again: {}", error.message);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => return settled,
        }
    }
}
