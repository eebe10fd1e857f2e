//! What `.env` says about its own variables, in comments of the file itself: so that it's written, restored and lost
//! together with them. What follows from it is decided in [`super::kept`] and [`super::plan`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use super::dotenv::{
    HEADER, escaped, escaped_expression, expressions, expressions_among, parse, parse_among, render_with,
};
use super::expression::Expressions;

const LITERAL: &str = "# literal ";
const ABOUT_LITERALS: &str = "# From env.contract.yaml, as Slipway wrote it. A variable above that still has this value follows later commits.\n";
/// Before the name of what was drawn at random: an undeployment keeps it as long as there are volumes.
const DRAWN: &str = "# generated ";
const GIVEN: &str = "# given ";
const COVERED: &str = "# before ";
/// In every file whose notes tell all that requests have given, even where that's nothing.
const ABOUT_GIVEN: &str = "# From a request, with a digest. A variable above that still has this value goes, or is again what it was before, once a request leaves it out.\n";

/// The notes in an `.env`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvNotes {
    /// What was written because the project's contract says so, as it was written.
    pub literals: BTreeMap<String, String>,
    /// What the contract wants generated.
    pub drawn: BTreeSet<String>,
    /// What came from a request, each with its value's digest: somebody may have changed it by hand since.
    pub given: BTreeMap<String, String>,
    /// What a given value has covered: a value by hand, or one that was drawn.
    pub covered: BTreeMap<String, String>,
    /// What of that was written with references to other variables, as it was written.
    pub covered_expressions: Expressions,
    /// What somebody has written with references to other variables, as it was written.
    pub expressions: Expressions,
    /// Whether the file is of a Slipway that didn't note what requests gave.
    pub of_unknown_origin: bool,
}

impl EnvNotes {
    /// Reads the notes of a file.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let lines = |prefix: &'static str| text.lines().filter_map(move |line| line.strip_prefix(prefix));
        let given = lines(GIVEN).filter_map(|note| note.split_once(' '));
        let (known, covered) = (parse(text), lines(COVERED).collect::<Vec<_>>().join("\n"));
        Self {
            literals: lines(LITERAL).flat_map(parse).collect(),
            drawn: lines(DRAWN).map(str::to_owned).collect(),
            given: given.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect(),
            covered: parse_among(&covered, &known),
            covered_expressions: expressions_among(&covered, &known),
            expressions: expressions(text),
            of_unknown_origin: text.lines().any(|line| line == HEADER.trim_end()) && !text.lines().any(tells_given),
        }
    }

    /// The file with these variables and notes.
    #[must_use]
    pub fn render_with(&self, variables: &BTreeMap<String, String>) -> String {
        let mut text = render_with(variables, &self.expressions);
        for name in &self.drawn {
            let _ = writeln!(text, "{DRAWN}{name}");
        }
        if !self.literals.is_empty() {
            text.push_str(ABOUT_LITERALS);
        }
        for (name, value) in &self.literals {
            let _ = writeln!(text, "{LITERAL}{name}=\"{}\"", escaped(value));
        }
        text.push_str(ABOUT_GIVEN);
        for (name, digest) in &self.given {
            let _ = writeln!(text, "{GIVEN}{name} {digest}");
        }
        for (name, value) in &self.covered {
            let expression = self.covered_expressions.get(name).map(|text| escaped_expression(text));
            let _ = writeln!(text, "{COVERED}{name}=\"{}\"", expression.unwrap_or_else(|| escaped(value)));
        }
        text
    }

    /// Whether `value` is what a request gave, unchanged since.
    pub(super) fn is_given(&self, name: &str, value: &str) -> bool {
        self.given.get(name).is_some_and(|noted| *noted == digest_of(value))
    }
}

/// Whether a line shows that a file tells what requests gave: somebody may have tidied its comments.
fn tells_given(line: &str) -> bool {
    line == ABOUT_GIVEN.trim_end() || line.starts_with(GIVEN) || line.starts_with(COVERED)
}

/// Short: it only has to tell a value from another one that somebody writes in its place.
pub(super) fn digest_of(value: &str) -> String {
    HEXLOWER.encode(&digest(&SHA256, value.as_bytes()).as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::super::dotenv::render;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn notes_come_back_and_change_no_variable(
            variables in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,12}", "[^\\x00]{0,60}", 0..12)
        ) {
            let given = variables.iter().map(|(name, value)| (name.clone(), digest_of(value))).collect();
            let notes = EnvNotes {
                literals: variables.clone(),
                drawn: variables.keys().cloned().collect(),
                given,
                covered: variables.clone(),
                covered_expressions: Expressions::new(),
                expressions: Expressions::new(),
                of_unknown_origin: false,
            };
            let text = notes.render_with(&variables);
            prop_assert_eq!(&parse(&text), &variables);
            prop_assert_eq!(&EnvNotes::read(&text), &notes);
            prop_assert!(variables.iter().all(|(name, value)| notes.is_given(name, value)));
        }
    }

    #[test]
    fn a_file_of_a_slipway_without_notes_is_told_from_one_by_hand() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert!(EnvNotes::read(&render(&variables)).of_unknown_origin);
        assert!(!EnvNotes::read("A=1\n").of_unknown_origin);
        assert!(!EnvNotes::read(&EnvNotes::default().render_with(&variables)).of_unknown_origin);
        // Also after an editor of another system, or a line on top.
        for by_hand in [|text: String| text.replace('\n', "\r\n"), |text: String| format!("# mine\n{text}")] {
            let notes = EnvNotes { given: variables.clone(), covered: variables.clone(), ..EnvNotes::default() };
            assert!(EnvNotes::read(&by_hand(render(&variables))).of_unknown_origin);
            assert_eq!(EnvNotes::read(&by_hand(notes.render_with(&variables))), notes);
        }
        let quoting = render(&BTreeMap::from([("A".to_owned(), ABOUT_GIVEN.trim_end().to_owned())]));
        assert!(EnvNotes::read(&quoting).of_unknown_origin, "a value that quotes it");
    }
}
