//! The seam between engine and pipeline: what the runner needs of an attempt, so that tests can drive it with a script.

use std::pin::Pin;
use std::sync::Arc;

use slipway_deploy::{Deployer, Reporter, StageError, StageReport, Work};
use slipway_protocol::Stage;
use tokio_util::sync::CancellationToken;

type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Begins attempts.
pub trait Pipeline: Send + Sync {
    /// Begins an attempt; see [`Deployer::begin`].
    fn begin(&self, work: Work, reporter: Arc<dyn Reporter>, cancel: CancellationToken) -> Box<dyn Attempt>;
}

/// An attempt under way.
pub trait Attempt: Send {
    /// Runs one stage; see [`slipway_deploy::Attempt::run`].
    fn run(&mut self, stage: Stage) -> Future<'_, Result<StageReport, StageError>>;
    /// Sequential SSH round trips so far.
    fn round_trips(&self) -> u32;
    /// Closes its connection.
    fn close(self: Box<Self>) -> Future<'static, ()>;
}

impl Pipeline for Deployer {
    fn begin(&self, work: Work, reporter: Arc<dyn Reporter>, cancel: CancellationToken) -> Box<dyn Attempt> {
        Box::new(Self::begin(self, work, reporter, cancel))
    }
}

impl Attempt for slipway_deploy::Attempt {
    fn run(&mut self, stage: Stage) -> Future<'_, Result<StageReport, StageError>> {
        Box::pin(Self::run(self, stage))
    }

    fn round_trips(&self) -> u32 {
        Self::round_trips(self)
    }

    fn close(self: Box<Self>) -> Future<'static, ()> {
        Box::pin(Self::close(*self))
    }
}
