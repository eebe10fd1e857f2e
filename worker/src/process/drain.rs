//! The drain: the signals that begin it, its deadline, and the exit codes. What is drained is decided in `engine`.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::backoff::RetryPolicy;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Exit codes, after sysexits.h where it has one. There is none for an absent database or broker: the worker waits.
pub mod exit {
    /// A second signal came during the drain; work was dropped, and leases will expire.
    pub const ABORTED: u8 = 1;
    /// The configuration or the command line is wrong; a restart won't help.
    pub const USAGE: u8 = 64;
    /// The worker itself failed; a restart may help.
    pub const INTERNAL: u8 = 70;
}

/// The decision to stop, shared by all parts of the worker. A drain that has begun can't be undone.
#[derive(Debug, Clone)]
pub struct Drain {
    timeout: Duration,
    token: CancellationToken,
    created_at: Timestamp,
    began: Arc<OnceLock<(Timestamp, Instant)>>,
}

impl Drain {
    /// A drain that gives running work `timeout` to end.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, token: CancellationToken::new(), created_at: Timestamp::now(), began: Arc::default() }
    }

    /// Begins to drain; later calls change nothing.
    pub fn begin(&self) {
        self.began.get_or_init(|| (Timestamp::now(), Instant::now() + self.timeout));
        self.token.cancel();
    }

    /// Cancelled when the drain begins: take nothing new from then on.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// When running work has to be at a boundary; `None` until the drain begins.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.began.get().map(|(_, deadline)| *deadline)
    }

    /// When it began, by this machine's clock; `None` before.
    #[must_use]
    pub fn began_at(&self) -> Option<Timestamp> {
        self.began.get().map(|(began, _)| *began)
    }

    /// When the worker started.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Waits for the drain to begin, and then until `grace` after its deadline: work that still runs by then is stuck.
    pub async fn overdue(&self, grace: Duration) {
        self.token.cancelled().await;
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        tokio::time::sleep_until(deadline + grace).await;
    }
}

/// Begins the drain at the first SIGTERM or SIGINT and exits with [`exit::ABORTED`] at the second.
///
/// Runs on a thread and an event loop of its own, so that the second signal works however stuck the others are.
///
/// # Errors
/// When the handlers can't be installed.
pub fn drain_on_signals(drain: Drain) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let name = next_signal(&mut signals).await;
            info!(signal = name, timeout_ms = millis(drain.timeout), "draining; a second signal exits at once");
            drain.begin();
            let name = next_signal(&mut signals).await;
            error!(signal = name, "second signal: exiting without a drain; leases of running deployments will expire");
            std::process::exit(i32::from(exit::ABORTED));
        });
    })?;
    Ok(())
}

/// A `u64` for log fields: a `u128` would be logged as text.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn next_signal((terminate, interrupt): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Tries `connect` until it succeeds, with a log line for each failure, or gives `None` when the drain begins.
///
/// `what` is the thing waited for, such as `database`; the error's chain must be free of secrets.
pub async fn wait_for<T, E, F>(
    what: &str,
    policy: RetryPolicy,
    drain: &Drain,
    mut connect: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, E>>,
    E: Into<anyhow::Error>,
{
    for tried in 1_u32.. {
        let outcome = tokio::select! {
            outcome = connect() => outcome,
            () = drain.token().cancelled() => return None,
        };
        let error: anyhow::Error = match outcome {
            Ok(connected) => return Some(connected),
            Err(error) => error.into(),
        };
        let delay = policy.delay(tried).unwrap_or(policy.max);
        let retry_in_ms = millis(delay);
        warn!(dependency = what, tries = tried, retry_in_ms, error = format!("{error:#}"), "waiting for the {what}");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = drain.token().cancelled() => return None,
        }
    }
    None
}

/// As [`wait_for`], but a drain doesn't interrupt the first try: most often that succeeds at once.
pub async fn do_or_wait_for<T, E, F>(
    what: &str,
    policy: RetryPolicy,
    drain: &Drain,
    mut work: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, E>>,
    E: Into<anyhow::Error>,
{
    match work().await {
        Ok(done) => Some(done),
        Err(_) => wait_for(what, policy, drain, work).await,
    }
}
