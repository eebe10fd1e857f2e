//! A variable of the environment: its parser, its default, and what `--help` tells of it. All of them are in `variables`.

use super::parse::ParseError;

/// What applies when a variable is unset. An empty variable counts as unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// The configuration is incomplete without it.
    Required,
    /// The feature is off, or another variable replaces it.
    Optional,
    /// This value, which goes through the same parser.
    Default(&'static str),
    /// A value found at start, described in words.
    Derived(&'static str),
}

/// What a reader of `--help` learns about a variable.
#[derive(Debug, Clone, Copy)]
pub struct VariableDoc {
    /// The variable's name.
    pub name: &'static str,
    /// What applies when it's unset.
    pub unset: Unset,
    /// What the variable is for.
    pub about: &'static str,
    /// What the value must be, worded to follow "must be".
    pub expected: &'static str,
    /// Whether the value itself may hold a secret and is never repeated.
    pub secret: bool,
}

/// A variable and its parser.
#[derive(Debug, Clone, Copy)]
pub struct Variable<T> {
    /// Name, default and help text.
    pub entry: VariableDoc,
    pub(in crate::config) parse: fn(&str) -> Result<T, ParseError>,
}

impl<T> Variable<T> {
    /// Its default, parsed; `None` when it has none.
    pub(crate) fn default(&self) -> Option<T> {
        match self.entry.unset {
            Unset::Default(value) => (self.parse)(value).ok(),
            Unset::Required | Unset::Optional | Unset::Derived(_) => None,
        }
    }
}

/// Variables that belong together, under a heading of `--help`.
#[derive(Debug, Clone, Copy)]
pub struct VariableGroup {
    /// The heading in `--help`.
    pub title: &'static str,
    /// The variables, in reading order.
    pub entries: &'static [VariableDoc],
}
