//! The compose files by themselves, before compose resolves them: a path that leads out of the project is named. What isn't
//! seen here (a path behind a variable, YAML that compose reads in another way) compose can't reach all the same: it reads
//! the files where there is nothing else.

use serde_json::Value;

use super::allowance::Allowance;
use super::paths::relative;
use super::refusal::{Refusal, Refusals};

/// Servers read no larger compose file.
const MAX_BYTES: usize = 1 << 20;
const REMOTE: &str = "compose files come with the repository, and from nowhere else";

/// Judges the compose files.
pub(crate) fn judge_files(directory: &str, yaml: &[&[u8]]) -> Vec<Refusal> {
    let mut refusals = Refusals::new(&[] as &[Allowance]);
    for text in yaml {
        // What can't be read is compose's to refuse.
        let Some(file) = read_yaml(text) else { continue };
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
    let mut found = refusals.into_found();
    found.dedup();
    found
}

/// With a budget: a file of a stranger's may be all items and aliases.
fn read_yaml(text: &[u8]) -> Option<Value> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000,
            max_nodes: 25_000,
            max_depth: 128,
            max_documents: 1,
            max_aliases: 5_000,
            max_anchors: 2_000,
        },
    };
    if text.len() > MAX_BYTES {
        return None;
    }
    serde_saphyr::from_str_with_options(&String::from_utf8_lossy(text), options).ok()
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

#[cfg(test)]
mod tests {
    use super::read_yaml;

    #[test]
    fn files_that_multiply_or_never_end_are_left_unread() {
        let large = format!("x: [{}]", "a,".repeat(5_000_000));
        let many = format!("x: [{}]", "a,".repeat(60_000));
        let deep = format!("x: {}{}", "[".repeat(5_000), "]".repeat(5_000));
        for text in [large, many, deep] {
            assert_eq!(read_yaml(text.as_bytes()), None);
        }
        assert!(read_yaml(b"services: {a: {image: x}}").is_some());
    }
}
