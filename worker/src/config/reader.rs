//! Takes variables out of the environment and collects every mistake, so that all are reported at once.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::files::SecretFile;
use super::parse::ParseError;
use super::variables::{GROUPS, Unset, Variable, VariableDoc};

/// One mistake: the variable, and what is wrong with it. Never repeats a value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    /// The environment variable's name.
    pub variable: &'static str,
    /// What is wrong and what it should be, worded to follow the name.
    pub problem: String,
}

/// Every mistake of a configuration, in the order of `--help`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigMistakes(pub Vec<ConfigMistake>);

impl std::fmt::Display for ConfigMistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let noun = if self.0.len() == 1 { "mistake" } else { "mistakes" };
        writeln!(f, "{} {noun} in the configuration\n", self.0.len())?;
        for ConfigMistake { variable, problem } in &self.0 {
            writeln!(f, "  {variable} {problem}")?;
        }
        write!(f, "\nhint: `slipway-worker --help` describes every variable")
    }
}

/// Reads variables by their table entries.
pub(super) struct VariableReader {
    values: BTreeMap<String, OsString>,
    mistakes: Vec<ConfigMistake>,
    /// What an operator should know though it's no mistake.
    pub(super) warnings: Vec<String>,
}

impl VariableReader {
    pub(super) fn new(values: BTreeMap<String, OsString>) -> Self {
        let mut reader = Self { values, mistakes: Vec::new(), warnings: Vec::new() };
        reader.warnings = reader.misspelt();
        reader
    }

    /// The value, its default, or `None` when it's unset or mistaken.
    pub(super) fn take<T>(&mut self, variable: &Variable<T>) -> Option<T> {
        let entry = &variable.entry;
        let Some(raw) = self.values.get(entry.name).filter(|raw| !raw.is_empty()) else {
            return self.unset(variable);
        };
        let parsed = raw.to_str().ok_or(ParseError::Because("isn't UTF-8".into())).and_then(variable.parse);
        match parsed {
            Ok(value) => Some(value),
            Err(fault) => {
                let problem = describe(entry, raw.to_str().unwrap_or_default(), fault);
                self.mistake(entry, problem);
                None
            }
        }
    }

    fn unset<T>(&mut self, variable: &Variable<T>) -> Option<T> {
        match variable.entry.unset {
            Unset::Default(default) => (variable.parse)(default).ok(),
            Unset::Optional | Unset::Derived(_) => None,
            Unset::Required => {
                self.mistake(&variable.entry, format!("is missing; set it to {}", variable.entry.expected));
                None
            }
        }
    }

    /// A secret from a file; its warning joins the others.
    pub(super) fn secret(&mut self, variable: &Variable<SecretFile>) -> Option<secrecy::SecretString> {
        let SecretFile { content, warning } = self.take(variable)?;
        self.warnings.extend(warning.map(|warning| format!("{}: {warning}", variable.entry.name)));
        Some(content)
    }

    /// The path as it's given, for what is read again later.
    pub(super) fn path<T>(&self, variable: &Variable<T>) -> Option<std::path::PathBuf> {
        self.values.get(variable.entry.name).filter(|raw| !raw.is_empty()).map(Into::into)
    }

    pub(super) fn is_set<T>(&self, variable: &Variable<T>) -> bool {
        self.values.get(variable.entry.name).is_some_and(|raw| !raw.is_empty())
    }

    pub(super) fn mistake(&mut self, entry: &VariableDoc, problem: String) {
        self.mistakes.push(ConfigMistake { variable: entry.name, problem });
    }

    /// All mistakes, sorted as in the table.
    pub(super) fn mistakes(mut self) -> ConfigMistakes {
        let order: Vec<&str> = GROUPS.iter().flat_map(|group| group.entries).map(|entry| entry.name).collect();
        self.mistakes.sort_by_key(|mistake| order.iter().position(|name| *name == mistake.variable));
        ConfigMistakes(self.mistakes)
    }

    /// Only near misses: Kubernetes itself sets `SLIPWAY_…_SERVICE_HOST` and the like in every container.
    fn misspelt(&self) -> Vec<String> {
        let known = || GROUPS.iter().flat_map(|group| group.entries).map(|entry| entry.name);
        let unknown = self.values.keys().filter(|name| name.starts_with("SLIPWAY_") && known().all(|k| k != **name));
        unknown
            .filter_map(|name| known().find(|k| distance(name, k) <= 2).map(|k| (name, k)))
            .map(|(name, near)| format!("{name} is ignored: no such variable; did you mean {near}?"))
            .collect()
    }
}

fn describe(entry: &VariableDoc, value: &str, fault: ParseError) -> String {
    // '@' may follow a password, and what is long or has control characters may be a key.
    let shown = !entry.secret && value.len() <= 80 && !value.contains('@') && !value.chars().any(char::is_control);
    match fault {
        ParseError::Because(problem) => format!("{problem}; it must be {}", entry.expected),
        ParseError::Unexpected if shown => format!("is {value:?}, but must be {}", entry.expected),
        ParseError::Unexpected => format!("isn't valid (its value isn't repeated here); it must be {}", entry.expected),
    }
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
