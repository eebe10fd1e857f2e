//! How much of the server a container may take, where its compose files say so themselves: less than others is fine, more
//! isn't.

use serde_json::Value;

use super::refusal::Refusals;

/// Keys of a service that are judged here.
pub(super) const KEYS: &[&str] = &[
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpus",
    "cpuset",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "oom_score_adj",
    "pids_limit",
    "scale",
    "shm_size",
    "stop_grace_period",
    "tmpfs",
];
/// Limits of a process; those that let it run before all others, such as `rtprio` and `nice`, aren't among them.
const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nofile",
    "nproc",
    "rss",
    "sigpending",
    "stack",
];
/// Largest file system in memory, 8 GiB.
const MAX_MEMORY: u64 = 8 << 30;
/// Options of a file system in memory without a value.
const TMPFS_FLAGS: &[&str] = &[
    "",
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
];
/// Containers of one service.
const MAX_REPLICAS: i64 = 10;
/// Seconds that a container may take to stop.
const MAX_GRACE: f64 = 600.0;
/// What a container has that says nothing.
const USUAL_SHARES: i64 = 1024;

const REPLICAS: &str = "a service has at most 10 containers";

const DEPLOY: &[&str] = &[
    "endpoint_mode",
    "labels",
    "mode",
    "placement",
    "replicas",
    "resources",
    "restart_policy",
    "rollback_config",
    "update_config",
];
const RESOURCES: &[&str] = &["cpus", "memory", "pids"];

/// Judges one of [`KEYS`].
pub(super) fn judge(refusals: &mut Refusals, place: &str, key: &str, value: &Value) {
    match key {
        "oom_score_adj" if number(value).is_none_or(|adjust| adjust < 0) => {
            refusals.refuse(place, key, value, "the kernel may not be told to end others first");
        }
        "cpu_shares" if number(value).is_none_or(|shares| shares > USUAL_SHARES) => {
            refusals.refuse(place, key, value, "at most 1024, which is what everybody has");
        }
        "scale" if number(value).is_none_or(|count| count > MAX_REPLICAS) => {
            refusals.refuse(place, key, value, REPLICAS);
        }
        "stop_grace_period" if seconds(value).is_none_or(|grace| grace > MAX_GRACE) => {
            refusals.refuse(place, key, value, "at most ten minutes: it must be possible to stop it");
        }
        "shm_size" if bytes(value).is_none_or(|size| size > MAX_MEMORY) => {
            refusals.refuse(place, key, value, "at most 8 GiB");
        }
        "tmpfs" => {
            let one = [value.clone()];
            let places = value.as_array().map_or(&one[..], Vec::as_slice);
            for options in places.iter().filter_map(|place| place.as_str()?.split_once(':')) {
                judge_tmpfs_options(refusals, place, options.1);
            }
        }
        _ => {}
    }
}

/// Docker reads sizes as the kernel does: `64m`, `1g`. Without one it's half of the memory, and 0 has no bound.
fn judge_tmpfs_options(refusals: &mut Refusals, place: &str, options: &str) {
    for option in options.split(',') {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("size", Some(size)) if parse_size(size).is_some_and(|size| size > 0 && size <= MAX_MEMORY) => {}
            ("size", _) => {
                refusals.refuse(place, "tmpfs", &Value::from(option), "at most 8 GiB, as a number with k, m or g");
            }
            ("mode" | "uid" | "gid", Some(_)) => {}
            (flag, None) if TMPFS_FLAGS.contains(&flag) => {}
            _ => {
                refusals.refuse(place, "tmpfs", &Value::from(option), "this isn't one of the options that it may have")
            }
        }
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A size as the model has it: bytes, as text or number.
pub(super) fn is_within_memory(value: &Value) -> bool {
    bytes(value).is_some_and(|size| size <= MAX_MEMORY)
}

fn bytes(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| parse_size(value.as_str()?))
}

pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|n| n.ceil() as i64)).or_else(|| value.as_str()?.parse().ok())
}

/// A duration as compose prints it: `1m30s`.
fn seconds(value: &Value) -> Option<f64> {
    let (mut sum, mut number) = (0.0, String::new());
    let mut rest = value.as_str()?;
    while let Some(next) = rest.chars().next() {
        if next.is_ascii_digit() || next == '.' {
            number.push(next);
            rest = &rest[1..];
            continue;
        }
        let units =
            [("ms", 0.001), ("us", 1e-6), ("\u{b5}s", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        sum += number.parse::<f64>().ok()? * factor;
        number.clear();
        rest = &rest[unit.len()..];
    }
    number.is_empty().then_some(sum)
}

/// Judges the limits of processes.
pub(super) fn judge_ulimits(refusals: &mut Refusals, place: &str, ulimits: &Value) {
    for (name, value) in ulimits.as_object().into_iter().flatten() {
        if !ULIMITS.contains(&name.as_str()) {
            let shown = Value::from(format!("{name}={value}"));
            refusals.refuse(place, "ulimits", &shown, "no process runs before those of others");
        }
    }
}

/// Judges `deploy`, of which compose takes replicas and resources.
pub(super) fn judge_deploy(refusals: &mut Refusals, place: &str, deploy: &Value) {
    for (key, value) in deploy.as_object().into_iter().flatten() {
        if key == "replicas" && number(value).is_none_or(|count| count > MAX_REPLICAS) {
            refusals.refuse(place, "deploy.replicas", value, REPLICAS);
        }
        if !DEPLOY.contains(&key.as_str()) && !key.starts_with("x-") {
            refusals.refuse(place, &format!("deploy.{key}"), value, "this isn't one of the keys that it may have");
        }
    }
    for (kind, resources) in deploy["resources"].as_object().into_iter().flatten() {
        for (key, value) in resources.as_object().into_iter().flatten() {
            if !RESOURCES.contains(&key.as_str()) && !value.is_null() {
                let key = format!("deploy.resources.{kind}.{key}");
                refusals.refuse(place, &key, value, "only processors, memory and processes can be named");
            }
        }
    }
}
