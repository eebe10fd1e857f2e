//! A database that is away is asked again and again by everybody who needs it: that it fails is told once by each, and
//! once that it's over.

use crate::store::StoreError;

/// Whether the database fails, as one part of the worker sees it.
pub(crate) struct OutageLog {
    part: &'static str,
    failing: bool,
}

impl OutageLog {
    /// For the part of that name.
    pub(crate) fn of(part: &'static str) -> Self {
        Self { part, failing: false }
    }

    /// Takes note of the outcome of a call, and tells what is new of it.
    pub(crate) fn note(&mut self, outcome: Result<(), StoreError>) {
        let part = self.part;
        let failed_before = std::mem::replace(&mut self.failing, outcome.is_err());
        match outcome.map_err(|error| format!("{:#}", anyhow::Error::from(error))) {
            Err(error) if failed_before => tracing::debug!(part, error, "the database still fails"),
            Err(error) => tracing::error!(part, error, "the database fails; it's tried again until it doesn't"),
            Ok(()) if failed_before => tracing::info!(part, "the database is there again"),
            Ok(()) => {}
        }
    }
}
