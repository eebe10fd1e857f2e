//! What is wrong with a routing file, each with its line.

use serde_saphyr::Location;

/// Something that is wrong with a routing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// From 1; 0 where it's about the whole file.
    pub(crate) line: u64,
    /// What is wrong, and what it has to be.
    pub(crate) text: String,
}

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, at: Location, text: impl Into<String>) {
        self.0.push(Mistake { line: at.line(), text: text.into() });
    }

    /// The value, or a mistake at its place.
    pub(super) fn take<T>(&mut self, at: Location, value: Result<T, String>) -> Option<T> {
        value.map_err(|text| self.add(at, text)).ok()
    }
}
