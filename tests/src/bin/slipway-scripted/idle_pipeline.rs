//! The pipeline without a model: each stage takes a given time and does nothing, so that what is measured is the engine.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::{DeploymentWork, Reporter, StageError, StageReport};
use slipway_protocol::{ErrorCode, Stage};
use slipway_worker::run::{Pipeline, PipelineAttempt};
use tokio_util::sync::CancellationToken;

type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Attempts whose stages only take their time.
#[derive(Clone)]
pub struct IdlePipeline {
    /// How long each stage takes.
    pub stage: Duration,
}

impl Pipeline for IdlePipeline {
    fn begin(&self, _: DeploymentWork, _: Arc<dyn Reporter>, cancel: CancellationToken) -> Box<dyn PipelineAttempt> {
        Box::new(IdleAttempt { stage: self.stage, cancel })
    }
}

struct IdleAttempt {
    stage: Duration,
    cancel: CancellationToken,
}

impl PipelineAttempt for IdleAttempt {
    fn run(&mut self, _: Stage) -> Future<'_, Result<StageReport, StageError>> {
        Box::pin(async move {
            if self.stage.is_zero() {
                return Ok(StageReport::of(true));
            }
            tokio::select! {
                () = tokio::time::sleep(self.stage) => Ok(StageReport::of(true)),
                () = self.cancel.cancelled() => Err(StageError::new(ErrorCode::ServerConnectionLost, "cancelled")),
            }
        })
    }

    fn round_trips(&self) -> u32 {
        0
    }

    fn close(self: Box<Self>) -> Future<'static, ()> {
        Box::pin(async {})
    }
}
