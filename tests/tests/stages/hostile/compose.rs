//! What compose files may not ask for, on a server: the rows of `deploy/src/project/grants/tricks.txt`, many in a file, each for
//! services, volumes and networks of its own. What depends on who else is on the server is tried beside the table alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use slipway_deploy::StageError;
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Sample, Variant};

use super::git_objects::{FILE, FOLDER, Objects};
use super::innocent::Innocent;
use crate::pipeline::scene::AttemptScene;

const ROWS: &str = include_str!("../../../../deploy/src/project/grants/tricks.txt");
const SLUG: &str = "asker";
const BASE: &str = "services: {backend: {image: x}, tg_bot: {image: x}, db: {image: x}}";
const EXTRA: &str = "services: {extra: {image: x, privileged: true}}";
/// The server would have to have these names, routes and folders of others, or of the project's.
const OF_OTHERS: &[&str] = &["{proxy:", "two-backend", "10.77.0.0", "192.168.9.0", "fd12:", "uploads/link"];
/// An error names some thirty refusals.
const A_FILE: usize = 25;

/// A trick, and the keys that are refused for it.
struct Row {
    number: usize,
    keys: Vec<&'static str>,
    production: &'static str,
}

impl Row {
    fn all() -> Vec<Self> {
        let lines = ROWS.lines().filter(|line| !line.starts_with('#') && !OF_OTHERS.iter().any(|of| line.contains(of)));
        let rows = lines.enumerate().map(|(number, line)| {
            let (keys, production) = line.split_once(" <= ").unwrap();
            Self { number, keys: keys.split(' ').collect(), production }
        });
        rows.collect()
    }

    /// Whether it stays itself beside others in one file, under other names.
    fn is_sociable(&self) -> bool {
        !self.production.contains("<<") && !self.production.contains("include:") && self.keys != ["networks"]
    }

    /// Adds what it asks for to a file, under names that end in its number.
    fn join(&self, file: &mut Map<String, Value>) {
        let row: Map<String, Value> = serde_saphyr::from_str(self.production).unwrap();
        let named = |name: &str| format!("{name}-{}", self.number);
        let of_row = |name: &str| row.values().any(|section| section.get(name).is_some());
        for (section, entries) in &row {
            let joined = file.entry(section).or_insert_with(|| json!({}));
            for (name, entry) in entries.as_object().unwrap() {
                let mut entry = entry.clone();
                if section == "services" {
                    entry.as_object_mut().unwrap().entry("image").or_insert_with(|| "x".into());
                    for list in ["volumes", "networks", "configs", "secrets"] {
                        for used in entry.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                            let Some(text) = used.as_str() else { continue };
                            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                            if of_row(name) {
                                *used = format!("{}{rest}", named(name)).into();
                            }
                        }
                    }
                }
                joined[named(name)] = entry;
            }
        }
    }

    /// The keys of it that aren't among the refusals of what it added.
    fn missing(&self, error: &StageError, alone: bool) -> Vec<String> {
        let end = format!("-{}", self.number);
        let told: Vec<&str> = error
            .tail
            .iter()
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(place, rest)| (alone || place.ends_with(&end)).then_some(rest))
            .collect();
        let is_told = |key: &&&str| told.iter().any(|rest| rest.starts_with(&format!("{key}: ")));
        let missing = self.keys.iter().filter(|key| !is_told(key));
        missing.map(|key| format!("{key} of {}", self.production)).collect()
    }
}

/// What deploying this production file ends with.
fn refusal(scene: &AttemptScene, sample: &Sample, production: &str) -> StageError {
    let objects = Objects { repository: scene.world.git().repository(sample) };
    let files = [("compose.base.yml", BASE), ("compose.prod.yml", production), ("extra.yml", EXTRA)];
    let blobs = files.map(|(name, text)| (name, objects.blob(text.as_bytes())));
    let infra = objects.tree(&blobs.each_ref().map(|(name, id)| (FILE, name.as_bytes(), id.as_str())));
    let commit = Commit { sha: objects.commit(&[(FOLDER, b"infra", &infra)]), branch: "main".to_owned() };
    let work = scene.work_on((0, 9191), sample, &commit, SLUG, &BTreeMap::new());
    let (stage, error) = *scene.run_stages(work, &[Stage::Preflight, Stage::Clone, Stage::Env]).err().unwrap();
    assert_eq!(
        (stage, error.code),
        (Stage::Env, ErrorCode::ComposeNotAllowed),
        "{error} {:?}: {production}",
        error.tail
    );
    error
}

/// Tries them in few files; `each`: one by one.
pub fn whatever_a_compose_file_asks_for_in_vain_is_named_and_nothing_of_it_is_there(
    scene: &AttemptScene,
    innocent: &Innocent<'_>,
    each: bool,
) {
    let sample = Sample::new(Generation::Two, "acme", SLUG);
    scene.publish(&sample, Variant::Healthy);
    let (sociable, alone): (Vec<Row>, Vec<Row>) = Row::all().into_iter().partition(|row| row.is_sociable() && !each);
    let mut missing = Vec::new();
    for rows in sociable.chunks(A_FILE) {
        let mut file = Map::new();
        rows.iter().for_each(|row| row.join(&mut file));
        let error = refusal(scene, &sample, &Value::from(file).to_string());
        missing.extend(rows.iter().flat_map(|row| row.missing(&error, false)));
    }
    for row in &alone {
        missing.extend(row.missing(&refusal(scene, &sample, row.production), true));
    }
    assert!(missing.is_empty(), "not refused: {missing:#?}");
    assert!(sociable.len() + alone.len() >= 100, "{} and {}", sociable.len(), alone.len());
    let left = "docker ps -aq --filter label=com.docker.compose.project=asker; docker volume ls -q; docker network ls";
    let left = scene.world.target(0).sh(left).unwrap();
    assert!(!left.contains(SLUG), "{left}");
    innocent.assert_unharmed("a compose file");
}

#[test]
fn a_trick_whose_refusal_nobody_told_of_is_found() {
    let row = Row { number: 7, keys: vec!["ports", "volumes"], production: "services: {db: {}}" };
    let error = |lines: &[&str]| {
        StageError::new(ErrorCode::ComposeNotAllowed, "x")
            .with_tail(lines.iter().map(|line| (*line).to_owned()).collect())
    };
    let told = error(&["service db-7: ports: 1 (x)", "service db-7: volumes: / (x)"]);
    assert!(row.missing(&told, false).is_empty());
    let others = error(&["service db-7: ports: 1 (x)", "service db-17: volumes: / (x)", "service db: volumes: / (x)"]);
    assert_eq!(row.missing(&others, false), ["volumes of services: {db: {}}"]);
    assert!(row.missing(&others, true).is_empty());
    let mut file = Map::new();
    Row { production: "{services: {db: {volumes: ['v:/v', './v:/w']}}, volumes: {v: {name: x}}}", ..row }
        .join(&mut file);
    let joined = json!({"services": {"db-7": {"volumes": ["v-7:/v", "./v:/w"], "image": "x"}}, "volumes": {"v-7": {"name": "x"}}});
    assert_eq!(Value::from(file), joined);
}
