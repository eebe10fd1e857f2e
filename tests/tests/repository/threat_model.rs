//! What the threat model says is shown by a test is shown by one that exists, and nothing in it goes without.

use std::collections::BTreeSet;

use crate::tree::{self, Files, report};

const MODEL: &str = "ops/threat-model.md";
/// Who may mean harm; each has a heading and a table.
const FIVE: [&str; 5] = ["producer", "repository", "server", "registry", "GitHub"];

/// The names between backticks in the last column of each table of tricks, by row.
fn named(model: &str) -> Vec<(String, Vec<String>)> {
    let rows = model.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let mut tricks = false;
    let mut named = Vec::new();
    for row in rows {
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        if columns.last() == Some(&"shown by") || columns.first() == Some(&"who") {
            tricks = columns.last() == Some(&"shown by");
        } else if tricks {
            let tests = columns.last().into_iter().flat_map(|column| column.split('`').skip(1).step_by(2));
            named.push((columns[0].to_owned(), tests.map(str::to_owned).collect()));
        }
    }
    named
}

fn tests(files: &Files) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    for (_, text) in tree::rust(files) {
        let lines = text.lines().filter_map(|line| {
            line.trim_start().trim_start_matches("pub ").trim_start_matches("async ").strip_prefix("fn ")
        });
        tests.extend(lines.filter_map(|line| line.split(['(', '<']).next()).filter(|name| name.contains('_')));
    }
    tests
}

fn findings(files: &Files) -> Vec<String> {
    let Some(model) = files.get(MODEL) else { return vec![format!("{MODEL}: no such file")] };
    let tests = tests(files);
    let mut findings = Vec::new();
    for (trick, names) in named(model) {
        if names.is_empty() {
            findings.push(format!("{MODEL}: {trick}: no test shows it"));
        }
        let gone = names.iter().filter(|name| !tests.contains(name.as_str()));
        findings.extend(gone.map(|name| format!("{MODEL}: {trick}: no test is called {name}")));
    }
    let heading = |who: &str| model.lines().any(|line| line.starts_with("## A hostile ") && line.contains(who));
    findings.extend(FIVE.iter().filter(|who| !heading(who)).map(|who| format!("{MODEL}: nothing on a hostile {who}")));
    findings
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let files = tree::files();
    report("what the threat model claims has to be shown", &findings(&files));
    assert!(named(&files[MODEL]).len() > 20);
}

#[test]
fn a_claim_without_a_test_is_found() {
    let model = "## A hostile producer\n| who | is trusted |\n| --- | --- |\n| x | `not_a_test` |\n\n| tries to | at worst | shown by |\n\
                 | --- | --- | --- |\n| lie | nothing | `it_is_told`, `it_is_gone` |\n| hide | nothing | |\n";
    let files = [(MODEL, model), ("a.rs", "fn it_is_told() {}")].map(|(path, text)| (path.to_owned(), text.to_owned()));
    let found = findings(&files.into());
    assert_eq!(found.len(), 2 + 4, "{found:?}");
    assert!(
        found[0].ends_with("lie: no test is called it_is_gone") && found[1].ends_with("hide: no test shows it"),
        "{found:?}"
    );
}
