//! The plans that PostgreSQL has logged of what it carried out.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::tables::GROWING;

/// A statement as it was carried out.
pub struct Plan {
    /// Its text, with single spaces.
    pub statement: String,
    /// Pages that it read, from memory or from disk.
    pub pages: u64,
    pub milliseconds: f64,
    /// A growing table that was read from its beginning to its end.
    pub scanned: Option<String>,
    /// Its nodes, one a line.
    pub shape: String,
}

pub fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text names a table that grows.
pub fn grows(text: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| GROWING.contains(&word))
}

/// All plans in the log, of statements that touch a table which grows.
pub fn plans(log: &Path) -> Vec<Plan> {
    let mut files: Vec<_> = std::fs::read_dir(log).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    let lines: String = files.iter().filter(|file| file.extension().is_some_and(|e| e == "json")).map(read).collect();
    lines.lines().filter_map(plan).filter(|plan| grows(&plan.statement)).collect()
}

fn plan(line: &str) -> Option<Plan> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["application_name"] != "visitor" {
        return None;
    }
    let (duration, plan) = line["message"].as_str()?.strip_prefix("duration: ")?.split_once(" ms  plan:")?;
    let logged: Value = serde_json::from_str(plan).unwrap();
    let root = &logged["Plan"];
    let (mut scanned, mut shape) = (None, String::new());
    walk(root, 0, &mut scanned, &mut shape);
    Some(Plan {
        statement: single_spaced(logged["Query Text"].as_str()?),
        pages: buffers(root),
        milliseconds: duration.parse().unwrap(),
        scanned,
        shape,
    })
}

fn buffers(node: &Value) -> u64 {
    ["Shared Hit Blocks", "Shared Read Blocks"].iter().filter_map(|key| node[*key].as_u64()).sum()
}

fn walk(node: &Value, depth: usize, scanned: &mut Option<String>, shape: &mut String) {
    let text = |key: &str| node[key].as_str().unwrap_or_default();
    let (kind, relation) = (text("Node Type"), text("Relation Name"));
    *shape += &format!(
        "{}{kind} {relation} {} rows={} loops={} removed={} pages={} {}{}\n",
        "  ".repeat(depth),
        text("Index Name"),
        node["Actual Rows"],
        node["Actual Loops"],
        node["Rows Removed by Filter"],
        buffers(node),
        text("Index Cond"),
        text("Filter"),
    );
    // A small table may be read whole, and one that the test has just begun to fill.
    if kind == "Seq Scan" && GROWING.contains(&relation) && node["Actual Loops"] != 0 && buffers(node) > 100 {
        *scanned = Some(relation.to_owned());
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, depth + 1, scanned, shape);
    }
}

/// The costliest plan of each statement, the costliest first; one that reads all of a table before any other.
pub fn largest(plans: &[Plan]) -> Vec<&Plan> {
    let mut sorted: Vec<&Plan> = plans.iter().collect();
    sorted.sort_by_key(|plan| std::cmp::Reverse((plan.scanned.is_some(), plan.pages)));
    let mut seen = BTreeSet::new();
    sorted.retain(|plan| seen.insert(&plan.statement));
    sorted
}
