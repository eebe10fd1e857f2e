//! Which commit answers: what a health page says about it, if anything. No I/O.
//!
//! Recognised are a JSON object's `commit`, `commit_sha`, `git_commit` and `git_sha` with at least seven hex digits, its
//! `revision`, `sha` and `version` if that's a full commit, and a page that is nothing but a full commit. A commit
//! somewhere within other text, and the beginning of one as `revision` or `sha`, can prove that it's the right one, but
//! never that it's the wrong one: such a page may name commits of other things, and a migration has a revision as well.

use serde_json::Value;
use slipway_protocol::names::CommitSha;

/// Keys that mean a commit, and how many digits of one say which.
const KEYS: [(&str, usize); 7] = [
    ("commit", 7),
    ("commit_sha", 7),
    ("git_commit", 7),
    ("git_sha", 7),
    ("revision", FULL),
    ("sha", FULL),
    // A version of fewer digits is a version's own number more likely than a commit.
    ("version", FULL),
];
/// Keys whose value may be the beginning of a commit, or something else.
const PERHAPS: [&str; 2] = ["revision", "sha"];
const FULL: usize = 40;

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
    let is_same = |named: &str| commit.as_str().starts_with(named);
    match find_named(&text) {
        Some(named) if is_same(&named) => ServedCommit::Same,
        Some(named) => ServedCommit::Other(named),
        None if text.contains(commit.as_str()) => ServedCommit::Same,
        None if PERHAPS.iter().any(|key| value(&text, key, 7).is_some_and(|named| is_same(&named))) => {
            ServedCommit::Same
        }
        None => ServedCommit::Unknown,
    }
}

/// The commit that `body` names, in full or its beginning.
pub(super) fn find_commit(body: &[u8]) -> Option<String> {
    find_named(&String::from_utf8_lossy(body).to_ascii_lowercase())
}

fn find_named(text: &str) -> Option<String> {
    if is_hex(text.trim(), FULL) {
        return Some(text.trim().to_owned());
    }
    KEYS.iter().find_map(|(key, least)| value(text, key, *least))
}

/// What a JSON object has under `key`, if that's at least so many digits of a commit.
fn value(text: &str, key: &str, least: usize) -> Option<String> {
    let page: Value = serde_json::from_str(text).ok()?;
    page.get(key).and_then(Value::as_str).filter(|value| is_hex(value, least)).map(str::to_owned)
}

fn is_hex(text: &str, least: usize) -> bool {
    (least..=FULL).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
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
            (format!(r#"{{"revision":"{other}"}}"#), wrong(other)),
            // A migration's revision, and other things that look like one.
            (r#"{"status":"ok","revision":"ae1027a6acf4"}"#.to_owned(), ServedCommit::Unknown),
            (r#"{"status":"ok","sha":"fedcba9"}"#.to_owned(), ServedCommit::Unknown),
            (format!(r#"{{"revision":"ae1027a6acf4","commit":"{commit}"}}"#), ServedCommit::Same),
            (r#"{"revision":"ae1027a6acf4","version":"20240101"}"#.to_owned(), ServedCommit::Unknown),
            (format!(r#"{{"revision":"0123456","version":"{other}"}}"#), wrong(other)),
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
            let other = matches!(&version, ServedCommit::Other(_));
            assert_eq!(is_another(&page, &commit), other, "the server's script reads it differently: {page}");
        }
    }

    /// Whether the script that asks a new release from inside its network takes a page for another commit's.
    fn is_another(page: &str, commit: &CommitSha) -> bool {
        use std::io::{BufRead as _, Write as _};

        let script = include_str!("../scripts/next_release.sh");
        let function = script.split_once("\nis_another() {").expect("the function").1;
        let function = function.split_once("\n}\n").expect("its end").0;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let text = format!(
            "address=127.0.0.1\nis_another() {{{function}\n}}\nexpected={commit}\nis_another {port} host 1 - /health"
        );
        let mut asking = std::process::Command::new("sh").args(["-c", &text]).spawn().expect("a shell");
        let (mut stream, _) = listener.accept().expect("a connection");
        // To its end: an answer before that is lost with the connection.
        let lines = std::io::BufReader::new(&stream).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        assert_eq!(head[0], "GET /health HTTP/1.0");
        write!(stream, "HTTP/1.0 200 OK\r\n\r\n{page}").expect("an answer");
        drop(stream);
        asking.wait().expect("an end").success()
    }
}
