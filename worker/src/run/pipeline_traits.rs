//! The interface between the worker and the pipeline of `slipway-deploy`: what the runner needs of an attempt, so that
//! tests can replace the pipeline by a script. `slipway_deploy::Deployer` is the [`Pipeline`] in production, and
//! `slipway_deploy::Attempt` its [`PipelineAttempt`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use slipway_deploy::{CompletedStages, Deployer, DeploymentWork, Reporter, RestoreOutcome, StageError, StageReport};
use slipway_protocol::Stage;
use tokio_util::sync::CancellationToken;

type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Begins attempts.
pub trait Pipeline: Send + Sync {
    /// Begins an attempt; see [`Deployer::begin`].
    fn begin(
        &self,
        work: DeploymentWork,
        reporter: Arc<dyn Reporter>,
        cancel: CancellationToken,
    ) -> Box<dyn PipelineAttempt>;

    /// A hash of all that the stages depend on; see [`Deployer::input_hash`]. Of the request alone, unless the
    /// stages depend on more.
    fn input_hash(&self, work: &DeploymentWork) -> Vec<u8> {
        let request = serde_json::to_vec(&work.request).unwrap_or_default();
        ring::digest::digest(&ring::digest::SHA256, &request).as_ref().to_vec()
    }
}

/// An attempt as far as it acts on the server. The runner holds it inside its own `RunningAttempt`, which has the
/// lease, the deadlines and the journal.
pub trait PipelineAttempt: Send {
    /// Runs one stage; see [`slipway_deploy::Attempt::run`].
    fn run(&mut self, stage: Stage) -> Future<'_, Result<StageReport, StageError>>;
    /// Proves which of the stages that the journal calls done are still done; see [`slipway_deploy::Attempt::resume`].
    /// By default none is proven.
    fn resume<'a>(
        &'a mut self,
        _done: &'a CompletedStages,
    ) -> Future<'a, Result<BTreeMap<Stage, StageReport>, StageError>> {
        Box::pin(std::future::ready(Ok(BTreeMap::new())))
    }
    /// Goes back to the previous release; see [`slipway_deploy::Attempt::restore_previous`]. By default there is nothing to
    /// restore.
    fn restore_previous(&mut self, _keep_first: bool, _cancel: CancellationToken) -> Future<'_, RestoreOutcome> {
        Box::pin(std::future::ready(RestoreOutcome::Nothing))
    }
    /// The digests of the secrets that a move which was taken back has written for the server where the project is; see
    /// [`slipway_deploy::Attempt::take_former_digests`]. None by default.
    fn take_former_digests(&mut self) -> Option<BTreeMap<String, String>> {
        None
    }
    /// Sequential SSH round trips so far.
    fn round_trips(&self) -> u32;
    /// Closes its connection.
    fn close(self: Box<Self>) -> Future<'static, ()>;
}

impl Pipeline for Deployer {
    fn begin(
        &self,
        work: DeploymentWork,
        reporter: Arc<dyn Reporter>,
        cancel: CancellationToken,
    ) -> Box<dyn PipelineAttempt> {
        Box::new(Self::begin(self, work, reporter, cancel))
    }

    fn input_hash(&self, work: &DeploymentWork) -> Vec<u8> {
        Self::input_hash(self, work)
    }
}

impl PipelineAttempt for slipway_deploy::Attempt {
    fn run(&mut self, stage: Stage) -> Future<'_, Result<StageReport, StageError>> {
        Box::pin(Self::run(self, stage))
    }

    fn resume<'a>(
        &'a mut self,
        done: &'a CompletedStages,
    ) -> Future<'a, Result<BTreeMap<Stage, StageReport>, StageError>> {
        Box::pin(Self::resume(self, done))
    }

    fn restore_previous(&mut self, keep_first: bool, cancel: CancellationToken) -> Future<'_, RestoreOutcome> {
        Box::pin(Self::restore_previous(self, keep_first, cancel))
    }

    fn take_former_digests(&mut self) -> Option<BTreeMap<String, String>> {
        Self::take_former_digests(self)
    }

    fn round_trips(&self) -> u32 {
        Self::round_trips(self)
    }

    fn close(self: Box<Self>) -> Future<'static, ()> {
        Box::pin(Self::close(*self))
    }
}
