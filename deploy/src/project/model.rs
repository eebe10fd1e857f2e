//! The project as Docker Compose resolves it from the project's own files, with the values of its variables, and what of that
//! decides how it's made fit for a server. Asking compose is the matter of `stages`, and of `scripts/env_view.sh`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use slipway_protocol::{ErrorCode, ProjectReady};

use super::behind_door::Singular;
use super::limits::OwnSettings;
use crate::StageError;

/// What compose finds in `.env` and in `.env.prod` while it's asked: it shows who reads them.
const READS_ENV: &str = "SLIPWAY_READS_ENV";
const READS_ENV_PROD: &str = "SLIPWAY_READS_ENV_PROD";
/// The mark as the file has it: so it's seen where a file's quotes are taken for a part of the value.
const RAW: &str = "\"1\"";

/// The output of `compose config --format json`, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ComposeProject {
    pub(super) services: BTreeMap<String, ComposeService>,
    pub(super) volumes: BTreeMap<String, Resource>,
    pub(super) configs: BTreeMap<String, Resource>,
    pub(super) secrets: BTreeMap<String, Resource>,
    /// The images of the release, as they stand in the values that compose was asked with.
    #[serde(skip)]
    images: BTreeSet<String>,
    /// Names of profiles that the values start.
    #[serde(skip)]
    pub(super) profiles: BTreeSet<String>,
    /// Git's names of the files and folders of the commit that are mounted, by their paths on the server.
    #[serde(skip)]
    pub(super) mounted: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ComposeService {
    image: Option<String>,
    pub(super) profiles: Option<Vec<String>>,
    pub(super) restart: Option<String>,
    deploy: Option<Deploy>,
    pub(super) scale: Option<Value>,
    pub(super) container_name: Option<String>,
    pub(super) depends_on: Option<BTreeMap<String, Dependency>>,
    environment: Option<BTreeMap<String, Value>>,
    pub(super) ports: Option<Vec<Value>>,
    pub(super) configs: Option<Vec<Reference>>,
    pub(super) secrets: Option<Vec<Reference>>,
    pub(super) develop: Option<Value>,
    #[serde(flatten)]
    pub(super) own: OwnSettings,
    #[serde(flatten)]
    pub(super) singular: Singular,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Deploy {
    restart_policy: Option<RestartPolicy>,
    replicas: Option<Value>,
    resources: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RestartPolicy {
    condition: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Dependency {
    #[serde(default)]
    pub(super) condition: String,
    #[serde(default = "is_required")]
    pub(super) required: bool,
}

const fn is_required() -> bool {
    true
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    pub(super) name: Option<String>,
    pub(super) file: Option<String>,
    pub(super) environment: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reference {
    pub(super) source: String,
}

impl ComposeService {
    /// Whether its containers get names of compose's, and there is one of them.
    pub(super) fn is_single_and_unnamed(&self) -> bool {
        let several = self.scale.is_some() || self.deploy.as_ref().is_some_and(|d| d.replicas.is_some());
        self.container_name.is_none() && !several
    }

    fn mark(&self, name: &str) -> Option<&str> {
        self.environment.as_ref()?.get(name)?.as_str()
    }

    pub(super) fn counts_processes(&self) -> bool {
        let resources = self.deploy.as_ref().and_then(|deploy| deploy.resources.as_ref());
        resources.is_some_and(|resources| !resources["limits"]["pids"].is_null())
    }

    /// Whether the file bounds it by `deploy`, and says nothing there of processes: compose takes no other bound of them then.
    pub(super) fn bounds_all_but_processes(&self) -> bool {
        let resources = self.deploy.as_ref().and_then(|deploy| deploy.resources.as_ref());
        resources.is_some_and(|resources| resources["limits"].is_object() && resources["limits"]["pids"].is_null())
    }

    /// `deploy.restart_policy.condition`.
    pub(super) fn condition(&self) -> Option<&str> {
        self.deploy.as_ref()?.restart_policy.as_ref()?.condition.as_deref()
    }

    /// Whether the compose files say anything of when it's restarted.
    pub(super) fn is_restarted(&self) -> bool {
        self.restart.is_some() || self.deploy.as_ref().is_some_and(|deploy| deploy.restart_policy.is_some())
    }

    /// How many of it the compose files want.
    pub(super) fn count(&self) -> u64 {
        let replicas = self.deploy.as_ref().and_then(|deploy| deploy.replicas.as_ref());
        [self.scale.as_ref(), replicas].into_iter().flatten().filter_map(Value::as_u64).max().unwrap_or(1)
    }
}

impl ComposeProject {
    /// Reads compose's JSON.
    ///
    /// # Errors
    /// `compose-invalid` when it isn't what compose prints.
    pub fn parse(json: &[u8]) -> Result<Self, StageError> {
        serde_json::from_slice(json)
            .map_err(|e| StageError::new(ErrorCode::ComposeInvalid, format!("compose's own view of the project: {e}")))
    }

    /// The same, as compose read it with these `values`; `images` are the names of those that are of the release.
    #[must_use]
    pub fn with_values<'a>(
        mut self,
        values: &BTreeMap<String, String>,
        images: impl Iterator<Item = &'a String>,
    ) -> Self {
        self.images = images.filter_map(|name| values.get(name)).filter(|image| !image.is_empty()).cloned().collect();
        let profiles = values.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
        self.profiles = profiles.split(',').map(|profile| profile.trim().to_owned()).collect();
        self
    }

    /// The same, with git's names of what it mounts, by path.
    #[must_use]
    pub fn with_mounted(mut self, mounted: BTreeMap<String, String>) -> Self {
        self.mounted = mounted;
        self
    }

    /// The services of the template: what is assumed as long as compose can't be asked, since values are missing.
    #[must_use]
    pub fn of_template() -> Self {
        let services = ["backend", "db", "redis"].map(|name| (name.to_owned(), ComposeService::default()));
        Self { services: services.into(), ..Self::default() }
    }

    /// Whether there is a service of this name.
    #[must_use]
    pub fn has(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }

    /// Whether a service reads `.env.prod`.
    #[must_use]
    pub fn reads_env_prod(&self) -> bool {
        self.services().any(|service| self.service_reads_env_prod(service))
    }

    /// Names of all services.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// The service's image.
    #[must_use]
    pub fn image(&self, service: &str) -> &str {
        self.services.get(service).and_then(|s| s.image.as_deref()).unwrap_or_default()
    }

    /// Whether the service runs an image of the release.
    #[must_use]
    pub fn runs_release(&self, service: &str) -> bool {
        self.images.iter().any(|image| self.image(service).contains(image))
    }

    /// Whether this service reads `.env`.
    #[must_use]
    pub fn service_reads_env(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|s| s.mark(READS_ENV).is_some())
    }

    /// Whether it takes each line of `.env` as it is (`format: raw`), quotes included.
    #[must_use]
    pub fn service_reads_env_raw(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|s| s.mark(READS_ENV) == Some(RAW))
    }

    /// Whether this service reads `.env.prod`.
    #[must_use]
    pub fn service_reads_env_prod(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|s| s.mark(READS_ENV_PROD).is_some())
    }

    /// Whether the compose files, or env files of the project's own, set this variable for the service.
    #[must_use]
    pub fn service_sets(&self, service: &str, name: &str) -> bool {
        self.services.get(service).and_then(|s| s.environment.as_ref()).is_some_and(|e| e.contains_key(name))
    }

    /// Checks that every module exists, and that nothing has to be built.
    ///
    /// # Errors
    /// `service-missing` names the first that doesn't, `compose-not-allowed` what has no image.
    pub fn check(&self, request: &ProjectReady) -> Result<(), StageError> {
        if let Some(module) = request.modules.iter().find(|m| !self.has(m.as_str())) {
            let message = format!("the compose files define no service {module}, which the event lists as a module");
            return Err(StageError::new(ErrorCode::ServiceMissing, message));
        }
        let alone = self.left_alone(request);
        let mut started = self.services.iter().filter(|(name, _)| !alone.contains(&name.as_str()));
        match started.find(|(_, service)| service.image.as_deref().is_none_or(str::is_empty)) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("service {name}: a service needs an image: none is built on the server");
                Err(StageError::new(ErrorCode::ComposeNotAllowed, message))
            }
        }
    }
}
