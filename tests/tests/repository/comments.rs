//! Comments point to what a reader of the repository has: its own files, and no document, list or number elsewhere.

use crate::paths::missing;
use crate::tree::{self, Files, report};

/// The made-up projects and images that tests deploy.
const SAMPLES: [&str; 2] = ["tests/samples/", "tests/images/"];

/// Whoever writes these means a text that isn't here.
const ELSEWHERE: [&str; 5] = ["field notes", "see the issue", "issue #", "design document", "as discussed"];

/// What people read of a file: comments of code and scripts, all of the settings. Strings of Rust aren't comments, and
/// migrations can't be corrected any more.
fn comments(path: &str, text: &str) -> Option<Vec<String>> {
    let mark = match path.rsplit('.').next()? {
        "rs" => "//",
        "sh" | "py" => "#",
        "toml" => "",
        _ if text.starts_with("#!") => "#",
        _ => return None,
    };
    let comment = |line: &str| match line.trim_start().strip_prefix(mark) {
        Some(comment) => Some(comment.to_owned()),
        // With a quotation mark behind it, it's rather a part of a string.
        None => line
            .split_once(&format!(" {mark} "))
            .map(|(_, comment)| comment.to_owned())
            .filter(|comment| !comment.contains('"')),
    };
    Some(text.lines().filter_map(comment).collect())
}

fn findings(files: &Files) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !SAMPLES.iter().any(|samples| path.starts_with(samples))) {
        for comment in comments(path, text).unwrap_or_default() {
            let lower = comment.to_lowercase();
            findings.extend(
                ELSEWHERE.iter().filter(|phrase| lower.contains(**phrase)).map(|phrase| format!("{path}: “{phrase}”")),
            );
            findings.extend(missing(files, path, &comment).iter().map(|gone| format!("{path}: {gone}: no such file")));
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

#[test]
fn comments_point_only_to_files_of_the_repository() {
    let rule =
        "comments that point to what isn't in the repository: name the file where it is now, or say the fact itself";
    report(rule, &findings(&tree::files()));
}

#[test]
fn comments_that_point_nowhere_are_found() {
    let made = [
        (
            "made/src/here.rs",
            "//! After `gone.rs`.\nlet x = \"other.rs\"; // see src/here.rs and field Notes\n/// In `here.rs`.",
        ),
        ("run", "#!/bin/sh\n# Calls made/lost.sh.\necho other.sh"),
        ("Cargo.toml", "reason = \"only made/src/else.rs may\""),
    ];
    let files = made.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let expected = [
        "Cargo.toml: made/src/else.rs: no such file",
        "made/src/here.rs: gone.rs: no such file",
        "made/src/here.rs: “field notes”",
        "run: made/lost.sh: no such file",
    ];
    assert_eq!(findings(&files), expected);
}
