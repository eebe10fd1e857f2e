//! What a service mounts: directories and files of the server, volumes, memory, configs and secrets.

use serde_json::Value;

use super::allowance::Allowance;
use super::granted::Grants;
use super::limits::is_within_memory;
use super::paths::{MountedPath, check_mountable};
use super::refusal::Refusals;
use super::values::is_nothing;

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
            Some("volume") => {
                judge_keys(refusals, place, "volume", &volume["volume"], &["nocopy", "subpath"]);
                let path = &volume["volume"]["subpath"];
                if path.as_str().is_some_and(|path| path.starts_with('/') || path.split('/').any(|part| part == "..")) {
                    refusals.refuse(place, "volumes.volume.subpath", path, "it lies in the volume");
                }
            }
            Some("tmpfs") => {
                judge_keys(refusals, place, "tmpfs", &volume["tmpfs"], &["size", "mode"]);
                let size = &volume["tmpfs"]["size"];
                if !size.is_null() && !is_within_memory(size) {
                    refusals.refuse(place, "volumes.tmpfs.size", size, "at most 8 GiB");
                }
            }
            _ => refusals.refuse(place, "volumes.type", &volume["type"], "a mount is a bind, a volume or tmpfs"),
        }
    }
}

fn judge_keys(refusals: &mut Refusals, place: &str, kind: &str, options: &Value, known: &[&str]) {
    for (key, value) in options.as_object().into_iter().flatten() {
        if !known.contains(&key.as_str()) && !key.starts_with("x-") && !is_nothing(value) {
            refusals.refuse(place, &format!("volumes.{kind}.{key}"), value, UNKNOWN);
        }
    }
}

fn judge_bind(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, volume: &Value, paths: &mut Vec<MountedPath>) {
    let source = volume["source"].as_str().unwrap_or_default();
    let read_only = volume["read_only"] == Value::Bool(true);
    judge_keys(refusals, place, "bind", &volume["bind"], BIND);
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
