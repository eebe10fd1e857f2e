#![doc = include_str!("../README.md")]

mod attempt;
pub mod bounds;
mod compose;
mod deployer;
mod env;
mod error;
pub mod github;
mod hold;
mod http;
pub mod keys;
mod lines;
pub mod plan;
mod private_file;
mod quote;
#[cfg(test)]
mod real_compose;
pub mod redact;
mod registry;
pub mod retry;
pub mod script;
pub mod seal;
pub mod ssh;
mod stages;
mod target;

pub use attempt::Attempt;
pub use deployer::{Deployer, Reporter, StageReport};
pub use error::{ErrorDetail, StageError};
pub use hold::LeaseGuard;
pub use private_file::KeyFileError;
pub use stages::{CompletedStages, KEY_SECRET, RestoreOutcome};
pub use target::{
    DeployerConfig, DeploymentWork, GithubCredential, HostKeyPolicy, RegistryCredential, RemotePath, Target,
};
