//! What a service has of the server's network and namespaces: ports, networks, where its logs go.

use serde_json::Value;

use super::allowance::Allowance;
use super::granted::Grants;
use super::refusal::Refusals;
use super::values::{is_nothing, items};

const LOG_OPTIONS: &[&str] = &[
    "max-size",
    "max-file",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];

const SHARED: &str = "namespaces of the server, or of containers of others, can't be shared";

/// Judges the ports that are published.
pub(super) fn judge_ports(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, ports: &Value) {
    const RULE: &str = "only ports of the server that are allocated to the project are published";
    const KEYS: [&str; 7] = ["mode", "target", "published", "protocol", "host_ip", "name", "app_protocol"];
    let allocated =
        |port: u16| grants.request.allocations.iter().any(|a| a.host_port.is_some_and(|own| own.get() == port));
    for port in items(ports) {
        let published = port["published"].as_str().map(str::to_owned);
        let number = published.as_deref().and_then(|p| p.parse::<u16>().ok()).filter(|port| *port > 0);
        let known = port
            .as_object()
            .is_some_and(|fields| fields.keys().all(|k| KEYS.contains(&k.as_str()) || k.starts_with("x-")));
        let shown = Value::from(format!("{}:{}", published.as_deref().unwrap_or("any"), port["target"]));
        match number {
            Some(number) if known && allocated(number) => {}
            Some(number) if known => refusals.unless_allowed(&[Allowance::Port(number)], place, "ports", &shown, RULE),
            _ => refusals.refuse(place, "ports", &shown, RULE),
        }
    }
}

/// Docker itself connects to what a log driver is told, from the server's own network.
pub(super) fn judge_logging(refusals: &mut Refusals, place: &str, logging: &Value) {
    if let Some(driver) = logging["driver"].as_str().filter(|d| !matches!(*d, "" | "json-file" | "local" | "none")) {
        let rule = "logs stay on the server: the driver is json-file, local or none";
        refusals.refuse(place, "logging", &Value::from(driver), rule);
    }
    for (option, value) in logging["options"].as_object().into_iter().flatten() {
        if !LOG_OPTIONS.contains(&option.as_str()) {
            let shown = Value::from(format!("{option}={}", value.as_str().unwrap_or_default()));
            refusals.refuse(place, "logging", &shown, "this isn't an option of json-file or local");
        }
    }
}

/// Judges how a service is on its networks.
pub(super) fn judge_networks(refusals: &mut Refusals, place: &str, networks: &Value) {
    const KEYS: [&str; 8] = [
        "aliases",
        "ipv4_address",
        "ipv6_address",
        "link_local_ips",
        "mac_address",
        "priority",
        "gw_priority",
        "interface_name",
    ];
    for (_, options) in networks.as_object().into_iter().flatten() {
        for (key, value) in options.as_object().into_iter().flatten() {
            if !KEYS.contains(&key.as_str()) && !key.starts_with("x-") && !is_nothing(value) {
                refusals.refuse(
                    place,
                    &format!("networks.{key}"),
                    value,
                    "this isn't one of the keys that it may have",
                );
            }
        }
    }
}

/// Judges which namespaces a service shares, with whom.
pub(super) fn judge_namespace(refusals: &mut Refusals, place: &str, key: &str, value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let own = text.strip_prefix("service:").is_some_and(|service| !service.is_empty());
    let allowed = match (key, text) {
        ("network_mode", "none") | ("ipc", "private" | "none" | "shareable") | ("cgroup", "private") => return,
        ("network_mode" | "pid" | "ipc", _) if own => return,
        ("network_mode", "host") => Some(Allowance::HostNetwork),
        ("pid", "host") => Some(Allowance::HostPid),
        ("ipc", "host") => Some(Allowance::HostIpc),
        _ => None,
    };
    match allowed {
        Some(allowance) => refusals.unless_allowed(&[allowance, Allowance::Privileged], place, key, value, SHARED),
        None => refusals.refuse(place, key, value, SHARED),
    }
}
