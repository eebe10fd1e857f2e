//! The only module of the demo that prints. The URL and the answers go to stdout, all else to stderr; both are plain
//! text. On a terminal a count stands below all other lines, and is made anew in its place.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where lines can't move, the count is a line of its own, no more often than that.
const CALM: Duration = Duration::from_secs(2);

/// The count, as long as there is one, and when it was told last.
static COUNT: Mutex<Option<(String, Instant)>> = Mutex::new(None);

// A terminal that was closed, or a reader that went away, changes nothing about what remains to be done: such errors
// are ignored, where the standard macros would panic.

/// What is going on, before it happens.
pub(crate) fn message(text: &str) {
    line(&format!("demo: {text}"));
}

/// A line of a program that the demo runs.
pub(crate) fn line(text: &str) {
    let count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = match &*count {
        Some((below, _)) if lines_move() => write!(io::stderr(), "\r\x1b[K{text}\ndemo: {below}"),
        _ => writeln!(io::stderr(), "{text}"),
    };
}

/// What is counted at this moment.
pub(crate) fn count(text: &str) {
    let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    if lines_move() {
        let _ = write!(io::stderr(), "\r\x1b[Kdemo: {text}");
    } else if count.as_ref().is_some_and(|(_, told)| told.elapsed() < CALM) {
        return;
    } else {
        let _ = writeln!(io::stderr(), "demo: {text}");
    }
    *count = Some((text.to_owned(), Instant::now()));
}

/// Nothing is counted any more: the result follows.
pub(crate) fn end_count() {
    if COUNT.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() && lines_move() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

fn lines_move() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|terminal| terminal != "dumb")
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
