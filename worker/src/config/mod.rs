//! The worker's configuration: everything comes from the environment, is parsed before anything starts, and every
//! mistake is reported at once. Nothing is read again later, and nothing outside this folder reads the environment
//! (except OpenTelemetry's own SDK).

mod files;
mod parse;
mod reader;
mod url;
pub(crate) mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use slipway_deploy::retry::{Deadlines, Policy};
use slipway_deploy::{DeployerConfig, GithubCredential, RegistryCredential};

use crate::scheduler::Limits;
pub use files::SealingKeys;
pub use parse::LogFormat;
use reader::Reader;
pub use reader::{Mistake, Mistakes};
pub use url::ConnectionUrl;
use variables as var;
pub use variables::{Entry, GROUPS, Group, Unset};

/// Everything that the worker is told at its start. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// This process among its peers, and its limits.
    pub worker: WorkerConfig,
    /// RabbitMQ.
    pub broker: BrokerConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// The admin server.
    pub admin: AdminConfig,
    /// How servers are logged in to.
    pub servers: ServersConfig,
    /// How the secrets of requests are opened.
    pub secrets: SecretsConfig,
    /// What all attempts share.
    pub deployer: DeployerConfig,
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
    /// Deployments at once.
    pub concurrency: usize,
    /// How long running deployments may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// How long a lease lasts without a renewal.
    pub lease: Duration,
    /// Delays between whole attempts, and how many there are.
    pub attempts: Policy,
    /// To how many versions of a project one may roll back.
    pub versions: u32,
    /// Limits over all workers.
    pub limits: Limits,
    /// Whether commits' pages on GitHub show deployments.
    pub announce: bool,
    /// How long everything may take.
    pub deadlines: Deadlines,
}

/// RabbitMQ.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Where it is.
    pub url: ConnectionUrl,
}

/// PostgreSQL.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Where it is.
    pub url: ConnectionUrl,
}

/// The admin server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub address: SocketAddr,
}

/// How servers are logged in to. At least one of the two keys is there.
#[derive(Debug, Clone)]
pub struct ServersConfig {
    /// For servers that the inventory holds no key of.
    pub ssh_key: Option<SecretString>,
    /// Opens the keys in the inventory.
    pub age_identity: Option<SecretString>,
    /// The file that it came from.
    pub age_identity_file: Option<PathBuf>,
    /// Whether the first host key of an unknown server is recorded.
    pub trust_new: bool,
}

/// How the secrets of requests are opened.
#[derive(Debug, Clone)]
pub struct SecretsConfig {
    /// The private keys by key id; empty when no sealed secrets are expected.
    pub sealing_keys: SealingKeys,
    /// The directory that they came from.
    pub sealing_keys_dir: Option<PathBuf>,
    /// Where mounted secrets are, one file for each reference.
    pub mounted_dir: Option<PathBuf>,
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

impl Config {
    /// Reads the environment of this process and the files that it names.
    ///
    /// # Errors
    /// Every mistake, without any value that may be a secret.
    pub fn from_env() -> Result<Self, Mistakes> {
        // A name that isn't UTF-8 is none of ours.
        Self::from_map(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))))
    }

    /// As [`Config::from_env`], from the given variables.
    ///
    /// # Errors
    /// Every mistake, without any value that may be a secret.
    pub fn from_map<K: Into<String>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Mistakes> {
        let variables: BTreeMap<_, _> = variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let mut reader = Reader::new(variables);
        let worker = worker(&mut reader);
        let broker = reader.take(&var::AMQP_URL).map(|url| BrokerConfig { url });
        let database = reader.take(&var::DATABASE_URL).map(|url| DatabaseConfig { url });
        let admin = reader.take(&var::ADMIN_ADDR).map(|address| AdminConfig { address });
        let servers = servers(&mut reader);
        let secrets = SecretsConfig {
            sealing_keys: reader.take(&var::SEALING_KEYS_DIR).unwrap_or_default(),
            sealing_keys_dir: reader.path(&var::SEALING_KEYS_DIR),
            mounted_dir: reader.take(&var::SECRETS_DIR),
        };
        let deployer = deployer(&mut reader);
        let telemetry = telemetry(&mut reader, worker.as_ref());
        let warnings = std::mem::take(&mut reader.warnings);
        let mistakes = reader.mistakes();
        let parts = (worker, broker, database, admin, servers, deployer, telemetry);
        match parts {
            (
                Some(worker),
                Some(broker),
                Some(database),
                Some(admin),
                Some(servers),
                Some(deployer),
                Some(telemetry),
            ) if mistakes.0.is_empty() => {
                Ok(Self { worker, broker, database, admin, servers, secrets, deployer, telemetry, warnings })
            }
            _ => Err(mistakes),
        }
    }
}

fn worker(reader: &mut Reader) -> Option<WorkerConfig> {
    let name = if reader.is_set(&var::WORKER_NAME) { reader.take(&var::WORKER_NAME) } else { Some(own_name()) };
    let (concurrency, drain) = (reader.take(&var::CONCURRENCY), reader.take(&var::DRAIN_TIMEOUT));
    let (lease, attempts) = (reader.take(&var::LEASE), attempts(reader));
    let versions = reader.take(&var::VERSIONS);
    let (server, registry) = (reader.take(&var::SERVER_CONCURRENCY), reader.take(&var::REGISTRY_CONCURRENCY));
    let patience = reader.take(&var::SERVER_PATIENCE);
    let announce = reader.take(&var::GITHUB_DEPLOYMENTS);
    let deadlines = deadlines(reader);
    Some(WorkerConfig {
        name: name?,
        concurrency: concurrency?,
        drain_timeout: drain?,
        lease: lease?,
        attempts: attempts?,
        versions: versions?,
        limits: Limits { per_server: server?, per_registry: registry?, patience: patience? },
        announce: announce?,
        deadlines: deadlines?,
    })
}

fn deadlines(reader: &mut Reader) -> Option<Deadlines> {
    let (stage, deployment) = (reader.take(&var::STAGE_TIMEOUT), reader.take(&var::DEPLOYMENT_TIMEOUT));
    let request = reader.take(&var::REQUEST_MAX_AGE);
    Some(Deadlines { stage: stage?, deployment: deployment?, request: request?, ..Deadlines::DEFAULT })
}

/// The host's name is read where the kernel shows it: `HOSTNAME` is a shell's variable, often not exported.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}-{}", std::process::id())
}

fn attempts(reader: &mut Reader) -> Option<Policy> {
    let attempts = reader.take(&var::MAX_ATTEMPTS);
    let (initial, max) = (reader.take(&var::RETRY_INITIAL), reader.take(&var::RETRY_MAX));
    let (initial, max) = (initial?, max?);
    if max < initial {
        let problem =
            format!("is {max:?}, shorter than SLIPWAY_RETRY_INITIAL ({initial:?}); raise it or lower the other");
        reader.mistake(&var::RETRY_MAX.entry, problem);
    }
    Some(Policy { initial, max, attempts: attempts?, ..Policy::ATTEMPTS })
}

fn servers(reader: &mut Reader) -> Option<ServersConfig> {
    if !reader.is_set(&var::SSH_KEY_FILE) && !reader.is_set(&var::AGE_IDENTITY_FILE) {
        let problem =
            "is missing, and so is SLIPWAY_AGE_IDENTITY_FILE; without one of them no server can be logged in to";
        reader.mistake(&var::SSH_KEY_FILE.entry, problem.into());
    }
    let (ssh_key, age_identity) = (reader.secret(&var::SSH_KEY_FILE), reader.secret(&var::AGE_IDENTITY_FILE));
    let age_identity_file = reader.path(&var::AGE_IDENTITY_FILE);
    Some(ServersConfig { ssh_key, age_identity, age_identity_file, trust_new: reader.take(&var::TRUST_NEW_SERVERS)? })
}

fn deployer(reader: &mut Reader) -> Option<DeployerConfig> {
    let github = github(reader);
    let image_registry = reader.take(&var::REGISTRY);
    let registry = registry(reader, image_registry.as_deref().unwrap_or_default());
    let (github_api, github_git) = (reader.take(&var::GITHUB_API_URL), reader.take(&var::GITHUB_GIT_URL));
    let digest_key = reader.secret(&var::DIGEST_KEY_FILE);
    let ca_file = reader.take(&var::CA_FILE).map(|file| file.0);
    let project_root = reader.take(&var::PROJECT_ROOT);
    let (command, health) = (reader.take(&var::COMMAND_TIMEOUT), reader.take(&var::HEALTH_TIMEOUT));
    Some(DeployerConfig {
        github_api: github_api?,
        github_git: github_git?,
        github: github?,
        registry,
        image_registry: image_registry?,
        digest_key: digest_key?,
        ca_file,
        project_root: project_root?,
        command_timeout: command?,
        health_timeout: health?,
    })
}

fn github(reader: &mut Reader) -> Option<GithubCredential> {
    let set = (
        reader.is_set(&var::GITHUB_APP_ID),
        reader.is_set(&var::GITHUB_APP_KEY_FILE),
        reader.is_set(&var::GITHUB_TOKEN_FILE),
    );
    let (id, private_key) = (reader.take(&var::GITHUB_APP_ID), reader.secret(&var::GITHUB_APP_KEY_FILE));
    let token = reader.secret(&var::GITHUB_TOKEN_FILE);
    let (entry, problem) = match set {
        (true, true, false) => return Some(GithubCredential::App { id: id?, private_key: private_key? }),
        (false, false, true) => return token.map(GithubCredential::Token),
        (false, false, false) => (
            var::GITHUB_APP_ID.entry,
            "is missing; set it with SLIPWAY_GITHUB_APP_KEY_FILE, or set SLIPWAY_GITHUB_TOKEN_FILE instead",
        ),
        (true, false, false) => (var::GITHUB_APP_KEY_FILE.entry, "is missing, though SLIPWAY_GITHUB_APP_ID is set"),
        (false, true, false) => (var::GITHUB_APP_ID.entry, "is missing, though SLIPWAY_GITHUB_APP_KEY_FILE is set"),
        (_, _, true) => (var::GITHUB_TOKEN_FILE.entry, "is set beside a GitHub App; unset one of the two"),
    };
    reader.mistake(&entry, problem.into());
    None
}

fn registry(reader: &mut Reader, registry: &str) -> Option<RegistryCredential> {
    let set = (reader.is_set(&var::REGISTRY_USERNAME), reader.is_set(&var::REGISTRY_PASSWORD_FILE));
    let username = reader.take(&var::REGISTRY_USERNAME);
    let password = reader.secret(&var::REGISTRY_PASSWORD_FILE);
    let (entry, problem) = match set {
        (true, false) => (var::REGISTRY_PASSWORD_FILE.entry, "is missing, though SLIPWAY_REGISTRY_USERNAME is set"),
        (false, true) => (var::REGISTRY_USERNAME.entry, "is missing, though SLIPWAY_REGISTRY_PASSWORD_FILE is set"),
        _ => return Some(RegistryCredential { registry: registry.into(), username: username?, password: password? }),
    };
    reader.mistake(&entry, problem.into());
    None
}

fn telemetry(reader: &mut Reader, worker: Option<&WorkerConfig>) -> Option<TelemetryConfig> {
    let (filter, format) = (reader.take(&var::LOG), reader.take(&var::LOG_FORMAT));
    let export = reader.take(&var::OTLP_ENDPOINT).is_some();
    let instance = worker.map(|worker| worker.name.clone()).unwrap_or_default();
    Some(TelemetryConfig { filter: filter?, format: format?, export, instance })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_default_passes_the_parser_of_its_own_variable() {
        assert_eq!(super::variables::refused_defaults(), Vec::<&str>::new());
    }
}
