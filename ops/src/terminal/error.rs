//! What ends a command early: what happened and where, what to do next, and the exit code. Never a secret.

use std::process::ExitCode;

/// How a command ends; the numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandExit {
    /// Done; a watched deployment succeeded.
    Success = 0,
    /// A deployment failed or lacks a secret, or what was asked about is unfit.
    Failed = 1,
    /// The arguments or an input file are wrong.
    Usage = 2,
    /// A watched deployment was cancelled or superseded.
    Overtaken = 3,
    /// RabbitMQ or Postgres can't be asked.
    Unavailable = 4,
}

impl From<CommandExit> for ExitCode {
    fn from(exit: CommandExit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error for people.
#[derive(Debug)]
pub(crate) struct CliError {
    /// What happened and where, without a full stop.
    pub message: String,
    /// Lines that explain it, such as the end of a command's output.
    pub details: Vec<String>,
    /// What to do next, without a full stop.
    pub hint: Option<String>,
    pub exit: CommandExit,
}

impl CliError {
    pub(crate) fn new(exit: CommandExit, message: impl Into<String>) -> Self {
        Self { message: message.into(), details: Vec::new(), hint: None, exit }
    }

    /// Wrong arguments or input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(CommandExit::Usage, message)
    }

    #[must_use]
    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error with its sources in one line; no `Display` of ours repeats its source.
pub(crate) fn join_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        // Some libraries do repeat their source.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't connect")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_every_source_once() {
        let error = Outer(std::io::Error::other("refused"));
        assert_eq!(join_sources(&error), "can't connect: refused");
    }
}
