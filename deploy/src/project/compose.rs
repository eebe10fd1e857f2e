//! The project as Docker Compose sees it, and the override file that makes it fit for a server: host ports, profiles,
//! replicas, restart policy, labels. The one prefix of every compose call is in `scripts/compose_call.sh`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use slipway_protocol::names::ServiceName;
use slipway_protocol::{DeploymentId, ErrorCode, ProjectReady};

use super::behind_door::{Singular, ports_lines};
use super::labels::{COMMIT_LABEL, DEPLOYMENT_LABEL};
use super::limits::{DefaultsInForce, OwnSettings};
use crate::StageError;

/// The variable in which versions before kept the workers' credential for images in `.env`. Nothing is kept there any more.
/// Containers get it empty, as they always did: without it every database would be made anew.
pub const REGISTRY_AUTH: &str = "SLIPWAY_REGISTRY_AUTH";
/// The override file, relative to the project's directory.
pub const OVERRIDE: &str = "infra/compose.slipway.yml";
/// All compose files in the order in which they are given to compose.
pub const FILES: [&str; 3] = ["infra/compose.base.yml", "infra/compose.prod.yml", OVERRIDE];

/// The output of `compose config --no-interpolate --format json`, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct ComposeProject {
    #[serde(default)]
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Service {
    image: Option<String>,
    profiles: Option<Vec<String>>,
    restart: Option<String>,
    deploy: Option<Deploy>,
    scale: Option<serde_json::Value>,
    container_name: Option<String>,
    depends_on: Option<BTreeMap<String, Dependency>>,
    env_file: Option<Vec<EnvFile>>,
    environment: Option<Environment>,
    #[serde(flatten)]
    own: OwnSettings,
    #[serde(flatten)]
    singular: Singular,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Deploy {
    restart_policy: Option<serde_json::Value>,
    replicas: Option<serde_json::Value>,
    resources: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    condition: String,
}

/// Without interpolation, compose prints it as the files have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Environment {
    Map(BTreeMap<String, serde_json::Value>),
    List(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum EnvFile {
    Path(String),
    Entry { path: String },
}

impl Environment {
    fn sets(&self, name: &str) -> bool {
        match self {
            Self::Map(variables) => variables.contains_key(name),
            Self::List(lines) => lines.iter().any(|line| line.split('=').next() == Some(name)),
        }
    }
}

impl Service {
    /// Whether its containers get names of compose's, and there is one of them.
    fn is_single_and_unnamed(&self) -> bool {
        let several = self.scale.is_some() || self.deploy.as_ref().is_some_and(|d| d.replicas.is_some());
        self.container_name.is_none() && !several
    }

    fn reads(&self, file: &str) -> bool {
        let mut paths = self.env_file.iter().flatten().map(|f| match f {
            EnvFile::Path(path) | EnvFile::Entry { path } => path,
        });
        paths.any(|path| path.rsplit('/').next() == Some(file))
    }

    fn counts_processes(&self) -> bool {
        let resources = self.deploy.as_ref().and_then(|deploy| deploy.resources.as_ref());
        resources.is_some_and(|resources| !resources["limits"]["pids"].is_null())
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

    /// Whether there is a service of this name.
    #[must_use]
    pub fn has(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }

    /// Whether a service reads a file of this name besides `.env`.
    #[must_use]
    pub fn reads(&self, file: &str) -> bool {
        self.services.values().any(|service| service.reads(file))
    }

    /// Names of all services.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// The service's image as the compose files have it, variables included.
    #[must_use]
    pub fn image(&self, service: &str) -> &str {
        self.services.get(service).and_then(|s| s.image.as_deref()).unwrap_or_default()
    }

    /// Whether this service reads a file of this name.
    #[must_use]
    pub fn service_reads(&self, service: &str, file: &str) -> bool {
        self.services.get(service).is_some_and(|s| s.reads(file))
    }

    /// Whether the compose files themselves set this variable for the service.
    #[must_use]
    pub fn service_sets(&self, service: &str, name: &str) -> bool {
        self.services.get(service).and_then(|s| s.environment.as_ref()).is_some_and(|e| e.sets(name))
    }

    /// Checks that every module and the web service exist.
    ///
    /// # Errors
    /// `service-missing` names the first that doesn't.
    pub fn check(&self, request: &ProjectReady) -> Result<(), StageError> {
        match request.modules.iter().find(|m| !self.has(m.as_str())) {
            None => Ok(()),
            Some(module) => Err(StageError::new(
                ErrorCode::ServiceMissing,
                format!("the compose files define no service {module}, which the event lists as a module"),
            )),
        }
    }

    /// Whether a service that no release replaces waits for this one: it may have looked up its address once and for all.
    fn is_awaited(&self, request: &ProjectReady, name: &ServiceName) -> bool {
        let one_shots = self.one_shots();
        let stay = self.services.iter().filter(|(other, _)| {
            !one_shots.contains(other.as_str())
                && request.modules.iter().all(|module| module.as_str() != other.as_str())
        });
        let mut awaited = stay.filter_map(|(_, service)| service.depends_on.as_ref());
        awaited.any(|on| on.contains_key(name.as_str()))
    }

    /// Services that others wait for until they have exited with success: they run once and aren't restarted.
    fn one_shots(&self) -> BTreeSet<&str> {
        let dependencies = self.services.values().filter_map(|s| s.depends_on.as_ref()).flatten();
        let done = dependencies.filter(|(_, d)| d.condition == "service_completed_successfully");
        done.map(|(name, _)| name.as_str()).collect()
    }
}

/// What the override file changes in a service's environment, by service.
pub type ServiceVariables = BTreeMap<String, ServiceEnvironment>;

/// What the override file changes in one service's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceEnvironment {
    /// Variables beside those that the project's own files set.
    pub variables: BTreeMap<String, String>,
    /// Whether it reads `.env` as well.
    pub reads_env: bool,
}

/// The override file of a deployment. `!override` replaces where compose would append, `!reset` removes; scalars are
/// JSON strings, which YAML reads alike.
#[must_use]
pub fn render_override(
    request: &ProjectReady,
    project: &ComposeProject,
    variables: &ServiceVariables,
    deployment: DeploymentId,
    defaults: &DefaultsInForce<'_>,
) -> String {
    let mut text = String::from("# Written by Slipway at every deployment; changes are lost.\nservices:\n");
    let one_shots = project.one_shots();
    for (name, service) in &project.services {
        let Ok(name) = ServiceName::new(name.clone()) else { continue };
        let _ = writeln!(text, "  {name}:");
        // Nothing is built on a server, not even by what has no option against it.
        text.push_str("    build: !reset null\n");
        let module = request.modules.contains(&name);
        // Compose's own name for it could be that of a project whose slug is this one's with more behind a hyphen.
        if name.as_str().contains('-') && service.is_single_and_unnamed() {
            let _ = writeln!(text, "    container_name: {}_{name}", request.project.slug);
        }
        if module {
            module_keys(
                &mut text,
                request,
                &name,
                service,
                defaults.front_door.then(|| project.is_awaited(request, &name)),
            );
        }
        let once = one_shots.contains(name.as_str()) || service.restart.as_deref() == Some("no");
        let managed = service.restart.is_some() || service.deploy.as_ref().is_some_and(|d| d.restart_policy.is_some());
        let restart = !once && (module || managed);
        if restart {
            text.push_str("    restart: unless-stopped\n");
        }
        if restart || module {
            text.push_str("    deploy:\n");
        }
        if module {
            text.push_str("      replicas: 1\n");
        }
        if restart {
            text.push_str("      restart_policy: !reset null\n");
        }
        text.push_str(&defaults.lines(name.as_str(), &service.own, service.counts_processes(), module));
        let changes = variables.get(name.as_str());
        if changes.is_some_and(|c| c.reads_env) {
            text.push_str("    env_file:\n      - ../.env\n");
        }
        let _ = writeln!(text, "    environment:\n      {REGISTRY_AUTH}: \"\"");
        for (name, value) in changes.iter().flat_map(|c| &c.variables) {
            let _ = writeln!(text, "      {name}: {}", scalar(value));
        }
        let _ = writeln!(text, "    labels:\n      slipway.project: {}", scalar(request.project.slug.as_str()));
        // Not on databases: a label that changes would recreate them at every release.
        if module {
            let _ = writeln!(text, "      {COMMIT_LABEL}: {}", scalar(request.repository.commit.as_str()));
            let _ = writeln!(text, "      {DEPLOYMENT_LABEL}: {}", scalar(&deployment.to_string()));
        }
    }
    text
}

/// Ports and profiles of a module: no port is published but an allocated one. `awaited`: the server has a front door, and
/// whether a service that stays holds on to this one.
fn module_keys(
    text: &mut String,
    request: &ProjectReady,
    name: &ServiceName,
    service: &Service,
    awaited: Option<bool>,
) {
    if let Some(allocation) = request.allocations.iter().find(|a| a.service == *name) {
        let named = name.as_str().contains('-') || service.container_name.is_some();
        text.push_str(&ports_lines(allocation, awaited.map(|awaited| service.singular.why(name, named, awaited))));
    } else {
        // The template's first generation publishes a frontend's port whether somebody has allocated it or not.
        text.push_str("    ports: !reset []\n");
    }
    if service.profiles.as_ref().is_some_and(|p| !p.is_empty()) {
        text.push_str("    profiles: !reset []\n");
    }
}

fn scalar(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
