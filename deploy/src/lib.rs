//! One project onto one host: stages, retry policies, commands for the server, SSH, the GitHub client, secrets.
//!
//! No AMQP and no SQL here: the worker decides when an attempt runs and remembers what came of it.

mod attempt;
mod error;
pub mod github;
pub mod keys;
mod private_file;
pub mod retry;
pub mod seal;
mod target;

pub use attempt::{Attempt, Deployer, Reporter, StageReport};
pub use error::StageError;
pub use private_file::KeyFileError;
pub use target::{DeployerConfig, GithubCredential, HostKeyPolicy, RegistryCredential, Target, Work};
