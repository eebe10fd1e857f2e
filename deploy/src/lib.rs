#![doc = include_str!("../README.md")]

mod attempt;
pub mod backoff;
pub mod bounds;
pub mod budget;
mod front_door;
pub mod github;
pub mod http;
pub mod plan;
mod project;
pub mod remote;
pub mod scripts;
pub mod secrets;
mod server_facts;
mod stages;

pub use attempt::Attempt;
pub use attempt::deployer::{Deployer, Reporter, StageReport};
pub use attempt::error::{ErrorDetail, StageError};
pub use attempt::lease_guard::LeaseGuard;
pub use attempt::work::{
    Departure, DeployerConfig, DeploymentWork, EarlierRequests, GithubCredential, HostKeyPolicy, RegistryCredential,
    RegistryCredentialSource, Target,
};
pub use front_door::{Acme, DoorCertificate, DoorImage, ExternalAccount, FrontDoor, FrontDoorFacts, PlainWord};
pub use project::grants::allowance::{Allowance, InvalidAllowance};
pub use project::limits::{ContainerDefaults, ProjectLimits};
pub use remote::places::RemotePath;
pub use secrets::private_file::KeyFileError;
pub use secrets::source::CredentialSource;
pub use server_facts::ServerMeasurement;
pub use stages::{CompletedStages, KEY_SECRET, RestoreOutcome};
