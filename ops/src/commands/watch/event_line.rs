//! Events as lines that a person reads: when, about what, what happened.

use slipway_protocol::names::VariableName;
use slipway_protocol::{Change, Failure, ProgressKind};

use crate::terminal::format::{format_duration, format_time};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventLine {
    /// A stage's name, or `attempt`, or empty.
    pub(crate) about: String,
    pub(crate) text: String,
}

/// The line of an event, or nothing for log lines, which have a form of their own.
pub(crate) fn describe_event(kind: &ProgressKind) -> Option<EventLine> {
    let line = |about: &str, text: String| Some(EventLine { about: about.to_owned(), text });
    match kind {
        ProgressKind::Accepted { unbound_secrets } => line("", describe_accepted(unbound_secrets)),
        ProgressKind::AttemptStarted { attempt } => line("attempt", format!("{attempt} started")),
        ProgressKind::StageStarted { stage, .. } => line(stage.as_str(), "started".to_owned()),
        ProgressKind::StageRetrying { stage, failure, delay_ms, .. } => {
            line(stage.as_str(), format!("again in {}: {}", format_duration(*delay_ms), describe_failure(failure)))
        }
        ProgressKind::StageFinished { stage, change, duration_ms, .. } => {
            line(stage.as_str(), format!("{} in {}", describe_change(*change), format_duration(*duration_ms)))
        }
        ProgressKind::Log { .. } => None,
        ProgressKind::AttemptScheduled { attempt, run_at, failure } => {
            line("attempt", format!("{attempt} scheduled for {}: {}", format_time(*run_at), describe_failure(failure)))
        }
        ProgressKind::Interrupted { attempt } => line("attempt", format!("{attempt} interrupted; a worker takes over")),
    }
}

fn describe_accepted(unbound_secrets: &[VariableName]) -> String {
    let names: Vec<&str> = unbound_secrets.iter().map(VariableName::as_str).collect();
    match names.as_slice() {
        [] => "accepted".to_owned(),
        names => format!("accepted; secrets that aren't bound to the project: {}", names.join(", ")),
    }
}

/// A failure in one line: code, place and message.
pub(crate) fn describe_failure(failure: &Failure) -> String {
    match failure.stage {
        Some(stage) => format!("{stage} failed: {}: {}", failure.code, failure.message),
        None => format!("{}: {}", failure.code, failure.message),
    }
}

pub(crate) fn describe_change(change: Change) -> &'static str {
    match change {
        Change::Changed => "changed",
        Change::Unchanged => "unchanged",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use slipway_protocol::{ErrorCode, Stage};

    #[test]
    fn a_retry_says_when_and_why() {
        let failure = Failure::new(ErrorCode::RegistryUnavailable, Some(Stage::Compose), "502 from ghcr.io");
        let kind = ProgressKind::StageRetrying { stage: Stage::Compose, attempt: 1, failure, delay_ms: 1500 };
        let line = describe_event(&kind).unwrap();
        assert_eq!(line.about, "compose");
        assert_eq!(line.text, "again in 1.5 s: compose failed: registry-unavailable: 502 from ghcr.io");
    }
}
