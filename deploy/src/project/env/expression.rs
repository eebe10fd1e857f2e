//! References to other variables within the values of an `.env`, as Docker Compose expands them. No I/O.
//!
//! An expression is a value's text with its quotes and escapes resolved, in which `$$` stands for a dollar sign, and
//! `$NAME`, `${NAME}` and the forms with a default, an alternative or a complaint for something else.

use std::collections::{BTreeMap, BTreeSet};

/// Names, each with the expression that somebody has written for it.
pub type Expressions = BTreeMap<String, String>;

/// What the expression comes to, where `value_of` gives the value of a name. `None`: compose refuses it.
pub(super) fn expand(text: &str, value_of: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let name = name_at(after);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let end = closing_brace(after)?;
            expanded.push_str(&substitute(&after[..end], value_of)?);
            rest = &after[end + 1..];
        } else if name.is_empty() {
            expanded.push('$');
            rest = after;
        } else {
            expanded.push_str(&value_of(name).unwrap_or_default());
            rest = &after[name.len()..];
        }
    }
    expanded.push_str(rest);
    Some(expanded)
}

/// The value of what stands between braces.
fn substitute(inner: &str, value_of: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let name = name_at(inner);
    let operator = &inner[name.len()..];
    let (sees_empty, operator) = operator.strip_prefix(':').map_or((false, operator), |operator| (true, operator));
    let value = value_of(name).filter(|value| !(sees_empty && value.is_empty()));
    let word = operator.get(1..).unwrap_or_default();
    match operator.chars().next() {
        _ if name.is_empty() => None,
        None if !sees_empty => Some(value.unwrap_or_default()),
        Some('-') => value.map_or_else(|| expand(word, value_of), Some),
        Some('+') => {
            if value.is_some() {
                expand(word, value_of)
            } else {
                Some(String::new())
            }
        }
        Some('?') => value,
        _ => None,
    }
}

/// Where the brace closes that was opened before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if text[..at].ends_with('$') => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn name_at(text: &str) -> &str {
    let is_part = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
    &text[..text.char_indices().take_while(|&part| is_part(part)).count()]
}

/// The names that an expression refers to; none: it's a value as it stands.
pub(super) fn references(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after.strip_prefix('$').unwrap_or(after);
        if rest.len() == after.len() {
            names.insert(name_at(after.strip_prefix('{').unwrap_or(after)));
        }
    }
    names.remove("");
    names
}

/// The expressions so that each follows those that it refers to, as compose wants to read them. Those that refer to each
/// other in a circle come last.
pub(super) fn in_order(expressions: &Expressions) -> Vec<(&String, &String)> {
    let mut waiting: Vec<_> = expressions.iter().collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let names: BTreeSet<&str> = waiting.iter().map(|(name, _)| name.as_str()).collect();
        let is_ready = |(_, text): &(&String, &String)| references(text).is_disjoint(&names);
        let (ready, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_ready);
        let stuck = ready.is_empty();
        ordered.extend(ready);
        waiting = later;
        if stuck {
            ordered.append(&mut waiting);
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_expression_comes_to_what_compose_makes_of_it() {
        let value_of = |name: &str| match name {
            "P" => Some("s3".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        };
        for (text, expanded) in [
            ("x-${P}-$P-$$P", Some("x-s3-s3-$P")),
            ("${N:-d}-${N-${P}}-${P:+alt}-${N+alt}-${P:-d}", Some("d-s3-alt--s3")),
            ("${E:-d}-${E-d}-${E:+alt}-${E+alt}", Some("d---alt")),
            ("${P:?must}${E?must}", Some("s3")),
            ("${N:?must}", None),
            ("${E:?must}", None),
            ("$N|${N}|", Some("||")),
            ("pa$1", Some("pa$1")),
            ("pa$", Some("pa$")),
            ("${P", None),
            ("${A.B}", None),
            ("${}", None),
            ("${P:}", None),
            ("äö$Pü", Some("äös3ü")),
        ] {
            assert_eq!(expand(text, &value_of).as_deref(), expanded, "{text}");
        }
        assert_eq!(references("a${P:-${Q}}$R-$$S-$1"), ["P", "Q", "R"].into());
    }

    #[test]
    fn an_expression_follows_what_it_refers_to_and_a_circle_ends() {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        let names = |pairs| in_order(&owned(pairs)).into_iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&[("A", "$C"), ("B", "$X"), ("C", "$B")]), ["B", "C", "A"]);
        assert_eq!(names(&[("A", "$B"), ("B", "$A"), ("C", "$A"), ("D", "$X")]), ["D", "A", "B", "C"]);
    }

    #[test]
    fn compose_reads_a_rewritten_file_as_it_read_the_one_by_hand() {
        use crate::project::env::{dotenv, notes::EnvNotes};
        let by_hand =
            "Z=s3\nA=\"x-${Z}-$Z-$$Z-\\$Z-${N:-d}\\n\"\nB=$A-${N-${Z}}-${Z:+alt}-${Z:?must} # c\nC='$Z'\nD=a$1$\n";
        let folder = tempfile::tempdir().expect("a folder");
        let resolved = |text: &str| {
            std::fs::write(folder.path().join(".env"), text).expect("a file");
            let compose = "services: {a: {image: x, env_file: .env}}";
            std::fs::write(folder.path().join("compose.yml"), compose).expect("a file");
            crate::project::compose_program::run(folder.path(), &["config", "--format", "json"])
        };
        let rewritten = EnvNotes::read(by_hand).render_with(&dotenv::parse(by_hand));
        let seen: serde_json::Value = serde_json::from_slice(&resolved(by_hand)).expect("a model");
        assert_eq!(seen["services"]["a"]["environment"]["B"], "x-s3-s3-$$Z-$$Z-d\n-s3-alt-s3");
        let again: serde_json::Value = serde_json::from_slice(&resolved(&rewritten)).expect("a model");
        assert_eq!(again["services"], seen["services"], "{rewritten}");
        let parsed: BTreeMap<String, String> = dotenv::parse(by_hand);
        for (name, value) in seen["services"]["a"]["environment"].as_object().expect("variables") {
            assert_eq!(value.as_str().map(|value| value.replace("$$", "$")), parsed.get(name).cloned(), "{name}");
        }
    }
}
