//! Waiting for real conditions, with a deadline and the log's tail when it passes. No fixed sleeps anywhere else.

use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a service or a server may take to come up on a busy machine of two cores.
pub(super) const START: Duration = Duration::from_secs(60);
/// How long a killed process may take to be gone.
pub(super) const GONE: Duration = Duration::from_secs(10);

/// How long a wait rests at least between two looks.
const PAUSE: Duration = Duration::from_millis(15);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every wait of this process with an error, those that run and those to come: whoever waits lets go of what it
/// holds, and so the world is taken down in order. Gives whether that was so already.
pub fn interrupt() -> bool {
    INTERRUPTED.swap(true, Ordering::Relaxed)
}

/// Whether [`interrupt`] was called.
#[must_use]
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Whether [`interrupt`] was called, or is about to be: a Ctrl-C ends a program that was just started, and whoever waits
/// for that one may learn of it before the signal's own thread has run.
#[must_use]
pub fn was_interrupted() -> bool {
    const SOON: Duration = Duration::from_millis(500);
    eventually("an interruption", SOON, || if is_interrupted() { Ok(()) } else { bail!("none") }).is_ok()
}

/// Polls `check` until it is `Ok(true)`; an error of it ends the wait.
///
/// # Errors
/// That of `check`, or the deadline's, with the tail of `log`.
pub(super) fn until(what: &str, limit: Duration, log: &Path, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let begun = Instant::now();
        match check() {
            Ok(true) => return Ok(()),
            Ok(false) if is_interrupted() => bail!("{what}: interrupted"),
            Ok(false) if Instant::now() < deadline => rest(begun),
            Ok(false) => bail!("{what}: not within {limit:?}\n{}", tail(log)),
            Err(error) => return Err(error.context(format!("{what}\n{}", tail(log)))),
        }
    }
}

/// Polls `check` until it has no complaint, for what a test expects to become true soon.
///
/// # Errors
/// The last complaint, when `limit` passes.
pub fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let begun = Instant::now();
        match check() {
            Ok(()) => return Ok(()),
            Err(error) if is_interrupted() => return Err(error.context(format!("{what}: interrupted"))),
            Err(_) if Instant::now() < deadline => rest(begun),
            Err(error) => return Err(error.context(format!("{what}: not within {limit:?}"))),
        }
    }
}

/// A look may start programs, on a machine of two cores that others wait on too: three times as long as it took, but never
/// so long that what is awaited would be noticed late.
fn rest(begun: Instant) {
    thread::sleep((begun.elapsed() * 3).clamp(PAUSE, Duration::from_millis(500)));
}

/// Waits for the end of a program, however long it takes, and ends it when the wait is interrupted.
///
/// # Errors
/// When it can't be waited for, or the wait was interrupted.
pub fn ended(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if is_interrupted() {
            child.kill()?;
            child.wait()?;
            bail!("interrupted");
        }
        thread::sleep(PAUSE);
    }
}

/// The last lines of a log, with its name, for an error message.
pub(super) fn tail(log: &Path) -> String {
    const LINES: usize = 25;
    let Ok(text) = std::fs::read(log) else {
        return format!("(no log at {})", log.display());
    };
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("--- end of {} ---\n{last}", log.display())
}
