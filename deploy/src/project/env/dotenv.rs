//! The `.env` format, as Docker Compose reads it: rendering any value so that it comes back unchanged, and parsing a
//! file that Slipway, a person or CI has left on the server. Which values belong in it is [`super::plan`]'s job, and what
//! it says about them in comments that of [`super::notes`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::expression::{Expressions, expand, in_order, references};

/// First line of every file that Slipway writes.
pub(super) const HEADER: &str =
    "# Written by Slipway. Values that you add or change here are kept at the next deployment.\n";

/// Renders variables, sorted by name. Every value is in double quotes, with `\`, `"`, `$` and line ends escaped:
/// the one form that comes back from compose unchanged for all values.
#[must_use]
pub fn render(variables: &BTreeMap<String, String>) -> String {
    render_with(variables, &Expressions::new())
}

/// Renders variables, of which some are written as expressions: behind the others, each after what it refers to.
#[must_use]
pub fn render_with(variables: &BTreeMap<String, String>, expressions: &Expressions) -> String {
    let mut text = HEADER.to_owned();
    for (name, value) in variables.iter().filter(|(name, _)| !expressions.contains_key(*name)) {
        let _ = writeln!(text, "{name}=\"{}\"", escaped(value));
    }
    for (name, expression) in in_order(expressions).into_iter().filter(|(name, _)| variables.contains_key(*name)) {
        let _ = writeln!(text, "{name}=\"{}\"", escaped_expression(expression));
    }
    text
}

pub(super) fn escaped(value: &str) -> String {
    escaped_expression(&value.replace('$', "$$")).replace("$$", "\\$")
}

/// An expression within double quotes.
pub(super) fn escaped_expression(expression: &str) -> String {
    let mut text = String::with_capacity(expression.len() + 8);
    for c in expression.chars() {
        match c {
            '\\' | '"' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            c => text.push(c),
        }
    }
    text
}

/// Parses a file; what refers to other variables comes to what compose makes of it. Lines that make no sense to compose
/// either are skipped: they are lost on the next write.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, String> {
    parse_among(text, &BTreeMap::new())
}

/// As [`parse`], of a text that may refer to these variables as well.
pub(super) fn parse_among(text: &str, others: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::<String, String>::new();
    for (name, expression) in entries(text) {
        let value = expand(&expression, &|name| variables.get(name).or_else(|| others.get(name)).cloned());
        // What compose refuses is no expression.
        variables.insert(name, value.unwrap_or_else(|| expression.replace("$$", "$")));
    }
    variables
}

/// The values of a file that refer to other variables, as they are written. One that adds to itself isn't among them: each
/// deployment would add to it again.
#[must_use]
pub fn expressions(text: &str) -> Expressions {
    expressions_among(text, &BTreeMap::new())
}

/// As [`expressions`], of a text that may refer to these variables as well.
pub(super) fn expressions_among(text: &str, others: &BTreeMap<String, String>) -> Expressions {
    let known = parse_among(text, others);
    let value_of = |name: &str| known.get(name).or_else(|| others.get(name)).cloned();
    let refers = |name: &str, text: &str| {
        let names = references(text);
        !names.is_empty() && !names.contains(name) && expand(text, &value_of).is_some()
    };
    let last: Expressions = entries(text).into_iter().collect();
    last.into_iter().filter(|(name, text)| refers(name, text)).collect()
}

/// Names with their expressions, in the file's order.
fn entries(text: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    // Some editors begin a file with a byte order mark.
    let mut rest = text.trim_start_matches('\u{feff}');
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let entry = line.trim_start();
        let exported = entry.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        let entry = exported.unwrap_or(entry).trim_start();
        let assignment = entry.split_once(['=', ':']).map(|(name, value)| (name.trim(), value.trim_start()));
        let Some((name, value)) = assignment.filter(|(name, _)| is_name(name)) else {
            rest = after;
            continue;
        };
        let from = line.len() - value.len();
        let (value, used) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&rest[from + 1..], quote),
            _ => (unquoted(value), value.len()),
        };
        entries.push((name.to_owned(), value));
        let end = (from + used).min(rest.len());
        rest = rest[end..].split_once('\n').map_or("", |(_, after)| after);
    }
    entries
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']'))
}

/// An unquoted value ends at a comment.
fn unquoted(value: &str) -> String {
    let end = value.find(" #").unwrap_or(value.len());
    value[..end].trim_end().to_owned()
}

/// A quoted value as an expression, which may span lines, and how much of `text` (after the opening quote) it takes, both
/// quotes counted.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return (value, at + 2);
        }
        if c != '\\' {
            value.push(c);
            // Nothing expands between single quotes.
            value.extend((quote == '\'' && c == '$').then_some(c));
            continue;
        }
        match chars.next() {
            Some((_, 'n')) if quote == '"' => value.push('\n'),
            Some((_, 'r')) if quote == '"' => value.push('\r'),
            Some((_, 't')) if quote == '"' => value.push('\t'),
            Some((_, '$')) if quote == '"' => value.push_str("$$"),
            Some((_, c @ ('\\' | '"'))) if quote == '"' => value.push(c),
            Some((_, '$')) => value.push_str("\\$$"),
            Some((_, '\'')) if quote == '\'' => value.push('\''),
            Some((_, c)) => value.extend(['\\', c]),
            None => value.push('\\'),
        }
    }
    (value, text.len() + 1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_rendered_is_parsed_unchanged(
            variables in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,12}", "[^\\x00]{0,60}", 0..12)
        ) {
            prop_assert_eq!(&parse(&render(&variables)), &variables);
        }

        #[test]
        fn no_file_makes_the_parser_panic(text in "\\PC{0,80}|([A-Z]=['\"\\\\$# a\\n]{0,12}\\n?){0,6}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn fuzzed_env_files_are_rendered_as_they_were_read() {
        let by_hand = b"# c\nA=1\nexport B = two # x\nC='\\ $x'\nD=\"a\\\"b\\n\"\nE=\nF=\"two\nlines\"\n";
        let ours = render(&[("POSTGRES_PASSWORD".to_owned(), "p$a'ss\\\"\r\n".to_owned())].into());
        slipway_protocol::fuzz::run("env files", &[by_hand, ours.as_bytes()], |input| {
            let text = String::from_utf8_lossy(input);
            let variables = parse(&text);
            assert_eq!(parse(&render(&variables)), variables);
            let notes = super::super::notes::EnvNotes::read(&text);
            let _ = notes.render_with(&variables);
        });
    }

    #[test]
    fn a_file_by_hand_is_understood() {
        let text = "# comment\n\nA=1\nexport B = two words # comment\nC='single \\ $x'\nD=\"a\\\"b\\n\" # x\nE=\nbad line\nF=\"two\nlines\"\nG=x";
        let read = parse(text);
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "single \\ $x"),
            ("D", "a\"b\n"),
            ("E", ""),
            ("F", "two\nlines"),
            ("G", "x"),
        ];
        assert_eq!(read, expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    }

    #[test]
    fn a_file_by_hand_is_read_as_compose_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("compose.yml"), "services: {a: {image: x, env_file: .env}}").expect("a file");
        for text in [
            "\u{feff}A=1\nB=2\n",
            "export A=1\nexport\tB=2\nexport  C=3\nexportD=4\nexport=5",
            "A: yaml\nB: 'q'\nC=d:e\nF: g=h\nI:j\n",
            "A='it\\'s' # c\nB='a\\\\'\nC='\\n\\$x'\nD=\"it\\'s\"",
            "A=1\r\nB=\"two\"\r\nC='x'\r\n\r\n# c\r\nD='m\r\nn'\r\n",
            "A[0]=1\nÄ=2\n1B=3\nC.D-E=4",
            "A=x=y\nB=\"  pad  \"\nC=  pad\nD=p@ss\"word\nE=it's",
        ] {
            std::fs::write(folder.path().join(".env"), text).expect("a file");
            let model = crate::project::compose_program::run(folder.path(), &["config", "--format", "json"]);
            let model: serde_json::Value = serde_json::from_slice(&model).expect("a model");
            let seen = model["services"]["a"]["environment"].as_object().expect("variables");
            let seen =
                seen.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or("-").replace("$$", "$")));
            assert_eq!(parse(text), seen.collect(), "{text:?}");
        }
    }
}
