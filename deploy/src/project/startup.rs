//! Which services of a project are started, how many of each, and which of them may end. No I/O.

use std::collections::BTreeSet;

use slipway_protocol::ProjectReady;
use slipway_protocol::names::ServiceName;

use super::grants::is_of_server;
use super::model::ComposeProject;

impl ComposeProject {
    /// Whether a service that no release replaces waits for this one: it may have looked up its address once and for all.
    pub(super) fn is_awaited(&self, request: &ProjectReady, name: &ServiceName) -> bool {
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

    /// Whether a service may end: it says that it isn't started again, or not once it has ended well. The latter is what
    /// databases say, too: what others need, or what can be asked, is to stay.
    pub(super) fn may_end(&self, name: &ServiceName, module: bool) -> bool {
        let Some(service) = self.services.get(name.as_str()) else { return false };
        let (restart, condition) = (service.restart.as_deref().unwrap_or_default(), service.condition());
        if self.one_shots().contains(name.as_str()) || restart == "no" || condition == Some("none") {
            return true;
        }
        let is_needed =
            || self.services.values().filter_map(|s| s.depends_on.as_ref()).any(|on| on.contains_key(name.as_str()));
        let is_asked = service.own.is_checked() || service.ports.as_ref().is_some_and(|ports| !ports.is_empty());
        let on_failure = restart.starts_with("on-failure") || condition == Some("on-failure");
        on_failure && !module && !is_asked && !is_needed()
    }

    /// The modules, and what they can't start without: no profile keeps these back.
    pub(super) fn needed(&self, request: &ProjectReady) -> BTreeSet<&str> {
        let mut needed = BTreeSet::new();
        let mut next: Vec<&str> = request.modules.iter().map(ServiceName::as_str).collect();
        while let Some(name) = next.pop() {
            let Some((name, service)) = self.services.get_key_value(name) else { continue };
            if needed.insert(name.as_str()) {
                let on = service.depends_on.iter().flatten().filter(|(_, dependency)| dependency.required);
                next.extend(on.map(|(name, _)| name.as_str()));
            }
        }
        needed
    }

    /// Services that aren't started, since none of their profiles is.
    pub(super) fn left_alone(&self, request: &ProjectReady) -> Vec<&str> {
        let needed = self.needed(request);
        let starts = |profile: &String| self.profiles.contains(profile) || self.profiles.contains("*");
        let alone = self.services.iter().filter(|(name, service)| {
            let profiles = service.profiles.as_deref().unwrap_or_default();
            !needed.contains(name.as_str()) && !profiles.is_empty() && !profiles.iter().any(starts)
        });
        // Of any name that compose takes: what isn't started needs none of ours.
        let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        alone.map(|(name, _)| name.as_str()).filter(is_name).collect()
    }

    /// Variables that are configs or secrets of what is started, but for what a server has of its own.
    pub(crate) fn taken_variables(&self, request: &ProjectReady) -> impl Iterator<Item = &str> {
        let alone = self.left_alone(request);
        let started = self.services.iter().filter(move |(name, _)| !alone.contains(&name.as_str()));
        let entries = started.flat_map(|(_, service)| {
            let configs = service.configs.iter().flatten().filter_map(|config| self.configs.get(&config.source));
            configs.chain(service.secrets.iter().flatten().filter_map(|secret| self.secrets.get(&secret.source)))
        });
        entries.filter_map(|entry| entry.environment.as_deref()).filter(|name| !is_of_server(name))
    }

    /// Modules of which the compose files want several, or none, with how many.
    pub(crate) fn multiplied(&self, request: &ProjectReady) -> Vec<(&str, u64)> {
        let counted = self.services.iter().map(|(name, service)| (name.as_str(), service.count()));
        counted.filter(|(name, n)| *n != 1 && request.modules.iter().any(|m| m.as_str() == *name)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::project::compose::render_override;
    use crate::project::compose_program::request;
    use crate::project::consumers::service_variables;
    use crate::project::env::contract::merged::EnvContract;
    use crate::project::env::variables::EnvPlan;
    use crate::project::limits::{DefaultsInForce, ProjectLimits};

    fn read(services: &str) -> ComposeProject {
        ComposeProject::parse(format!("{{\"services\": {services}}}").as_bytes()).unwrap()
    }

    fn overrides(project: &ComposeProject) -> String {
        let variables = service_variables(project, &EnvContract::default(), &EnvPlan::default(), &[].into());
        let defaults = DefaultsInForce::anew(ProjectLimits::DEFAULT.containers);
        let deployment = slipway_protocol::DeploymentId(uuid::Uuid::nil());
        render_override(&request(), project, &variables, deployment, &defaults)
    }

    #[test]
    fn what_no_profile_starts_is_named_and_what_a_module_needs_is_lifted() {
        let services = r#"{"backend": {"image": "a", "depends_on": {
                "worker": {"condition": "service_started", "required": true},
                "maybe": {"condition": "service_started", "required": false}}},
            "tg_bot": {"image": "b", "profiles": ["tg"]}, "worker": {"image": "c", "profiles": ["tg"]},
            "maybe": {"image": "d", "profiles": ["tg"]}, "pgAdmin.4": {"image": "e", "profiles": ["debug"]}}"#;
        let project = read(services);
        assert_eq!(project.left_alone(&request()), ["maybe", "pgAdmin.4"]);
        let text = overrides(&project);
        assert!(text.contains("\n# Left alone: maybe pgAdmin.4\nservices:\n"), "{text}");
        let lifted: Vec<_> = text.split("\n  ").filter(|part| part.contains("profiles:")).collect();
        assert_eq!(lifted.len(), 2, "{lifted:?}");
        let by_hand = |profiles: &str| {
            let values = [("COMPOSE_PROFILES".to_owned(), profiles.to_owned())].into();
            read(services).with_values(&values, [].iter()).left_alone(&request()).len()
        };
        assert_eq!([by_hand("x, debug"), by_hand("*"), by_hand("")], [1, 0, 2]);
        assert!(!overrides(&read(r#"{"backend": {"image": "a"}}"#)).contains("Left alone"));
    }

    #[test]
    fn modules_that_are_to_run_several_times_are_told() {
        let project = read(
            r#"{"backend": {"scale": 2}, "tg_bot": {"deploy": {"replicas": 3}}, "db": {"scale": 4}, "x": {"scale": 1}}"#,
        );
        assert_eq!(project.multiplied(&request()), [("backend", 2), ("tg_bot", 3)]);
        let project = read(r#"{"backend": {"scale": 1}, "tg_bot": {"deploy": {"replicas": 0}}, "db": {"scale": 0}}"#);
        assert_eq!(project.multiplied(&request()), [("tg_bot", 0)]);
    }

    #[test]
    fn an_env_file_whose_quotes_are_taken_as_they_are_is_read_once_more() {
        let reads = |mark: &str| {
            let services =
                format!(r#"{{"backend": {{"image": "a", "environment": {{"SLIPWAY_READS_ENV": {mark}}}}}}}"#);
            overrides(&read(&services)).contains("    env_file:\n      - ../.env\n")
        };
        assert!(reads(r#""\"1\"""#));
        assert!(!reads(r#""1""#));
    }
}
