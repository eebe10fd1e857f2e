//! Networks, volumes, configs and secrets: made for the project, under its own name.

use serde_json::Value;

use super::allowance::Allowance;
use super::granted::{Grants, judge_labels};
use super::paths::{MountedPath, check_mountable};
use super::refusal::Refusals;
use super::subnets::Subnet;
use super::values::is_nothing;

const NETWORK: &[&str] =
    &["name", "driver", "driver_opts", "ipam", "internal", "attachable", "enable_ipv4", "enable_ipv6", "labels"];
const NETWORK_OPTIONS: &[&str] = &[
    "com.docker.network.driver.mtu",
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
];
const MAX_NETWORKS: usize = 6;
const VOLUME: &[&str] = &["name", "driver", "labels"];
const FILE: &[&str] = &["name", "file", "content", "environment", "labels"];

/// Judges one of the sections.
pub(super) fn judge(
    refusals: &mut Refusals,
    grants: &Grants<'_>,
    section: &str,
    entries: &Value,
    paths: &mut Vec<MountedPath>,
) {
    let slug = grants.request.project.slug.as_str();
    let count = entries.as_object().map_or(0, serde_json::Map::len);
    if section == "networks" && count > MAX_NETWORKS {
        let rule = "a project has at most 6 networks: Docker has some thirty for all projects of a server";
        refusals.refuse("project", section, &Value::from(count), rule);
    }
    for (name, entry) in entries.as_object().into_iter().flatten() {
        let place = format!("{} {name}", &section[..section.len() - 1]);
        let external = !matches!(entry["external"], Value::Null | Value::Bool(false));
        let real_name = entry["name"].as_str().unwrap_or_default();
        if external {
            judge_external(refusals, section, &place, real_name, entry);
            continue;
        }
        // Slugs have no underscore: what begins so is nobody else's.
        if !real_name.strip_prefix(slug).is_some_and(|rest| rest.starts_with('_')) {
            let rule = "its name begins with the project's slug and an underscore; leave it out";
            refusals.refuse(&place, "name", &entry["name"], rule);
        }
        let known = match section {
            "networks" => NETWORK,
            "volumes" => VOLUME,
            _ => FILE,
        };
        for (key, value) in entry.as_object().into_iter().flatten() {
            if !known.contains(&key.as_str()) && !key.starts_with("x-") && !is_nothing(value) {
                refusals.refuse(&place, key, value, "this isn't one of the keys that it may have");
            }
        }
        judge_labels(refusals, grants, &place, &entry["labels"], false);
        match section {
            "networks" => judge_network(refusals, grants, &place, entry),
            "volumes" if !matches!(entry["driver"].as_str(), None | Some("" | "local")) => {
                refusals.refuse(&place, "driver", &entry["driver"], "volumes lie on the server: the driver is local");
            }
            "volumes" => {}
            _ => {
                judge_environment(refusals, grants, &place, &entry["environment"]);
                judge_file(refusals, grants, &place, entry, paths);
            }
        }
    }
}

fn judge_external(refusals: &mut Refusals, section: &str, place: &str, name: &str, entry: &Value) {
    const RULE: &str = "what exists outside of the project may be another's";
    let allowance = match section {
        "networks" => Allowance::ExternalNetwork(name.to_owned()),
        "volumes" => Allowance::ExternalVolume(name.to_owned()),
        _ => return refusals.refuse(place, "external", &entry["external"], RULE),
    };
    if allowance.to_string().parse().as_ref() == Ok(&allowance) {
        refusals.unless_allowed(&[allowance], place, "external", &Value::from(name), RULE);
    } else {
        refusals.refuse(place, "external", &Value::from(name), RULE);
    }
}

fn judge_network(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, network: &Value) {
    if !matches!(network["driver"].as_str(), None | Some("" | "bridge")) {
        refusals.refuse(place, "driver", &network["driver"], "networks are the project's own: the driver is bridge");
    }
    for (option, value) in network["driver_opts"].as_object().into_iter().flatten() {
        if !NETWORK_OPTIONS.contains(&option.as_str()) {
            let shown = Value::from(format!("{option}={}", value.as_str().unwrap_or_default()));
            refusals.refuse(place, "driver_opts", &shown, "this option reaches into the server's network");
        }
    }
    let ipam = &network["ipam"];
    for (key, value) in ipam.as_object().into_iter().flatten() {
        let known = matches!(key.as_str(), "config") || (key == "driver" && value.as_str() == Some("default"));
        if !known && !is_nothing(value) {
            refusals.refuse(place, &format!("ipam.{key}"), value, "only subnets can be chosen");
        }
    }
    for config in ipam["config"].as_array().into_iter().flatten() {
        let subnet = &config["subnet"];
        let wanted = subnet.as_str().and_then(Subnet::parse).filter(Subnet::is_private);
        for (key, value) in config.as_object().into_iter().flatten().filter(|(_, value)| !is_nothing(value)) {
            let inside =
                || wanted.as_ref().zip(value.as_str().and_then(Subnet::parse)).is_some_and(|(w, v)| w.contains(&v));
            let rule = match key.as_str() {
                "subnet" => continue,
                "gateway" | "ip_range" if inside() || !(subnet.is_null() || wanted.is_some()) => continue,
                "gateway" | "ip_range" => "it lies in the subnet, which has to be given too",
                _ => "only subnet, ip_range and gateway can be chosen",
            };
            refusals.refuse(place, &format!("ipam.config.{key}"), value, rule);
        }
        if subnet.is_null() {
            continue;
        }
        let Some(wanted) = wanted else {
            let rule = "a subnet is a private one, at least /16 long (IPv6: fd00::/8, /48): the server would lose its way to others";
            refusals.refuse(place, "ipam.config.subnet", subnet, rule);
            continue;
        };
        let mut routes = grants.server.routes.iter();
        if let Some(used) = routes.find(|route| Subnet::parse(route).is_some_and(|route| route.overlaps(&wanted))) {
            let shown = Value::from(format!("{} (over {used})", subnet.as_str().unwrap_or_default()));
            let rule = "the server, or another project of its, uses these addresses: choose others, or leave it out";
            refusals.refuse(place, "ipam.config.subnet", &shown, rule);
        }
    }
}

/// Whether docker itself works with a variable of this name.
pub(crate) fn is_of_server(name: &str) -> bool {
    let first = name.split('_').next().unwrap_or_default();
    matches!(name, "PATH" | "HOME" | "LC_ALL" | "TMPDIR") || matches!(first, "DOCKER" | "XDG")
}

/// Compose takes the value from `.env`, but for what docker itself works with: that comes from the server.
fn judge_environment(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, variable: &Value) {
    let is_own = |name: &str| grants.variables.contains(name) && !is_of_server(name);
    if !is_nothing(variable) && !variable.as_str().is_some_and(is_own) {
        refusals.refuse(place, "environment", variable, "only variables of the project's own .env can be taken");
    }
}

fn judge_file(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, entry: &Value, paths: &mut Vec<MountedPath>) {
    let Some(file) = entry["file"].as_str() else { return };
    match check_mountable(grants.directory, file) {
        Ok(()) => paths.push(MountedPath {
            place: place.to_owned(),
            key: "file".to_owned(),
            path: file.to_owned(),
            writable: false,
        }),
        Err(rule) => refusals.refuse(place, "file", &entry["file"], rule),
    }
}
