//! The text files of the repository: what git knows, and what is new and not ignored. An unpacked archive, which git
//! doesn't know, is walked instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The text of each file by its path from the repository's root.
pub type Files = BTreeMap<String, String>;

/// Asked for when it runs: the tree may have been moved since it was built.
fn root() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&package).parent().unwrap().to_owned()
}

/// All files that are UTF-8.
pub fn files() -> Files {
    let root = root();
    let paths = listed_by_git(&root).unwrap_or_else(|| {
        let mut paths = Vec::new();
        walk(&root, &root, &mut paths);
        paths
    });
    // A file that was deleted and not yet committed is listed, but can't be read.
    let files: Files =
        paths.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(root.join(path)).ok()?))).collect();
    assert!(files.contains_key("Cargo.toml"), "no repository at {}", root.display());
    files
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    if !root.join(".git").exists() {
        return None;
    }
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output =
        Command::new("git").args(listing).current_dir(root).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().unwrap().is_file() {
            paths.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        } else if entry.file_type().unwrap().is_dir() && name != "target" && name != ".git" && name != "__pycache__" {
            walk(root, &path, paths);
        }
    }
}

/// The Rust files.
pub fn rust(files: &Files) -> impl Iterator<Item = (&String, &String)> {
    files.iter().filter(|(path, _)| path.ends_with(".rs"))
}

/// Parsed, or a panic that names the file.
pub fn parse(path: &str, text: &str) -> syn::File {
    syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Panics with all findings, one a line, under what they have in common and what to do about them.
pub fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n\n{}\n", findings.join("\n"));
}

#[test]
fn a_walk_finds_what_git_lists() {
    let root = root();
    let mut walked = Vec::new();
    walk(&root, &root, &mut walked);
    if let Some(listed) = listed_by_git(&root) {
        let missing: Vec<_> =
            listed.iter().filter(|path| root.join(path).is_file() && !walked.contains(path)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
