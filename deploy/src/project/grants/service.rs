//! The keys of a service. Those with a rule of their own have it here, in `mounts` or in `limits`; the harmless ones are
//! listed; all others are refused.

use serde_json::Value;
use slipway_protocol::names::ServiceName;

use super::allowance::{Allowance, capability};
use super::granted::{Grants, judge_labels};
use super::images::is_id;
use super::paths::MountedPath;
use super::refusal::Refusals;
use super::values::{is_nothing, items};
use super::{limits, mounts, network};

/// What concerns a container alone, or others of its own project.
const HARMLESS: &[&str] = &[
    "attach",
    "cap_drop",
    "command",
    "depends_on",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "environment",
    "expose",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "init",
    "links",
    "mac_address",
    "platform",
    "profiles",
    "pull_refresh_after",
    "read_only",
    "restart",
    "stdin_open",
    "stop_signal",
    "tty",
    "user",
    "working_dir",
];
/// What Docker gives to every container, so that it may be named.
const USUAL_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Settings of the container's own network that programs are known to ask for.
const USUAL_SYSCTLS: &[&str] = &[
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.default.disable_ipv6",
];
const PULL_POLICIES: &[&str] = &["always", "missing", "if_not_present", "never", "daily", "weekly"];

const UNKNOWN: &str = "this isn't one of the keys that a service may have";

/// Judges one service.
pub(super) fn judge(
    refusals: &mut Refusals,
    grants: &Grants<'_>,
    name: &str,
    service: &Value,
    paths: &mut Vec<MountedPath>,
) {
    let place = format!("service {name}");
    judge_name(refusals, grants, &place, name, service);
    judge_replicas(refusals, &place, name, service);
    let module = grants.request.modules.iter().any(|m| m.as_str() == name);
    // Without an image of its own it would be built on the server.
    if service["image"].as_str().is_none_or(str::is_empty) {
        refusals.refuse(&place, "image", &service["image"], "a service needs an image: none is built on the server");
    }
    if service["image"].as_str().is_some_and(is_id) {
        const RULE: &str = "an image has a name: by an id, or the beginning of one, it could be another project's";
        refusals.refuse(&place, "image", &service["image"], RULE);
    }
    for (key, value) in service.as_object().into_iter().flatten().filter(|(_, value)| !is_nothing(value)) {
        match key.as_str() {
            "image" | "container_name" => {}
            "labels" => judge_labels(refusals, grants, &place, value, module),
            "ports" => network::judge_ports(refusals, grants, &place, value),
            "volumes" => mounts::judge(refusals, grants, &place, value, paths),
            "configs" | "secrets" => mounts::judge_references(refusals, &place, key, value),
            "deploy" => limits::judge_deploy(refusals, &place, value),
            "ulimits" => limits::judge_ulimits(refusals, &place, value),
            "logging" => network::judge_logging(refusals, &place, value),
            "networks" => network::judge_networks(refusals, &place, value),
            "privileged" => {
                const RULE: &str = "a container that may do everything is root on the server";
                refusals.unless_allowed(&[Allowance::Privileged], &place, key, value, RULE);
            }
            "cap_add" => judge_capabilities(refusals, &place, value),
            "devices" => judge_devices(refusals, &place, value),
            "sysctls" => judge_sysctls(refusals, &place, value),
            "security_opt" => {
                // `false` is what Docker gives to everybody.
                let good = |option: &str| {
                    let value = option.strip_prefix("no-new-privileges").unwrap_or("?");
                    matches!(value, "" | ":true" | "=true" | ":false" | "=false")
                };
                for option in items(value).filter(|o| !o.as_str().is_some_and(good)) {
                    refusals.refuse(&place, key, &option, "only no-new-privileges may be set");
                }
            }
            "group_add" => {
                // Names are of the image; a number means the same everywhere, and opens no file but the project's.
                let is_number =
                    |group: &Value| group.is_u64() || group.as_str().is_some_and(|group| group.parse::<u32>().is_ok());
                for group in items(value).filter(|group| !is_number(group)) {
                    refusals.refuse(&place, key, &group, "a group is given by its number");
                }
            }
            "pull_policy" if value.as_str().is_some_and(|p| PULL_POLICIES.contains(&p) || p.starts_with("every_")) => {}
            "pull_policy" => refusals.refuse(&place, key, value, "images are pulled, and never built on the server"),
            "volumes_from" => {
                let own = |entry: &str| entry.split(':').count() < 3 && !entry.starts_with("container:");
                for entry in items(value).filter(|e| !e.as_str().is_some_and(own)) {
                    refusals.refuse(&place, key, &entry, "only services of the project itself can be named");
                }
            }
            "post_start" | "pre_start" | "pre_stop" => {
                const RULE: &str =
                    "it's run only where compose itself starts a container; let the image's entrypoint do it";
                refusals.refuse(&place, key, value, RULE);
            }
            "gpus" => refusals.refuse(&place, key, value, "devices are the server's"),
            "use_api_socket" => refusals.refuse(&place, key, value, "whoever talks to Docker is root on the server"),
            "provider" => refusals.refuse(&place, key, value, "it runs a program of the server"),
            "network_mode" | "pid" | "ipc" | "uts" | "userns_mode" | "cgroup" => {
                network::judge_namespace(refusals, &place, key, value);
            }
            _ if HARMLESS.contains(&key.as_str()) || key.starts_with("x-") => {}
            _ if limits::KEYS.contains(&key.as_str()) => limits::judge(refusals, &place, key, value),
            _ => refusals.refuse(&place, key, value, UNKNOWN),
        }
    }
}

/// Whether a container's name is one that the server's front door has, or has for a while.
pub(super) fn is_doors(container: &str) -> bool {
    container.starts_with("slipway-front-door")
}

/// Names of containers are the server's, and compose puts slug and service together with the hyphen that both may have.
fn judge_name(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, name: &str, service: &Value) {
    if ServiceName::new(name).is_err() {
        refusals.refuse(
            place,
            "name",
            &Value::from(name),
            "a service's name has small letters, digits, hyphens and underscores",
        );
    }
    let slug = grants.request.project.slug.as_str();
    let given = service["container_name"].as_str().filter(|container| !container.is_empty());
    let container = given.map_or_else(|| format!("{slug}-{name}-1"), str::to_owned);
    let rest = container.strip_prefix(slug).unwrap_or_default();
    let is_ours = container == slug || rest.starts_with(['-', '_', '.']);
    let of_neighbour = |other: &String| {
        other.len() > slug.len() && container.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('-'))
    };
    let rule = if is_doors(&container) {
        "this is a name of the server's front door"
    } else if grants.server.taken.contains(&container) {
        "a container of another project has this name"
    } else if !is_ours
        || grants.server.neighbours.iter().any(of_neighbour)
        || (given.is_some() && (looks_numbered(rest) || (slug.contains('-') && ends_in_number(&container))))
    {
        "a container's name begins with the project's slug, and isn't one that another project's could have; leave it out"
    } else {
        return;
    };
    let key = if given.is_some() { "container_name" } else { "name" };
    refusals.refuse(place, key, &Value::from(container), rule);
}

/// What compose would call a container of a project with a shorter slug, up to any hyphen of this one.
fn ends_in_number(container: &str) -> bool {
    let last = container.rsplit('-').next().unwrap_or_default();
    last.len() < container.len() && !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())
}

/// The second container of `backend-x` in project `shop` may be called as one of `x` in `shop-backend`.
fn judge_replicas(refusals: &mut Refusals, place: &str, name: &str, service: &Value) {
    const RULE: &str =
        "a service with a hyphen in its name has one container: others could be called as another project's";
    for (key, count) in [("scale", &service["scale"]), ("deploy.replicas", &service["deploy"]["replicas"])] {
        if name.contains('-') && !count.is_null() && limits::number(count).is_none_or(|count| count > 1) {
            refusals.refuse(place, key, count, RULE);
        }
    }
}

/// Whether what follows the slug could be the end of another slug, a service and a number.
fn looks_numbered(rest: &str) -> bool {
    let parts: Vec<&str> = rest.trim_start_matches('-').split('-').collect();
    rest.starts_with('-')
        && parts.len() >= 3
        && parts.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

fn judge_capabilities(refusals: &mut Refusals, place: &str, added: &Value) {
    for item in items(added) {
        let name = capability(item.as_str().unwrap_or_default());
        if !USUAL_CAPABILITIES.contains(&name.as_str()) {
            let allowed = [Allowance::Capability(name), Allowance::Privileged];
            refusals.unless_allowed(
                &allowed,
                place,
                "cap_add",
                &item,
                "only what Docker gives to every container may be added",
            );
        }
    }
}

fn judge_devices(refusals: &mut Refusals, place: &str, devices: &Value) {
    for device in items(devices) {
        let text = device.as_str().map(|text| text.split(':').next().unwrap_or_default().to_owned());
        let source = text.or_else(|| Some(device["source"].as_str()?.to_owned())).unwrap_or_default();
        let allowed = [Allowance::Device(source.clone()), Allowance::Privileged];
        refusals.unless_allowed(&allowed, place, "devices", &Value::from(source), "devices are the server's");
    }
}

fn judge_sysctls(refusals: &mut Refusals, place: &str, sysctls: &Value) {
    let named: Vec<String> = match sysctls {
        Value::Object(fields) => fields.keys().cloned().collect(),
        other => items(other)
            .map(|line| line.as_str().unwrap_or_default().split('=').next().unwrap_or_default().to_owned())
            .collect(),
    };
    for name in named.into_iter().filter(|name| !USUAL_SYSCTLS.contains(&name.as_str())) {
        let allowed = [Allowance::Sysctl(name.clone()), Allowance::Privileged];
        refusals.unless_allowed(
            &allowed,
            place,
            "sysctls",
            &Value::from(name),
            "only a few settings of the container's own network may be changed",
        );
    }
}
