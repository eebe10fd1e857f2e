//! The worker's configuration, as the other modules see it. Everything comes from the environment and is parsed before
//! anything starts; all mistakes are reported at once (`load`). Every variable is in `variables`, every default in
//! `defaults`. Nothing but the credentials for images is read again later, and nothing outside this folder reads the environment, except
//! OpenTelemetry's own SDK.

mod defaults;
mod files;
mod front_door;
mod load;
mod parse;
mod placement;
mod reader;
mod registry_login;
mod sections;
mod url;
mod variable;
pub(crate) mod variables;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use slipway_deploy::DeployerConfig;
use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::bounds::Deadlines;

use crate::scheduler::{Limits, PlacementLimits};
use crate::store::{DatabaseRoute, Retention};
pub(crate) use files::read_secret_file;
pub use load::{front_door_from_env, placement_from_env};
pub use parse::LogFormat;
pub use reader::{ConfigMistake, ConfigMistakes};
pub(crate) use registry_login::{LOGIN_RULE, is_password, parse_login};
pub use url::ConnectionUrl;
pub use variables::{GROUPS, Unset, VariableDoc, VariableGroup};

/// The whole configuration. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// This process among its peers, and its limits.
    pub worker: WorkerConfig,
    /// How RabbitMQ is connected to.
    pub broker: BrokerConfig,
    /// How PostgreSQL is connected to.
    pub database: DatabaseConfig,
    /// Where probes and operators ask for the worker's health.
    pub admin: AdminConfig,
    /// How servers are logged in to.
    pub servers: ServersConfig,
    /// How the secrets of requests are opened.
    pub secrets: SecretsConfig,
    /// What all attempts share.
    pub deployer: DeployerConfig,
    /// Where the credentials for images are.
    pub registry: RegistryConfig,
    /// How pushes are noticed that Slipway deploys itself.
    pub pushes: PushConfig,
    /// What is kept for how long.
    pub retention: Retention,
    /// Logs, traces and metrics.
    pub telemetry: TelemetryConfig,
    /// What an operator should know though it's no mistake; to be logged once logging works.
    pub warnings: Vec<String>,
}

/// This process among its peers, and its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerConfig {
    /// Its unique name.
    pub name: String,
    /// How many deployments it runs at once.
    pub concurrency: usize,
    /// How long running deployments may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// How long a lease lasts without a renewal.
    pub lease: Duration,
    /// Delays between whole attempts, and how many there are.
    pub attempts: RetryPolicy,
    /// To how many versions of a project one may roll back.
    pub versions: u32,
    /// How long one half of a request waits for the other.
    pub half_timeout: Duration,
    /// Limits over all workers.
    pub limits: Limits,
    /// Whether commits' pages on GitHub show deployments.
    pub announce: bool,
    /// How long everything may take.
    pub deadlines: Deadlines,
    /// What bounds the choice of servers and ports.
    pub placement: PlacementLimits,
}

/// How RabbitMQ is connected to.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `amqp://` or `amqps://`, password included; of a cluster's nodes all, separated by commas or spaces.
    pub url: ConnectionUrl,
}

/// How PostgreSQL is connected to.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `postgresql://`, password included.
    pub url: ConnectionUrl,
    /// What is behind it, and the way around that.
    pub route: DatabaseRoute,
}

/// Where `/healthz`, `/readyz` and `/version` are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminConfig {
    /// The address to bind.
    pub address: SocketAddr,
}

/// How servers are logged in to. At least one of the two files is there; what they hold is read anew for each attempt.
#[derive(Debug, Clone)]
pub struct ServersConfig {
    /// The file of the key for servers that the inventory holds no key of.
    pub ssh_key_file: Option<PathBuf>,
    /// The file of the identity that opens the keys in the inventory.
    pub age_identity_file: Option<PathBuf>,
    /// Whether the first host key of an unknown server is recorded.
    pub trust_new: bool,
    /// Whether events may describe servers that the inventory doesn't know.
    pub from_events: bool,
}

/// How the secrets of requests are opened.
#[derive(Debug, Clone)]
pub struct SecretsConfig {
    /// The directory of the private keys, by key id; none when no sealed secrets are expected. Each is read anew whenever a
    /// box names it.
    pub sealing_keys_dir: Option<PathBuf>,
    /// Where mounted secrets are, in folders of projects and owners.
    pub mounted_dir: Option<PathBuf>,
    /// Whether boxes open that were sealed for no project.
    pub unbound_boxes: bool,
    /// Whether mounted secrets are read that lie in nobody's folder.
    pub unscoped_references: bool,
}

/// Where the workers' credentials for images are. What the files hold is read anew for each attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The user and the file of the password for all projects.
    pub fleet: Option<(String, PathBuf)>,
    /// A file for each owner of repositories.
    pub owners_dir: Option<PathBuf>,
}

/// How pushes are noticed that Slipway deploys itself.
#[derive(Debug, Clone)]
pub struct PushConfig {
    /// How long a branch isn't looked at when nothing happens.
    pub interval: Duration,
    /// Where webhooks are taken, if they are.
    pub webhooks: Option<WebhookConfig>,
}

/// Where webhooks are taken.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The address to bind.
    pub address: SocketAddr,
    /// What they are signed with.
    pub secret: SecretString,
}

/// Logs, traces and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Directives of what is logged.
    pub filter: String,
    /// How log lines look.
    pub format: LogFormat,
    /// Whether there is a collector to export to; the SDK reads where from the environment itself.
    pub export: bool,
    /// `service.instance.id`: the worker's name.
    pub instance: String,
}
