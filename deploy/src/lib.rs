//! One project onto one host: stages, retry policies, commands for the server, SSH, the GitHub client, secrets.
//!
//! No AMQP and no SQL here: the worker decides when an attempt runs and stores what came of it.

mod attempt;
pub mod backoff;
pub mod bounds;
pub mod github;
mod http;
pub mod plan;
mod project;
pub mod remote;
pub mod scripts;
pub mod secrets;
mod stages;

pub use attempt::Attempt;
pub use attempt::deployer::{Deployer, Reporter, StageReport};
pub use attempt::error::{ErrorDetail, StageError};
pub use attempt::lease_guard::LeaseGuard;
pub use attempt::work::{DeployerConfig, DeploymentWork, GithubCredential, HostKeyPolicy, RegistryCredential, Target};
pub use remote::places::RemotePath;
pub use secrets::private_file::KeyFileError;
pub use stages::{CompletedStages, KEY_SECRET, RestoreOutcome};
