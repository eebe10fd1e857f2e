//! The plans that PostgreSQL has logged of what it carried out.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::tables::GROWING;

/// The processes that call the store: who visits everything, and whose project has a tenth of all deployments, or none.
pub const VISITOR: &str = "visitor";
pub const VETERAN: &str = "veteran";
pub const NEWCOMER: &str = "newcomer";

/// A statement as it was carried out.
pub struct Plan {
    /// By whom.
    pub by: String,
    /// Its text, with single spaces.
    pub statement: String,
    /// Pages that it read, from memory or from disk, in all of its parts.
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

/// The lines of the log.
pub fn lines(log: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(log).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    let text: String = files.iter().filter(|file| file.extension().is_some_and(|e| e == "json")).map(read).collect();
    text.lines().map(str::to_owned).collect()
}

/// All plans in the log, of statements that touch a table which grows.
pub fn plans(log: &Path) -> Vec<Plan> {
    lines(log).iter().filter_map(|line| plan(line)).filter(|plan| grows(&plan.statement)).collect()
}

/// Whether a line of the log is about what one of them asked.
pub fn is_visit(line: &Value) -> bool {
    line["application_name"].as_str().is_some_and(|by| [VISITOR, VETERAN, NEWCOMER].contains(&by))
}

fn plan(line: &str) -> Option<Plan> {
    let line: Value = serde_json::from_str(line).ok().filter(is_visit)?;
    let by = line["application_name"].as_str()?.to_owned();
    let (duration, plan) = line["message"].as_str()?.strip_prefix("duration: ")?.split_once(" ms  plan:")?;
    let logged: Value = serde_json::from_str(plan).unwrap();
    let root = &logged["Plan"];
    let (mut scanned, mut shape) = (None, String::new());
    walk(root, 0, &mut scanned, &mut shape);
    Some(Plan {
        statement: single_spaced(logged["Query Text"].as_str()?),
        pages: pages(root),
        by,
        milliseconds: duration.parse().unwrap(),
        scanned,
        shape,
    })
}

fn buffers(node: &Value) -> u64 {
    ["Shared Hit Blocks", "Shared Read Blocks"].iter().filter_map(|key| node[*key].as_u64()).sum()
}

/// What a whole plan read. What a `WITH` reads is counted in the nodes that read from it, and so in the root, as well as where it
/// stands; and what nobody reads to its end, as most of what changes rows, is carried out after the root, and counted where
/// it stands alone.
fn pages(root: &Value) -> u64 {
    fn beside(node: &Value, read: &mut u64, counted_twice: &mut u64) {
        let own = |node: &Value| node["Subplan Name"].as_str().is_none_or(|name| !name.starts_with("CTE "));
        let children = || node["Plans"].as_array().into_iter().flatten();
        if !own(node) {
            *read += buffers(node);
        }
        if node["Node Type"] == "CTE Scan" {
            let below: u64 = children().filter(|child| own(child)).map(buffers).sum();
            *counted_twice += buffers(node).saturating_sub(below);
        }
        children().for_each(|child| beside(child, read, counted_twice));
    }
    let (mut read, mut counted_twice) = (buffers(root), 0);
    beside(root, &mut read, &mut counted_twice);
    read.saturating_sub(counted_twice)
}

#[test]
fn what_a_plan_changes_beside_its_root_is_counted_once() {
    let node = |pages: u64, more: Value| {
        let mut node = serde_json::json!({ "Shared Hit Blocks": pages, "Shared Read Blocks": 0 });
        node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node
    };
    let cte = |pages, name: &str| node(pages, serde_json::json!({ "Subplan Name": format!("CTE {name}") }));
    let scan = |pages| node(pages, serde_json::json!({ "Node Type": "CTE Scan" }));
    // `changed` is read by nobody, `page` by two.
    let root = node(
        30,
        serde_json::json!({ "Node Type": "Nested Loop",
            "Plans": [cte(7, "page"), cte(500, "changed"), scan(5), scan(2), node(23, serde_json::json!({}))] }),
    );
    assert_eq!(pages(&root), 530);
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
