//! The compose files by themselves, before compose resolves them: a path that leads out of the project is named. What isn't
//! seen here (a path behind a variable, YAML that compose reads in another way) compose can't reach all the same: it reads
//! the files where there is nothing else.

use serde_json::Value;

use super::allowance::Allowance;
use super::paths::relative;
use super::refusal::{Refusal, Refusals};

const REMOTE: &str = "compose files come with the repository, and from nowhere else";

/// Judges the compose files, as YAML, and compose's view of them without interpolation, as JSON, where there is one.
pub(crate) fn judge_files(directory: &str, yaml: &[&[u8]], view: &[u8]) -> Vec<Refusal> {
    let mut refusals = Refusals::new(&[] as &[Allowance]);
    for text in yaml {
        // What can't be read is compose's to refuse.
        let Ok(file) = serde_saphyr::from_str::<Value>(&String::from_utf8_lossy(text)) else { continue };
        for include in listed(&file["include"]) {
            let of_long = |key: &str| listed(&include[key]);
            let paths = if include.is_string() {
                vec![include.clone()]
            } else {
                [of_long("path"), of_long("env_file")].concat()
            };
            paths.iter().for_each(|path| judge_path(&mut refusals, directory, "project", "include", path));
        }
        for (name, service) in file["services"].as_object().into_iter().flatten() {
            let place = format!("service {name}");
            judge_path(&mut refusals, directory, &place, "extends", &service["extends"]["file"]);
            for key in ["env_file", "label_file"] {
                for path in listed(&service[key]) {
                    let path = if path.is_object() { &path["path"] } else { &path };
                    judge_path(&mut refusals, directory, &place, key, path);
                }
            }
        }
    }
    let view: Value = serde_json::from_slice(view).unwrap_or_default();
    for (name, service) in view["services"].as_object().into_iter().flatten() {
        for path in listed(&service["env_file"]) {
            let path = if path.is_object() { &path["path"] } else { &path };
            judge_path(&mut refusals, directory, &format!("service {name}"), "env_file", path);
        }
    }
    let mut found = refusals.into_found();
    found.dedup();
    found
}

fn listed(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.clone(),
        other => vec![other.clone()],
    }
}

/// Paths are relative to the folder of the first compose file.
fn judge_path(refusals: &mut Refusals, directory: &str, place: &str, key: &str, path: &Value) {
    let Some(text) = path.as_str().filter(|text| !text.contains('$')) else { return };
    if text.contains("://") || text.starts_with("git@") {
        return refusals.refuse(place, key, path, REMOTE);
    }
    let mut parts: Vec<&str> = directory.split('/').collect();
    parts.push("infra");
    if text.starts_with('/') {
        parts.clear();
        parts.push("");
    }
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.len() > 1 => drop(parts.pop()),
            ".." => {}
            part => parts.push(part),
        }
    }
    if let Err(rule) = relative(directory, &parts.join("/")) {
        refusals.refuse(place, key, path, rule);
    }
}
