//! An attempt: one deployment, one SSH connection, the stages one by one.

use std::sync::Arc;

use slipway_protocol::names::HostKey;
use slipway_protocol::{Change, ErrorCode, Failure, ServiceReport, Stage};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::{DeployerConfig, StageError, Work};

/// What an attempt tells while it runs. Calls must not block; everything is redacted already.
pub trait Reporter: Send + Sync {
    /// A remote command wrote a line.
    fn line(&self, stage: Stage, line: &str);
    /// The stage failed for a moment and is tried again after `delay`.
    fn retrying(&self, stage: Stage, failure: &Failure, delay: Duration);
    /// The server showed its host key for the first time, and the policy was to trust it.
    fn host_key_learned(&self, key: &HostKey);
}

/// What came of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageReport {
    /// Whether it had something to do.
    pub change: Change,
    /// What it found or did.
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// What runs, as seen last (compose, verify).
    pub services: Vec<ServiceReport>,
    /// Digests of the GitHub secrets as they are now (secrets), to be remembered for the next deployment.
    pub github_digests: Option<BTreeMap<String, String>>,
    /// Where the project answers (verify).
    pub url: Option<String>,
}

/// Makes attempts; one for a process. Holds what they share: the HTTP client, installation tokens, limits.
#[derive(Clone)]
pub struct Deployer {
    config: Arc<DeployerConfig>,
}

impl Deployer {
    /// Checks the configuration and builds the HTTP client.
    ///
    /// # Errors
    /// A [`StageError`] when a key or the CA file can't be read.
    pub fn new(config: DeployerConfig) -> Result<Self, StageError> {
        Ok(Self { config: Arc::new(config) })
    }

    /// Begins an attempt; the SSH connection is made by the first stage that needs it. `cancel` ends the running
    /// remote command, with its process group.
    #[must_use]
    pub fn begin(&self, work: Work, reporter: Arc<dyn Reporter>, cancel: CancellationToken) -> Attempt {
        Attempt { config: self.config.clone(), work, reporter, cancel }
    }
}

/// One attempt of one deployment.
pub struct Attempt {
    config: Arc<DeployerConfig>,
    work: Work,
    reporter: Arc<dyn Reporter>,
    cancel: CancellationToken,
}

impl Attempt {
    /// Runs one stage, with its in-stage retries. Stages are run in the order of [`Stage::ALL`]; a stage that was
    /// done by an earlier attempt may be left out.
    ///
    /// # Errors
    /// A redacted [`StageError`]; the code's class says whether another attempt can help.
    pub async fn run(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        let _ = (&self.config, &self.work, &self.reporter, &self.cancel);
        Err(StageError::new(ErrorCode::InternalError, format!("stage {stage} isn't built yet")))
    }

    /// Sequential round trips over SSH so far, the ones of the handshake included.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        0
    }

    /// Closes the connection.
    pub async fn close(self) {}
}
