//! The default of every setting that has one, as it would be written in the environment: it goes through the parser of
//! its variable. Which variable it is for is in `variables`. `slipway-worker --help` prints these values.

pub(super) const ADMIN_ADDR: &str = "127.0.0.1:9090";
pub(super) const CONCURRENCY: &str = "4";
pub(super) const DRAIN_TIMEOUT: &str = "25s";
pub(super) const LEASE: &str = "4s";
pub(super) const VERSIONS: &str = "10";
pub(super) const SERVER_CONCURRENCY: &str = "2";
pub(super) const REGISTRY_CONCURRENCY: &str = "8";
pub(super) const SERVER_PATIENCE: &str = "1h";
pub(super) const MAX_ATTEMPTS: &str = "5";
pub(super) const RETRY_INITIAL: &str = "10s";
pub(super) const RETRY_MAX: &str = "600s";
pub(super) const COMMAND_TIMEOUT: &str = "600s";
pub(super) const HEALTH_TIMEOUT: &str = "180s";
pub(super) const STAGE_TIMEOUT: &str = "30m";
pub(super) const DEPLOYMENT_TIMEOUT: &str = "3h";
pub(super) const REQUEST_MAX_AGE: &str = "24h";
pub(super) const TRUST_NEW_SERVERS: &str = "false";
pub(super) const REPOSITORY_MIB: &str = "1024";
pub(super) const REPOSITORY_FILES: &str = "100000";
pub(super) const LOG_ROTATION: &str = "true";
pub(super) const PROCESSES: &str = "1024";
pub(super) const NO_NEW_PRIVILEGES: &str = "true";
pub(super) const SERVERS_FROM_EVENTS: &str = "false";
pub(super) const UNBOUND_BOXES: &str = "true";
pub(super) const UNSCOPED_REFERENCES: &str = "false";
pub(super) const PROJECT_ROOT: &str = "/opt/services";
pub(super) const GITHUB_API_URL: &str = "https://api.github.com";
pub(super) const GITHUB_GIT_URL: &str = "https://github.com";
pub(super) const GITHUB_DEPLOYMENTS: &str = "true";
pub(super) const PUSH_INTERVAL: &str = "5m";
pub(super) const REGISTRY: &str = "ghcr.io";
pub(super) const LOG: &str = "info,lapin=off";
pub(super) const LOG_FORMAT: &str = "json";
