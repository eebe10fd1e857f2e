//! The only module of the demo that prints. The URL and the answer go to stdout, all else to stderr; both are plain
//! text.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

// A terminal that was closed, or a reader that went away, changes nothing about what remains to be done: such errors
// are ignored, where the standard macros would panic.

/// What is going on, before it happens.
pub(crate) fn message(text: &str) {
    let _ = writeln!(io::stderr(), "demo: {text}");
}

/// Lines to be copied into another terminal.
pub(crate) fn block(text: &str) {
    let _ = writeln!(io::stderr(), "\n{text}\n");
}

/// What the demo was run for.
pub(crate) fn data(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// What went wrong, and what to do next.
pub(crate) fn error(error: &anyhow::Error, hint: &str) {
    let _ = writeln!(io::stderr(), "error: {error:#}\n\nhint: {hint}");
}

/// How long each part took.
#[derive(Debug)]
pub(crate) struct Laps {
    parts: Vec<(String, Duration)>,
    since: Instant,
}

impl Laps {
    /// Starts to measure; `parts` are those that came before this program.
    pub(crate) fn new(parts: &[(String, Duration)]) -> Self {
        Self { parts: parts.to_vec(), since: Instant::now() }
    }

    /// The part that ends now.
    pub(crate) fn end(&mut self, part: &str) {
        self.parts.push((part.to_owned(), self.since.elapsed()));
        self.since = Instant::now();
    }

    /// Leaves out what was since the last part: somebody looked around.
    pub(crate) fn skip(&mut self) {
        self.since = Instant::now();
    }

    /// One line: all, and each part.
    pub(crate) fn text(&self) -> String {
        let all: Duration = self.parts.iter().map(|(_, took)| *took).sum();
        let mut text = format!("Finished all in {:.1} s", all.as_secs_f64());
        for (number, (part, took)) in self.parts.iter().enumerate() {
            let before = if number == 0 { ": " } else { ", " };
            let _ = write!(text, "{before}{part} {:.1} s", took.as_secs_f64());
        }
        text
    }
}
