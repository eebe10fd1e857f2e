//! From a claimed deployment to its written end. This file holds what every attempt may use; the loop that claims is in
//! `claim_loop`, one attempt in `attempt`, its stages in `stages`, and what follows from it in `conclude`. What a stage
//! does on a server is the matter of `slipway-deploy`, behind the interface in `pipeline`.

mod attempt;
mod awake;
mod brought;
mod cancellation;
pub(crate) mod claim_loop;
mod conclude;
mod credentials;
mod deadlines;
mod lease_keeper;
mod persist;
mod pipeline_traits;
mod prepare;
mod progress;
mod registry_credentials;
mod restore_previous;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::bounds::Deadlines;

pub use brought::BroughtSecrets;
pub(crate) use cancellation::SHUTDOWN_GRACE;
pub use credentials::Credentials;
pub(crate) use lease_keeper::certain_until;
pub(crate) use persist::{LONGEST_ABSENCE, MAX_FAILURES};
pub use pipeline_traits::{Pipeline, PipelineAttempt};
pub use registry_credentials::RegistryCredentials;

use crate::process::Drain;
use crate::scheduler::{Limits, PlacementLimits};
use crate::store::{AttemptWriter, Store};

/// The limits and times of the runner, from the worker's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerSettings {
    /// How many deployments this worker runs at once.
    pub concurrency: usize,
    /// How long a lease lasts without a renewal.
    pub lease: Duration,
    /// How often and how far apart whole attempts are made.
    pub attempts: RetryPolicy,
    /// What is never exceeded by all workers together.
    pub limits: Limits,
    /// Where images are pulled from.
    pub registry: String,
    /// How long everything may take.
    pub deadlines: Deadlines,
    /// What bounds the choice of servers and ports.
    pub placement: PlacementLimits,
}

/// Carries out deployments until the drain has ended them.
pub struct Runner {
    /// Where due deployments are claimed, and what is known of them is read.
    pub store: Store,
    /// Writes what running attempts write.
    pub writer: AttemptWriter,
    /// Runs the stages of an attempt.
    pub pipeline: Arc<dyn Pipeline>,
    /// Keys of servers and secrets.
    pub credentials: Arc<Credentials>,
    /// Limits, leases and deadlines.
    pub settings: RunnerSettings,
    /// Ends the claiming as soon as it begins, and running attempts at its deadline.
    pub drain: Drain,
}
