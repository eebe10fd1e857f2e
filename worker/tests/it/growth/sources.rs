//! The statements that the store's sources have, to be found again among those that were run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::plans::{Plan, grows, single_spaced};
use super::tables::UNVISITED;

/// Statements of the sources that touch a table which grows, and weren't run.
pub fn unvisited(plans: &[Plan]) -> Vec<String> {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/src/store");
    let mut found = Vec::new();
    let mut excused = BTreeSet::new();
    for file in files(&store) {
        let source = std::fs::read_to_string(&file).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for statement in literals(source).iter().filter(|text| is_statement(text) && grows(text)) {
            if let Some((part, _)) = UNVISITED.iter().find(|(part, _)| statement.contains(part)) {
                excused.insert(*part);
            } else if !plans.iter().any(|plan| was_made_of(&plan.statement, statement)) {
                let file = file.strip_prefix(&store).unwrap().display();
                found.push(format!("{file}: no call in `visits` runs this statement: {statement}"));
            }
        }
    }
    let without = UNVISITED.iter().filter(|(part, _)| !excused.contains(part));
    found.extend(without.map(|(part, _)| format!("an excuse without a statement: {part}")));
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn is_statement(text: &str) -> bool {
    ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "].iter().any(|word| text.starts_with(word))
}

/// The texts in quotation marks, with single spaces.
fn literals(source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let (mut found, mut chars) = (Vec::new(), code.chars().peekable());
    while let Some(c) = chars.next() {
        // The mark itself as a character.
        if c == '\'' && chars.peek() == Some(&'"') {
            chars.next();
        }
        if c != '"' {
            continue;
        }
        let mut text = String::new();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => match chars.next() {
                    Some('n') => text.push('\n'),
                    // The line goes on.
                    Some('\n') => {
                        while chars.peek().is_some_and(|c| c.is_whitespace()) {
                            chars.next();
                        }
                    }
                    Some(c) => text.push(c),
                    None => {}
                },
                c => text.push(c),
            }
        }
        found.push(single_spaced(&text));
    }
    found
}

/// Whether a statement was made of this text, in which anything stands in braces.
fn was_made_of(statement: &str, text: &str) -> bool {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut rest = statement;
    for part in text.split(['{', '}']).step_by(2) {
        let part = part.replace('\u{1}', "{").replace('\u{2}', "}");
        match rest.find(part.trim()) {
            Some(at) => rest = &rest[at + part.trim().len()..],
            None => return false,
        }
    }
    true
}
