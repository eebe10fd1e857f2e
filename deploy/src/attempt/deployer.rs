//! What all attempts of a process share, and what they report: the deployer with its clients, the listener, the reports
//! of stages. An attempt itself is in `attempt`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use slipway_protocol::names::HostKey;
use slipway_protocol::{Change, ErrorCode, Failure, ServiceReport, Serving, Stage};

use crate::github::GithubClient;
use crate::project::registry::RegistryClient;
use crate::remote::places::{HttpsUrl, RegistryHost};
use crate::{DeployerConfig, RemotePath, StageError};

/// Gets the news of an attempt while it runs. Calls must not block; everything is redacted already.
pub trait Reporter: Send + Sync {
    /// A remote command wrote a line.
    fn line(&self, stage: Stage, line: &str);
    /// The stage failed, and is tried again after `delay`.
    fn retrying(&self, stage: Stage, failure: &Failure, delay: Duration);
    /// The server showed its host key for the first time, and the policy was to trust it.
    fn host_key_learned(&self, key: &HostKey);
}

/// The result of a stage that succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct StageReport {
    /// Whether it changed anything.
    pub change: Change,
    /// What it found or did, for events and the journal.
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// The services, as seen last (compose).
    pub services: Vec<ServiceReport>,
    /// Digests of the GitHub secrets as they are now (secrets), to be remembered for the next deployment.
    pub github_digests: Option<BTreeMap<String, String>>,
    /// The URL at which the project answers (verify).
    pub url: Option<String>,
    /// What serves, where that isn't the request's own commit (verify, of a start).
    pub serving: Option<Serving>,
}

impl StageReport {
    /// A report without anything but the change.
    #[must_use]
    pub fn of(changed: bool) -> Self {
        Self {
            change: if changed { Change::Changed } else { Change::Unchanged },
            facts: serde_json::Map::new(),
            services: Vec::new(),
            github_digests: None,
            url: None,
            serving: None,
        }
    }

    /// The same report with one more fact.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

/// Makes attempts; one for a process. Holds what they share: the HTTP clients, installation tokens, limits.
#[derive(Clone)]
pub struct Deployer {
    pub(crate) config: Arc<DeployerConfig>,
    pub(crate) root: RemotePath,
    pub(crate) git_url: HttpsUrl,
    pub(crate) image_registry: RegistryHost,
    pub(crate) github: GithubClient,
    pub(crate) registry: RegistryClient,
    pub(crate) probe: reqwest::Client,
}

impl Deployer {
    /// Checks the configuration and builds the HTTP clients.
    ///
    /// # Errors
    /// A [`StageError`] when a key or the CA file can't be read, or the project root isn't an absolute plain path.
    pub fn new(config: DeployerConfig) -> Result<Self, StageError> {
        let refuse = |what| move || StageError::new(ErrorCode::InternalError, what);
        let root = RemotePath::new(&config.project_root).ok_or_else(refuse(
            "the project root (SLIPWAY_PROJECT_ROOT) must be an absolute path of plain characters",
        ))?;
        let git_url = HttpsUrl::new(&config.github_git)
            .ok_or_else(refuse("the git server (SLIPWAY_GITHUB_GIT_URL) must be an HTTPS URL without credentials"))?;
        let image_registry = RegistryHost::new(&config.image_registry)
            .ok_or_else(refuse("the image registry (SLIPWAY_REGISTRY) must be a host name, perhaps with a port"))?;
        let github = GithubClient::new(&config)?;
        let registry = RegistryClient::new(&config)?;
        let probe = crate::http::probe_client()?;
        Ok(Self { config: Arc::new(config), root, git_url, image_registry, github, registry, probe })
    }
}
