//! Events as lines that a person reads: when, about what, what happened.

use jiff::Timestamp;
use slipway_protocol::{Change, Failure, ProgressKind};

/// An event as a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventLine {
    /// A stage's name, or `attempt`, or empty.
    pub(crate) about: String,
    /// What happened.
    pub(crate) text: String,
}

/// The line of an event, or nothing for log lines, which have a form of their own.
pub(crate) fn of(kind: &ProgressKind) -> Option<EventLine> {
    let line = |about: &str, text: String| Some(EventLine { about: about.to_owned(), text });
    match kind {
        ProgressKind::Accepted => line("", "accepted".to_owned()),
        ProgressKind::AttemptStarted { attempt } => line("attempt", format!("{attempt} started")),
        ProgressKind::StageStarted { stage, .. } => line(stage.as_str(), "started".to_owned()),
        ProgressKind::StageRetrying { stage, failure, delay_ms, .. } => {
            line(stage.as_str(), format!("again in {}: {}", duration(*delay_ms), short(failure)))
        }
        ProgressKind::StageFinished { stage, change, duration_ms, .. } => {
            line(stage.as_str(), format!("{} in {}", change_word(*change), duration(*duration_ms)))
        }
        ProgressKind::Log { .. } => None,
        ProgressKind::AttemptScheduled { attempt, run_at, failure } => {
            line("attempt", format!("{attempt} scheduled for {}: {}", clock(*run_at), short(failure)))
        }
        ProgressKind::Interrupted { attempt } => line("attempt", format!("{attempt} interrupted; a worker takes over")),
    }
}

/// A failure in one line: code, place and message.
pub(crate) fn short(failure: &Failure) -> String {
    match failure.stage {
        Some(stage) => format!("{stage} failed: {}: {}", failure.code, failure.message),
        None => format!("{}: {}", failure.code, failure.message),
    }
}

/// The word for a change, as people read it.
pub(crate) fn change_word(change: Change) -> &'static str {
    match change {
        Change::Changed => "changed",
        Change::Unchanged => "unchanged",
    }
}

/// Milliseconds for people: `0.8 s`, `2 min 05 s`, `1 h 02 min`, `3 d 4 h`.
pub(crate) fn duration(ms: u64) -> String {
    let tenths = ms.saturating_add(50) / 100;
    let seconds = ms.saturating_add(500) / 1000;
    match seconds {
        _ if tenths < 600 => format!("{}.{} s", tenths / 10, tenths % 10),
        s if s < 3600 => format!("{} min {:02} s", s / 60, s % 60),
        s if s < 86_400 => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
        s => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// The time between two moments in milliseconds; 0 when they are in the wrong order, as clocks sometimes have it.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// A moment, to the second, in UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use slipway_protocol::{ErrorCode, Stage};

    #[test]
    fn durations_are_rounded_and_never_show_sixty_seconds() {
        let shown: Vec<String> =
            [0, 49, 949, 59_949, 59_950, 125_000, 3_599_600, 3_720_000, 273_600_000].map(duration).into();
        assert_eq!(
            shown,
            ["0.0 s", "0.0 s", "0.9 s", "59.9 s", "1 min 00 s", "2 min 05 s", "1 h 00 min", "1 h 02 min", "3 d 4 h"]
        );
    }

    #[test]
    fn a_clock_that_runs_backwards_gives_no_negative_time() {
        let early: Timestamp = "2026-11-20T09:30:00Z".parse().unwrap();
        let late: Timestamp = "2026-11-20T09:30:01Z".parse().unwrap();
        assert_eq!((between(early, late), between(late, early)), (1000, 0));
    }

    #[test]
    fn a_retry_says_when_and_why() {
        let failure = Failure::new(ErrorCode::RegistryUnavailable, Some(Stage::Compose), "502 from ghcr.io");
        let kind = ProgressKind::StageRetrying { stage: Stage::Compose, attempt: 1, failure, delay_ms: 1500 };
        let line = of(&kind).unwrap();
        assert_eq!(line.about, "compose");
        assert_eq!(line.text, "again in 1.5 s: compose failed: registry-unavailable: 502 from ghcr.io");
    }
}
