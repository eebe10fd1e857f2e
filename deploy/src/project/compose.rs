//! The override file that makes a project fit for a server: host ports, profiles, replicas, restart policy, labels. What
//! compose makes of the project's own files is in `model`; the one prefix of every compose call is in
//! `scripts/compose_call.sh`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use slipway_protocol::names::ServiceName;
use slipway_protocol::{DeploymentId, ProjectReady};

use super::behind_door::ports_lines;
use super::labels::{COMMIT_LABEL, DEPLOYMENT_LABEL, FILES_LABEL};
use super::limits::{DefaultsInForce, PROCESSES_OF_LIMITS, take_processes};
use super::model::{ComposeProject, ComposeService};

/// The variable in which versions before kept the workers' credential for images in `.env`. Nothing is kept there any more.
/// Containers get it empty, as they always did: without it every database would be made anew.
pub const REGISTRY_AUTH: &str = "SLIPWAY_REGISTRY_AUTH";
/// The override file, relative to the project's directory.
pub const OVERRIDE: &str = "infra/compose.slipway.yml";
/// All compose files in the order in which they are given to compose.
pub const FILES: [&str; 3] = ["infra/compose.base.yml", "infra/compose.prod.yml", OVERRIDE];

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
    let mut text = String::from("# Written by Slipway at every deployment; changes are lost.\n");
    let alone = project.left_alone(request);
    if !alone.is_empty() {
        // The scripts read it.
        let _ = writeln!(text, "# Left alone: {}", alone.join(" "));
    }
    text.push_str("services:\n");
    let needed = project.needed(request);
    for (name, service) in &project.services {
        let Ok(name) = ServiceName::new(name.clone()) else { continue };
        let _ = writeln!(text, "  {name}:");
        // Nothing is built on a server, not even by what has no option against it.
        text.push_str("    build: !reset null\n");
        if service.develop.is_some() {
            text.push_str("    develop: !reset null\n");
        }
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
        if needed.contains(name.as_str()) && service.profiles.as_ref().is_some_and(|p| !p.is_empty()) {
            text.push_str("    profiles: !reset []\n");
        }
        let restart = (module || service.is_restarted()) && !project.may_end(&name, module);
        if restart {
            text.push_str("    restart: unless-stopped\n");
        }
        // Compose refuses two numbers that differ.
        if module && service.scale.is_some() {
            text.push_str("    scale: 1\n");
        }
        let mut lines = defaults.lines(name.as_str(), &service.own, service.counts_processes(), module);
        let processes = service.bounds_all_but_processes().then(|| take_processes(&mut lines)).flatten();
        if restart || module || processes.is_some() {
            text.push_str("    deploy:\n");
        }
        if module {
            text.push_str("      replicas: 1\n");
        }
        if restart {
            text.push_str("      restart_policy: !reset null\n");
        }
        if let Some(processes) = processes {
            let _ = writeln!(text, "      resources:\n        limits:\n{PROCESSES_OF_LIMITS}{processes}");
        }
        text.push_str(&lines);
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
        if let Some(digest) = project.mounted_files(service) {
            let _ = writeln!(text, "      {FILES_LABEL}: {}", scalar(&digest));
        }
    }
    text
}

/// The ports of a module: no port is published but an allocated one. `awaited`: the server has a front door, and
/// whether a service that stays holds on to this one.
fn module_keys(
    text: &mut String,
    request: &ProjectReady,
    name: &ServiceName,
    service: &ComposeService,
    awaited: Option<bool>,
) {
    if let Some(allocation) = request.allocations.iter().find(|a| a.service == *name) {
        let named = name.as_str().contains('-') || service.container_name.is_some();
        text.push_str(&ports_lines(allocation, awaited.map(|awaited| service.singular.why(name, named, awaited))));
    } else {
        // The template's first generation publishes a frontend's port whether somebody has allocated it or not.
        text.push_str("    ports: !reset []\n");
    }
}

fn scalar(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
