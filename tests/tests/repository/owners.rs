//! Some things may be done in one place only: then there's one place to check, and one to change. Tests may do them too.

use std::collections::BTreeSet;

use syn::visit::Visit as _;

use crate::tree::{self, Files, parse, report, rust};
use crate::uses::PathCollector;

const RULE: &str = "\
what only one file or folder may do, done elsewhere: call what the owner offers, or let it offer more";

/// Crates that one file or folder hides from all others, and why.
const CRATES: [(&str, &str, &str); 5] = [
    ("async_ssh2_tokio", "deploy/src/remote/", "every connection checks the host's key and hides what it prints"),
    ("russh", "deploy/src/remote/", "every connection checks the host's key and hides what it prints"),
    ("backoff", "deploy/src/backoff.rs", "it's unmaintained, and can be replaced in one file"),
    ("crypto_box", "deploy/src/secrets/seal.rs", "secrets are sealed and opened in one way"),
    ("lapin", "worker/src/amqp/", "every publication is mandatory and waits for its confirm"),
];

/// Texts in code that only these files and folders may hold, and why.
const TEXTS: [(&str, &[&str], &str); 3] = [
    (r#""'\''""#, &["deploy/src/remote/quote.rs"], "a word that a shell reads is quoted in one way"),
    ("io::stdout", &["ops/src/terminal/", "worker/src/process/command_line.rs"], "data and messages are kept apart"),
    (
        "io::stderr",
        &["ops/src/terminal/", "worker/src/process/command_line.rs", "worker/src/telemetry/mod.rs"],
        "data and messages are kept apart",
    ),
];

fn is_product(path: &str) -> bool {
    ["protocol/src/", "deploy/src/", "worker/src/", "ops/src/"].iter().any(|folder| path.starts_with(folder))
}

/// The first words of a file's paths, without those that the file itself gives to something else: they may be crates.
fn first_words(path: &str, text: &str) -> BTreeSet<String> {
    let parsed = parse(path, text);
    let mut collector = PathCollector::default();
    collector.visit_file(&parsed);
    let modules = parsed
        .items
        .iter()
        .filter_map(|item| if let syn::Item::Mod(item) = item { Some(item.ident.to_string()) } else { None });
    let imported =
        collector.uses.iter().filter(|import| import.path.len() > 1).filter_map(|import| import.name.clone());
    let own: BTreeSet<String> = modules.chain(imported).collect();
    let imports = collector.uses.into_iter().map(|import| import.path);
    let paths = imports.chain(collector.mentioned).filter(|path| path.len() > 1);
    paths.filter_map(|path| path.into_iter().next()).filter(|word| !own.contains(word)).collect()
}

fn findings(files: &Files) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in rust(files).filter(|(path, _)| is_product(path)) {
        let words = first_words(path, text);
        for (name, owner, reason) in CRATES {
            if words.contains(name) && !path.starts_with(owner) {
                findings.push(format!("{path}: uses the crate {name}; only {owner} may: {reason}"));
            }
        }
        for (part, owners, reason) in TEXTS {
            let written = text.lines().any(|line| line.contains(part) && !line.trim_start().starts_with("//"));
            if written && !owners.iter().any(|owner| path.starts_with(owner)) {
                findings.push(format!("{path}: holds {part}; only {} may: {reason}", owners.join(", ")));
            }
        }
    }
    findings
}

#[test]
fn what_one_place_may_do_is_done_there_alone() {
    report(RULE, &findings(&tree::files()));
}

#[test]
fn every_owner_exists() {
    let files = tree::files();
    let owners =
        CRATES.iter().map(|(_, owner, _)| *owner).chain(TEXTS.iter().flat_map(|(_, owners, _)| owners.iter().copied()));
    for owner in owners {
        assert!(crate::paths::exists(&files, owner.trim_end_matches('/')), "{owner}: no such file");
    }
}

#[test]
fn what_is_done_beside_its_owner_is_found() {
    let made = [
        ("deploy/src/a.rs", "use backoff::ExponentialBackoff; fn a() { let e = russh::Error::HUP; }"),
        ("deploy/src/backoff.rs", "use backoff::ExponentialBackoff; fn quote() { replace('\\'', r\"'\\''\") }"),
        ("ops/src/b.rs", "// io::stderr\nfn b() { std::io::stdout(); let backoff = 1; crate::backoff::c(); }"),
        ("deploy/src/lib.rs", "mod backoff; pub use backoff::delay;"),
        ("worker/src/d.rs", "use slipway_deploy::backoff; fn d() { backoff::delay() }"),
        ("worker/src/e.rs", "fn e() { vec![fixed(\"backoff::IN_STAGE\"), format!(\"{}\", \"lapin::Error\")]; }"),
        ("worker/src/f.rs", "#[serde(with = \"lapin::types\")] struct F(u8); m! { #[serde(with = \"russh::a\")] G }"),
        ("worker/tests/c.rs", "use russh::Error;"),
    ];
    let files = made.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let found: Vec<String> =
        findings(&files).iter().filter_map(|line| Some(line.split_once(';')?.0.to_owned())).collect();
    let expected = [
        "deploy/src/a.rs: uses the crate russh",
        "deploy/src/a.rs: uses the crate backoff",
        r#"deploy/src/backoff.rs: holds "'\''""#,
        "ops/src/b.rs: holds io::stdout",
        "worker/src/f.rs: uses the crate russh",
        "worker/src/f.rs: uses the crate lapin",
    ];
    assert_eq!(found, expected);
}
