//! Links and paths in documents lead somewhere: files, folders, headings. Links to other sites aren't followed.

use std::collections::BTreeMap;

use crate::paths::{exists, join, missing};
use crate::tree::{self, Files, report};

/// The made-up projects that tests deploy have documents of their own.
const SAMPLES: &str = "tests/samples/";

const FENCE: &str = "```";

/// The lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with(FENCE);
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The targets of `[text](target)` and `[label]: target`.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        // What stands between backticks is code.
        let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        links.extend(inline.map(str::to_owned));
        if let Some((label, target)) = line.split_once("]: ")
            && label.starts_with('[')
        {
            links.push(target.trim().to_owned());
        }
    }
    links
}

/// The anchors that headings get: lower case, `-` for blanks, no other punctuation, `-1` at the second of a name.
fn anchors(text: &str) -> Vec<String> {
    let mut times = BTreeMap::<String, usize>::new();
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    let numbered = headings.map(slug).map(|slug| {
        let seen = times.entry(slug.clone()).or_default();
        *seen += 1;
        if *seen == 1 { slug } else { format!("{slug}-{}", *seen - 1) }
    });
    numbered.collect()
}

/// What is wrong with a link in the document `file`.
fn broken(files: &Files, file: &str, link: &str) -> Option<&'static str> {
    // In a README that is a crate's front page, `[Name](crate::path)` is for rustdoc, which checks it.
    if link.contains("://") || link.starts_with("mailto:") || link.contains("::") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        file.to_owned()
    } else {
        join(file.rsplit_once('/').map_or("", |(folder, _)| folder), path)
    };
    if !exists(files, &target) {
        return Some("no such file");
    }
    let leads =
        anchor.is_empty() || files.get(&target).is_some_and(|text| anchors(text).iter().any(|known| known == anchor));
    (!leads).then_some("no such heading")
}

fn findings(files: &Files) -> Vec<String> {
    let mut findings = Vec::new();
    for (file, text) in files.iter().filter(|(path, _)| path.ends_with(".md") && !path.starts_with(SAMPLES)) {
        let links = links(text);
        findings
            .extend(links.iter().filter_map(|link| Some(format!("{file}: {link}: {}", broken(files, file, link)?))));
        findings.extend(missing(files, file, text).iter().map(|path| format!("{file}: {path}: no such file")));
    }
    findings.sort();
    findings.dedup();
    findings
}

#[test]
fn every_link_and_path_in_documents_leads_somewhere() {
    report("documents that point to what isn't there", &findings(&tree::files()));
}

#[test]
fn dead_links_anchors_and_paths_in_documents_are_found() {
    let readme = "# The `big` One!\n[a](docs/deep.md#second-1) [b](#the-big-one) [c](docs) [d](https://example.com/x.md) `[x](y)`\n\
                  [gone](gone.md) [lost](docs/deep.md#lost)\nSee `docs/code.rs`, `make docs/deep.md`.\n```\n[no](link)\n# no heading\n```\n[r]: ../out";
    let made =
        [("README.md", readme), ("docs/deep.md", "## Second\n## Second\n[up](../README.md#no-heading) [R](crate::R)")];
    let files = made.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let expected = [
        "README.md: ../out: no such file",
        "README.md: docs/code.rs: no such file",
        "README.md: docs/deep.md#lost: no such heading",
        "README.md: gone.md: no such file",
        "docs/deep.md: ../README.md#no-heading: no such heading",
    ];
    assert_eq!(findings(&files), expected);
}
