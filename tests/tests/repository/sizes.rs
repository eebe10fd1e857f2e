//! Short files, and names of tests that fit into a line of a terminal. Prose, generated files and samples aren't measured.

use crate::tree::{self, Files, report, rust};

const LINES: usize = 300;
const NAME: usize = 80;

/// Files that are longer, each with the reason why that's right.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "protocol/python/slipway_events.py",
    "orchestrators copy it into their own code as one file without dependencies on others",
)];

fn is_source(path: &str, text: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    [".rs", ".sh", ".py"].iter().any(|ending| path.ends_with(ending)) || (!name.contains('.') && text.starts_with("#!"))
}

fn long_files(files: &Files) -> Vec<String> {
    let lines =
        files.iter().filter(|(path, text)| is_source(path, text)).map(|(path, text)| (path, text.lines().count()));
    let long = lines.filter(|(path, lines)| *lines > LINES && !EXCEPTIONS.iter().any(|(excepted, _)| excepted == path));
    long.map(|(path, lines)| format!("{path}: {lines}")).collect()
}

/// The function under each `#[test]` or `#[tokio::test(…)]`, in macros such as `proptest!` too.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let marked = (0..lines.len()).filter({
        let lines = lines.clone();
        move |at| lines[*at].starts_with("#[test]") || lines[*at].starts_with("#[tokio::test")
    });
    marked.filter_map(move |at| {
        let line = lines[at..].iter().find(|line| line.contains("fn "))?;
        line.split_once("fn ")?.1.split(['(', '<']).next()
    })
}

fn long_names(files: &Files) -> Vec<String> {
    let all = rust(files).flat_map(|(path, text)| tests(text).map(move |name| (path, name)));
    all.filter(|(_, name)| name.len() > NAME).map(|(path, name)| format!("{path}: {name} ({})", name.len())).collect()
}

#[test]
fn no_source_file_is_longer_than_300_lines() {
    let rule =
        "files of more than 300 lines: split them by what a reader looks for; the name of each part says what it is";
    report(rule, &long_files(&tree::files()));
}

#[test]
fn each_exception_among_the_long_files_is_needed() {
    let files = tree::files();
    for (path, _) in EXCEPTIONS {
        assert!(files.get(path).is_some_and(|text| text.lines().count() > LINES), "{path} is an exception in vain");
    }
}

#[test]
fn names_of_tests_have_at_most_80_characters() {
    let rule =
        "names of tests with more than 80 characters: say what is proven, and leave the circumstances to the body";
    report(rule, &long_names(&tree::files()));
}

#[test]
fn long_files_and_names_are_found() {
    let (lines, name) = ("\n".repeat(LINES + 1), "n".repeat(NAME + 1));
    let test = format!(
        "#[tokio::test(flavor = \"multi_thread\")]\n#[ignore]\nasync fn {name}() {{}}\n#[test]\nfn short() {{}}"
    );
    let script = format!("#!/bin/sh\n{lines}");
    let made = [("a.rs", &lines), ("b.rs", &test), ("run", &script), ("prose.md", &lines), ("LICENSE", &lines)];
    let files = made.map(|(path, text)| (path.to_owned(), text.clone())).into();
    assert_eq!(long_files(&files), ["a.rs: 301", "run: 302"]);
    assert_eq!(long_names(&files), [format!("b.rs: {name} (81)")]);
}
