//! What would be done with each service, by comparing what compose would make with the containers that exist. No I/O.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use slipway_protocol::ErrorCode;

use super::deployment_plan::{ContainerAction, ServiceBounds, ServicePlan};
use super::replacement::{PlannedDoors, Published};
use crate::StageError;
use crate::remote::output::ScriptOutput;

#[derive(Deserialize)]
struct ComposeConfig {
    #[serde(default)]
    services: BTreeMap<String, ConfigService>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigService {
    image: Option<String>,
    logging: serde_json::Value,
    pids_limit: Option<i64>,
    deploy: serde_json::Value,
    security_opt: Vec<String>,
}

impl ConfigService {
    fn bounds(&self) -> ServiceBounds {
        let option = |name: &str| self.logging["options"][name].as_str();
        let size = option("max-size").map(|size| format!("{size} x {}", option("max-file").unwrap_or("1")));
        let elsewhere = || self.deploy["resources"]["limits"]["pids"].as_i64();
        ServiceBounds {
            log: size,
            processes: self.pids_limit.or_else(elsewhere).filter(|processes| *processes > 0),
            no_new_privileges: self.security_opt.iter().any(|option| {
                matches!(option.as_str(), "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true")
            }),
        }
    }
}

struct RunningContainer<'a> {
    hash: &'a str,
    state: &'a str,
    image_id: &'a str,
    image: &'a str,
    published: Published<'a>,
}

pub(super) fn plan_services(output: &ScriptOutput) -> Result<Vec<ServicePlan>, StageError> {
    let broken =
        || StageError::new(ErrorCode::InternalError, "the server told the project's services in a broken form");
    let config = STANDARD.decode(output.value("config").unwrap_or_default()).map_err(|_| broken())?;
    let config: ComposeConfig = serde_json::from_slice(&config).map_err(|_| broken())?;
    let pairs = |key| output.values(key).iter().filter_map(|line| line.split_once(' '));
    let hashes: BTreeMap<&str, &str> = pairs("hash").collect();
    let images: BTreeMap<&str, &str> = pairs("image").collect();
    let doors = PlannedDoors::read(
        output.values("door").iter().map(String::as_str),
        output.values("given_back").iter().map(String::as_str),
    );
    let mut running: BTreeMap<&str, Vec<RunningContainer<'_>>> = BTreeMap::new();
    for line in output.values("container") {
        let mut columns = line.split(' ');
        let mut column = || columns.next().unwrap_or_default();
        let service = column();
        let container = RunningContainer {
            hash: column(),
            state: column(),
            image_id: column(),
            image: column(),
            published: Published { ports: column(), volumes: column() },
        };
        running.entry(service).or_default().push(container);
    }
    let wanted = config.services.iter().map(|(name, service)| {
        let to = service.image.as_deref();
        let local = to.and_then(|image| images.get(image)).copied();
        let containers = running.remove(name.as_str()).unwrap_or_default();
        let action = match containers.first() {
            None => ContainerAction::Create,
            Some(c) if hashes.get(name.as_str()) != Some(&c.hash) || local != Some(c.image_id) => {
                ContainerAction::Recreate
            }
            // A one-shot that has done its work is started again, as compose does.
            Some(c) if c.state != "running" => ContainerAction::Start,
            Some(_) => ContainerAction::Keep,
        };
        let from = containers.first().map(|c| c.image.to_owned());
        let running: Vec<_> = containers.iter().filter(|c| c.state == "running").map(|c| c.published).collect();
        let replaced = action == ContainerAction::Recreate;
        ServicePlan {
            service: name.clone(),
            action,
            from,
            to: to.map(str::to_owned),
            pull: local.is_none(),
            replacement: replaced.then(|| doors.replacement(name, &running)).flatten(),
            bounds: service.bounds(),
        }
    });
    let mut services: Vec<ServicePlan> = wanted.collect();
    for (name, containers) in running {
        let from = containers.first().map(|c| c.image.to_owned());
        services.push(ServicePlan {
            service: name.to_owned(),
            action: ContainerAction::Remove,
            from,
            to: None,
            pull: false,
            replacement: None,
            bounds: ServiceBounds::default(),
        });
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::super::deployment_plan::PlannedReplacement;
    use super::*;

    fn output(values: &[&str]) -> ScriptOutput {
        let mut output = ScriptOutput::default();
        for value in values {
            assert_eq!(output.take_line("m", format!("m {value}").as_bytes()), None);
        }
        output
    }

    #[test]
    fn what_becomes_of_a_service_follows_from_its_hash_its_image_and_its_state() {
        let service = |name: &str| format!(r#""{name}":{{"image":"{name}:1"}}"#);
        let names = ["new", "same", "stopped", "other-hash", "other-image"].map(service).join(",");
        let config = format!("config {}", STANDARD.encode(format!(r#"{{"services":{{{names}}}}}"#)));
        let lines = [
            &config,
            "hash new h",
            "hash same h",
            "hash stopped h",
            "hash other-hash h",
            "hash other-image h",
            "image same:1 id",
            "image stopped:1 id",
            "image other-hash:1 id",
            "container same h running id same:1 30000, data,",
            "container stopped h exited id stopped:1",
            "container other-hash g running id other-hash:1 30002, data,",
            "container other-image h running id other-image:0 8080,8081, ",
            "container gone h running id gone:1",
            "door new 8000 overlap",
            "door same 8001 overlap",
            "door stopped 8002 stop-first:it-writes-a-volume",
            "door other-hash 8003 stop-first:it-writes-a-volume",
            "door other-image 8080 overlap",
        ];
        let plan = plan_services(&output(&lines)).unwrap_or_default();
        let seen: Vec<_> = plan.iter().map(|s| (s.service.as_str(), s.action, s.pull)).collect();
        let expected = [
            ("new", ContainerAction::Create, true),
            ("other-hash", ContainerAction::Recreate, false),
            ("other-image", ContainerAction::Recreate, true),
            ("same", ContainerAction::Keep, false),
            ("stopped", ContainerAction::Start, false),
            ("gone", ContainerAction::Remove, false),
        ];
        assert_eq!(seen, expected);
        // How it's replaced is told of what is replaced alone.
        let told: Vec<_> = plan.iter().filter_map(|s| Some((s.service.as_str(), s.replacement.clone()?))).collect();
        let with_gap = PlannedReplacement::WithGap { why: "it writes a volume".to_owned() };
        let with_one_gap = PlannedReplacement::WithOneGap { why: "its port becomes the front door's".to_owned() };
        assert_eq!(told, [("other-hash", with_gap), ("other-image", with_one_gap)]);
    }

    #[test]
    fn what_a_container_is_held_to_is_told_from_the_whole_configuration() {
        let config = r#"{"services": {
            "a": {"logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}, "pids_limit": 1024,
                  "security_opt": ["no-new-privileges:true"]},
            "b": {"deploy": {"resources": {"limits": {"pids": 9}}}, "security_opt": ["no-new-privileges:false"]},
            "c": {"pids_limit": -1, "logging": {"driver": "local"}}
        }}"#;
        let plan = plan_services(&output(&[&format!("config {}", STANDARD.encode(config))])).unwrap_or_default();
        let seen: Vec<_> =
            plan.iter().map(|s| (s.bounds.log.as_deref(), s.bounds.processes, s.bounds.no_new_privileges)).collect();
        assert_eq!(seen, [(Some("10m x 3"), Some(1024), true), (None, Some(9), false), (None, None, false)]);
    }
}
