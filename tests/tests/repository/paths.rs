//! Paths of the repository in running text: finding them, and asking whether they exist.

use crate::tree::Files;

const SOURCES: [&str; 6] = [".rs", ".sh", ".py", ".md", ".sql", ".snap"];

/// `folder/path` without `.` and `..`; what leaves the repository keeps its `..`.
pub fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether a file or folder is there.
pub fn exists(files: &Files, path: &str) -> bool {
    let inside = format!("{path}/");
    path.is_empty()
        || files.contains_key(path)
        || files.range(inside.clone()..).next().is_some_and(|(file, _)| file.starts_with(&inside))
}

/// The folders above a file, the nearest first, each with its `src`: a path in a text is read from any of them.
fn folders(file: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = file.split('/').collect();
    (0..parts.len()).rev().flat_map(move |length| {
        let folder = parts[..length].join("/");
        [join(&folder, "src"), folder]
    })
}

/// What in `text`, which stands in `file`, looks like a path of this repository and isn't one.
///
/// A path begins with a folder of the top level, or it names a source file. A source file's bare name is enough, wherever the
/// file lies. Addresses, variables (`$dir/…`), placeholders (`NAME.sh`, `x.sh`) and absolute paths aren't the repository's.
pub fn missing<'t>(files: &Files, file: &str, text: &'t str) -> Vec<&'t str> {
    tokens(text).filter(|path| looks_like_ours(files, path) && !is_there(files, file, path)).collect()
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let part_of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let foreign = |c: char| "$}>*~:@%=&?#\\…".contains(c);
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].find(part_of_path)?;
            let end = text[start..].find(|c| !part_of_path(c)).map_or(text.len(), |length| start + length);
            at = end;
            let before = text[..start].chars().next_back();
            let after = text[end..].chars().next();
            let token = text[start..end].trim_end_matches(['.', '-', '/']);
            if !before.is_some_and(foreign) && !after.is_some_and(|c| "{*$<…@".contains(c)) && !token.is_empty() {
                return Some(token);
            }
        }
    })
}

fn is_source(path: &str) -> bool {
    SOURCES.iter().any(|ending| path.strip_suffix(ending).is_some_and(|name| !name.is_empty() && !name.ends_with('/')))
}

fn looks_like_ours(files: &Files, path: &str) -> bool {
    let plain = path.trim_start_matches("./");
    let Some((top, rest)) = plain.split_once('/') else { return is_source(plain) && !is_placeholder(plain) };
    if path.starts_with('/') || is_placeholder(path) || plain.starts_with("../") && !is_source(path) {
        return false;
    }
    is_source(path) || (path.starts_with("./") || has_extension(rest)) && exists(files, top)
}

fn is_placeholder(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("NAME.") || name.find('.') == Some(1)
}

fn has_extension(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| {
        name.rsplit_once('.')
            .is_some_and(|(stem, ending)| !stem.is_empty() && ["toml", "json", "yml", "txt"].contains(&ending))
    })
}

fn is_there(files: &Files, file: &str, path: &str) -> bool {
    let bare = format!("/{path}");
    folders(file).any(|folder| exists(files, &join(&folder, path)))
        || (!path.contains('/') && files.keys().any(|known| known == path || known.ends_with(&bare)))
}

#[test]
fn paths_of_the_repository_are_told_from_others() {
    let known = [
        "ops/runbook.md",
        "worker/src/store/lease.rs",
        "deploy/src/scripts/stop.sh",
        ".config/nextest.toml",
        "tests/run",
    ];
    let files: Files = known.map(|path| (path.to_owned(), String::new())).into();
    let missing = |text: &str| missing(&files, "worker/src/run/mod.rs", text).join(" ");
    for right in [
        "see ops/runbook.md.",
        "(`store/lease.rs`)",
        "after stop.sh, in src/store/lease.rs",
        "../store/lease.rs",
        "./tests/run --all",
        "http://example.com/tests/x.rs, $dir/x.rs, /usr/lib/x.py, ~/x.sh, worker/*.rs, ghcr.io/worker/x",
        "a name such as package.json or compose.yml",
    ] {
        assert_eq!(missing(right), "", "{right}");
    }
    for wrong in ["ops/gone.md", "design.md", "src/crash.rs", "./tests/gone", ".config/gone.toml", "../lease.rs"] {
        assert_eq!(missing(&format!("see `{wrong}`.")), wrong);
    }
}
