//! The same statements as PostgreSQL plans them for their values and by its own settings, as it does behind a pooler in
//! transaction mode: a statement alone comes without ours there. They are planned, not run.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::plans::{grows, is_visit, lines, single_spaced};
use super::tables::GROWING;
use crate::services::TestDatabase;

/// So many different values of a statement are looked at.
const VALUES: usize = 5;

/// The statements that would read all of a large table.
pub async fn scans(database: &TestDatabase, log: &Path) -> Vec<String> {
    let client = database.another().await;
    client.batch_execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
    let large = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relpages > 100";
    let large = client.query(large, &[]).await.unwrap();
    let large: BTreeSet<String> =
        large.iter().map(|row| row.get(0)).filter(|table: &String| GROWING.contains(&table.as_str())).collect();
    let (mut wrong, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut planned = 0;
    for (statement, values) in lines(log).iter().filter_map(|line| executed(line)) {
        let text = single_spaced(&statement);
        if !grows(&statement)
            || !seen.insert((text.clone(), values.clone()))
            || seen.iter().filter(|(other, _)| *other == text).count() > VALUES
        {
            continue;
        }
        planned += 1;
        let mut scanned = BTreeSet::new();
        walk(&plan(&client, &statement, &values).await, &large, &mut scanned);
        wrong.extend(scanned.iter().map(|table| format!("by its own settings, reads all of {table}: {text}")));
    }
    assert!(planned > 200, "{planned} plans are no record of what was run");
    wrong.into_iter().collect()
}

/// A statement that was run for somebody, and its values as a list.
fn executed(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let (_, executed) = line["message"].as_str().filter(|_| is_visit(&line))?.split_once(" ms  execute ")?;
    let (_, statement) = executed.split_once(": ")?;
    let told = line["detail"].as_str().and_then(|detail| detail.strip_prefix("parameters: ")).unwrap_or_default();
    let (mut values, mut quoted) = (String::new(), false);
    let mut rest = told.chars();
    while let Some(c) = rest.next() {
        quoted ^= c == '\'';
        match c {
            // `$1 = `
            '$' if !quoted => drop(rest.by_ref().find(|c| *c == '=')),
            c => values.push(c),
        }
    }
    Some((statement.to_owned(), values))
}

async fn plan(client: &Client, statement: &str, values: &str) -> Value {
    let values = if values.is_empty() { String::new() } else { format!("({values})") };
    let sql = format!("PREPARE own AS {statement}\n; EXPLAIN (FORMAT JSON) EXECUTE own{values}; DEALLOCATE own");
    let answer = client.simple_query(&sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
    let told = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    serde_json::from_str::<Value>(told.unwrap()).unwrap()[0]["Plan"].take()
}

fn walk(node: &Value, large: &BTreeSet<String>, scanned: &mut BTreeSet<String>) {
    let relation = node["Relation Name"].as_str().unwrap_or_default();
    if node["Node Type"] == "Seq Scan" && large.contains(relation) {
        scanned.insert(relation.to_owned());
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, large, scanned);
    }
}
