//! Failpoints: every place at which a test may kill a worker, by name. A program that is built with the feature
//! `crash-points`, which only tests use, kills itself at the point that its environment names; in any other build the
//! points do nothing. What must hold after each of them is checked in the tests.
//!
//! `SLIPWAY_CRASH_AT=commit-claim:after#2` kills the worker when it reaches that point for the second time;
//! `SLIPWAY_CRASH_TRACE=FILE` appends every point that is reached to a file, as `commit-claim:after#2`.

/// A transaction of the [store](crate::store), by what it writes. There is no commit without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionKind {
    /// A valid request becomes a deployment.
    Accept,
    /// A message that can't become a deployment becomes a dead letter.
    Refuse,
    /// One half of a request is kept, ends, or makes a deployment with the other one.
    Half,
    /// A deployment gets an attempt and its lease.
    Claim,
    /// Requests that wait for a server get one, or have waited in vain.
    Place,
    /// A worker gives back an attempt that it can't finish.
    Interrupt,
    /// An attempt whose lease expired is taken from its worker, which died.
    Reap,
    /// A stage's intent.
    StageStarted,
    /// A stage's outcome.
    StageFinished,
    /// A stage's failure.
    StageFailed,
    /// Progress within a stage, and what it leaves at GitHub when it fails.
    RecordProgress,
    /// Giving up on a server that can't be reached.
    GiveUp,
    /// The next attempt's time.
    Retry,
    /// The end and its result.
    Finish,
    /// The request of an operator or a producer to cancel.
    Cancel,
    /// What the broker has confirmed.
    MarkPublished,
    /// What the broker gave up.
    Ingest,
    /// Dead letters that are replayed.
    Replay,
    /// What an operator does to what is stored, and the record of it.
    Operate,
}

impl TransactionKind {
    const ALL: [Self; 19] = [
        Self::Accept,
        Self::Refuse,
        Self::Half,
        Self::Claim,
        Self::Place,
        Self::Interrupt,
        Self::Reap,
        Self::StageStarted,
        Self::StageFinished,
        Self::StageFailed,
        Self::RecordProgress,
        Self::GiveUp,
        Self::Retry,
        Self::Finish,
        Self::Cancel,
        Self::MarkPublished,
        Self::Ingest,
        Self::Replay,
        Self::Operate,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Refuse => "refuse",
            Self::Half => "half",
            Self::Claim => "claim",
            Self::Place => "place",
            Self::Interrupt => "interrupt",
            Self::Reap => "reap",
            Self::StageStarted => "stage-started",
            Self::StageFinished => "stage-finished",
            Self::StageFailed => "stage-failed",
            Self::RecordProgress => "tell",
            Self::GiveUp => "give-up",
            Self::Retry => "retry",
            Self::Finish => "finish",
            Self::Cancel => "cancel",
            Self::MarkPublished => "mark-published",
            Self::Ingest => "ingest",
            Self::Replay => "replay",
            Self::Operate => "operate",
        }
    }
}

/// A step of the worker that has a point before and one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failpoint {
    /// A transaction's commit.
    Commit(TransactionKind),
    /// The acknowledgement of a request.
    Ack,
    /// The acknowledgement of a message from the dead-letter exchange.
    AckDeadLetter,
    /// A stage's work on the server.
    Stage,
    /// Handing a message to the broker.
    Publish,
    /// The broker's confirm.
    Confirm,
}

/// Before or after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailpointSide {
    /// Just before the step.
    Before,
    /// Just after the step, with nothing in between.
    After,
}

/// A place at which a worker can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CrashPoint(pub FailpointSide, pub Failpoint);

impl CrashPoint {
    /// Every point that there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let commits = TransactionKind::ALL.into_iter().map(Failpoint::Commit);
        let steps = commits.chain([
            Failpoint::Ack,
            Failpoint::AckDeadLetter,
            Failpoint::Stage,
            Failpoint::Publish,
            Failpoint::Confirm,
        ]);
        steps.flat_map(|step| [Self(FailpointSide::Before, step), Self(FailpointSide::After, step)])
    }
}

impl std::fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(side, step) = self;
        match step {
            Failpoint::Commit(write) => write!(f, "commit-{}", write.as_str())?,
            Failpoint::Ack => f.write_str("ack")?,
            Failpoint::AckDeadLetter => f.write_str("ack-dead-letter")?,
            Failpoint::Stage => f.write_str("stage")?,
            Failpoint::Publish => f.write_str("publish")?,
            Failpoint::Confirm => f.write_str("confirm")?,
        }
        f.write_str(match side {
            FailpointSide::Before => ":before",
            FailpointSide::After => ":after",
        })
    }
}

/// Runs `work`, the step, between its two points.
pub(crate) async fn around<T>(step: Failpoint, work: impl Future<Output = T>) -> T {
    reach(CrashPoint(FailpointSide::Before, step));
    let outcome = work.await;
    reach(CrashPoint(FailpointSide::After, step));
    outcome
}

/// As [`around`], for one commit of many writes: it's the boundary of each of them.
pub(crate) async fn around_commit<T>(writes: &[TransactionKind], work: impl Future<Output = T>) -> T {
    let reach_all = |side| writes.iter().for_each(|write| reach(CrashPoint(side, Failpoint::Commit(*write))));
    reach_all(FailpointSide::Before);
    let outcome = work.await;
    reach_all(FailpointSide::After);
    outcome
}

/// Kills the worker if the environment names this point.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn reach(_: CrashPoint) {}

/// Kills the worker if the environment names this point.
#[cfg(feature = "crash-points")]
pub(crate) fn reach(point: CrashPoint) {
    armed::reach(point);
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::collections::HashMap;
    use std::env::var;
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::CrashPoint;

    struct Armed {
        at: Option<String>,
        trace: Option<String>,
        counts: Mutex<HashMap<CrashPoint, u32>>,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    pub(super) fn reach(point: CrashPoint) {
        let armed = ARMED.get_or_init(|| Armed {
            at: var("SLIPWAY_CRASH_AT").ok(),
            trace: var("SLIPWAY_CRASH_TRACE").ok(),
            counts: Mutex::default(),
        });
        if armed.at.is_none() && armed.trace.is_none() {
            return;
        }
        let mut counts = armed.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(point).or_default();
        *count += 1;
        let reached = format!("{point}#{count}");
        if let Some(path) = &armed.trace
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            let _ = writeln!(file, "{reached}");
        }
        if armed.at.as_ref() == Some(&reached) {
            // As abruptly as a power cut: no destructor, no flush, no signal handler.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
