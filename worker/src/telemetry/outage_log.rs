//! Logs an outage of the database once when it begins and once when it ends, for each part of the worker, however often
//! that part tries again meanwhile.

/// The state of the database as one part of the worker sees it.
pub(crate) struct OutageLog {
    part: &'static str,
    failing: bool,
}

impl OutageLog {
    /// For the part of that name.
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, failing: false }
    }

    /// Records the outcome of a call, and logs when an outage begins or ends.
    pub(crate) fn record<E: Into<anyhow::Error>>(&mut self, outcome: Result<(), E>) {
        let part = self.part;
        let failed_before = std::mem::replace(&mut self.failing, outcome.is_err());
        match outcome.map_err(|error| format!("{:#}", error.into())) {
            Err(error) if failed_before => tracing::debug!(part, error, "the database still fails"),
            Err(error) => tracing::error!(part, error, "the database fails; it's tried again until it doesn't"),
            Ok(()) if failed_before => tracing::info!(part, "the database is there again"),
            Ok(()) => {}
        }
    }
}
