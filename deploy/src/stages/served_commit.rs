//! Which commit answers: what a health page says about it, if anything. No I/O.
//!
//! Recognised are a JSON object's `commit`, `commit_sha`, `git_commit`, `git_sha`, `revision` and `sha` with at least
//! seven hex digits, its `version` if that's a full commit, and a page that is nothing but a full commit. A commit
//! somewhere within other text can prove that it's the right one, but never that it's the wrong one: such a page may
//! name commits of other things.

use serde_json::Value;
use slipway_protocol::names::CommitSha;

const KEYS: [&str; 6] = ["commit", "commit_sha", "git_commit", "git_sha", "revision", "sha"];

/// What a page says about its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServedCommit {
    /// The expected commit.
    Same,
    /// Another commit, which it names.
    Other(String),
    /// It names none.
    Unknown,
}

/// What `body` says, where `commit` is expected.
pub(super) fn read_commit(body: &[u8], commit: &CommitSha) -> ServedCommit {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    let Some(named) = find_named(&text) else {
        return if text.contains(commit.as_str()) { ServedCommit::Same } else { ServedCommit::Unknown };
    };
    if commit.as_str().starts_with(&named) { ServedCommit::Same } else { ServedCommit::Other(named) }
}

/// The commit that `body` names, in full or its beginning.
pub(super) fn find_commit(body: &[u8]) -> Option<String> {
    find_named(&String::from_utf8_lossy(body).to_ascii_lowercase())
}

fn find_named(text: &str) -> Option<String> {
    if is_hex(text.trim(), 40) {
        return Some(text.trim().to_owned());
    }
    let Ok(Value::Object(page)) = serde_json::from_str(text) else { return None };
    let value = |key: &str, least| page.get(key).and_then(Value::as_str).filter(|value| is_hex(value, least));
    // A version of digits only is a version's own number more likely than a commit.
    let named = KEYS.iter().find_map(|key| value(key, 7)).or_else(|| value("version", 40));
    named.map(str::to_owned)
}

fn is_hex(text: &str, least: usize) -> bool {
    (least..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_page_that_names_its_commit_is_understood_and_any_other_says_nothing() {
        let commit = CommitSha::new("0123456789abcdef0123456789abcdef01234567").expect("a commit");
        let other = "fedcba9876543210fedcba9876543210fedcba98";
        let wrong = |text: &str| ServedCommit::Other(text.to_owned());
        let pages = [
            (r#"{"status":"ok","commit":"0123456789abcdef0123456789abcdef01234567"}"#.to_owned(), ServedCommit::Same),
            (r#"{"revision":"0123456"}"#.to_owned(), ServedCommit::Same),
            (r#"{"sha":"0123456789ABCDEF0123456789ABCDEF01234567"}"#.to_owned(), ServedCommit::Same),
            (r#"{"version":"0123456789abcdef0123456789abcdef01234567"}"#.to_owned(), ServedCommit::Same),
            (format!("{commit}\n"), ServedCommit::Same),
            (format!("<html>built from {commit}</html>"), ServedCommit::Same),
            (format!(r#"{{"commit":"{other}"}}"#), wrong(other)),
            (r#"{"commit":"fedcba9"}"#.to_owned(), wrong("fedcba9")),
            (format!("{other}\n"), wrong(other)),
            (format!(r#"{{"version":"{other}"}}"#), wrong(other)),
            (r#"{"status":"ok","version":"20240101"}"#.to_owned(), ServedCommit::Unknown),
            (r#"{"commit":"unknown","version":"1.4.2"}"#.to_owned(), ServedCommit::Unknown),
            (r#"{"commit":"012345"}"#.to_owned(), ServedCommit::Unknown),
            (format!("<html>with assets of {other}</html>"), ServedCommit::Unknown),
            (String::new(), ServedCommit::Unknown),
        ];
        for (page, version) in pages {
            assert_eq!(read_commit(page.as_bytes(), &commit), version, "{page}");
        }
    }
}
