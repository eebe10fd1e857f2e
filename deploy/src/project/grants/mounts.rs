//! What a service mounts: directories and files of the server, volumes, memory, configs and secrets.

use serde_json::Value;

use super::allowance::Allowance;
use super::granted::Grants;
use super::limits::is_within_memory;
use super::paths::{MountedPath, check_mountable};
use super::refusal::Refusals;

const KEYS: &[&str] = &["type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs"];
const BIND: &[&str] = &["create_host_path", "propagation", "recursive", "selinux"];
const UNKNOWN: &str = "a mount can't have this";

/// Judges the volumes of a service; gives the paths that the server has to look up.
pub(super) fn judge(
    refusals: &mut Refusals,
    grants: &Grants<'_>,
    place: &str,
    volumes: &Value,
    paths: &mut Vec<MountedPath>,
) {
    for volume in volumes.as_array().into_iter().flatten() {
        for (key, value) in volume.as_object().into_iter().flatten() {
            if !KEYS.contains(&key.as_str()) && !key.starts_with("x-") {
                refusals.refuse(place, &format!("volumes.{key}"), value, UNKNOWN);
            }
        }
        match volume["type"].as_str() {
            Some("bind") => judge_bind(refusals, grants, place, volume, paths),
            Some("volume") => {}
            Some("tmpfs") => {
                let size = &volume["tmpfs"]["size"];
                if !size.is_null() && !is_within_memory(size) {
                    refusals.refuse(place, "volumes.tmpfs.size", size, "at most 8 GiB");
                }
            }
            _ => refusals.refuse(place, "volumes.type", &volume["type"], "a mount is a bind, a volume or tmpfs"),
        }
    }
}

fn judge_bind(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, volume: &Value, paths: &mut Vec<MountedPath>) {
    let source = volume["source"].as_str().unwrap_or_default();
    let read_only = volume["read_only"] == Value::Bool(true);
    for (key, value) in volume["bind"].as_object().into_iter().flatten() {
        if !BIND.contains(&key.as_str()) && !key.starts_with("x-") {
            refusals.refuse(place, &format!("volumes.bind.{key}"), value, UNKNOWN);
        }
    }
    let propagation = &volume["bind"]["propagation"];
    if !matches!(propagation.as_str(), None | Some("" | "private" | "rprivate")) {
        refusals.refuse(place, "volumes.bind.propagation", propagation, "mounts of a container are its own");
    }
    match check_mountable(grants.directory, source) {
        Ok(()) => paths.push(MountedPath {
            place: place.to_owned(),
            key: "volumes".to_owned(),
            path: source.to_owned(),
            writable: !read_only,
        }),
        Err(rule) => {
            let allowance = |read_only| Allowance::Bind { path: source.to_owned(), read_only };
            let allowed = if read_only { vec![allowance(true), allowance(false)] } else { vec![allowance(false)] };
            // What an operator couldn't write down can't be allowed.
            if allowed.iter().all(|a| a.to_string().parse().as_ref() == Ok(a)) {
                refusals.unless_allowed(&allowed, place, "volumes", &volume["source"], rule);
            } else {
                refusals.refuse(place, "volumes", &volume["source"], rule);
            }
        }
    }
}

/// Judges which configs or secrets a service gets.
pub(super) fn judge_references(refusals: &mut Refusals, place: &str, key: &str, references: &Value) {
    const KEYS: [&str; 5] = ["source", "target", "uid", "gid", "mode"];
    for reference in references.as_array().into_iter().flatten() {
        for (name, value) in reference.as_object().into_iter().flatten() {
            if !KEYS.contains(&name.as_str()) && !name.starts_with("x-") {
                refusals.refuse(place, &format!("{key}.{name}"), value, UNKNOWN);
            }
        }
    }
}
