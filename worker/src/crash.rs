//! Crash points: every boundary at which a worker may die, by name. A program that is built with the feature
//! `crash-points`, which only tests ask for, kills itself at the one that its environment names; in any other build
//! they are nothing. What must hold after each of them stands in the tests.
//!
//! `SLIPWAY_CRASH_AT=commit-claim:after#2` dies at the second passing of that point; `SLIPWAY_CRASH_TRACE=FILE` appends
//! every passing to a file, as `commit-claim:after#2`.

/// A transaction of the [store](crate::store), by what it writes. There is no commit without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionKind {
    /// A valid request.
    Accept,
    /// A refused one.
    Refuse,
    /// An attempt's lease.
    Claim,
    /// An attempt given back.
    Interrupt,
    /// An attempt taken back from a worker that died.
    Reap,
    /// A stage's intent.
    StageStarted,
    /// A stage's outcome.
    StageFinished,
    /// A stage's failure.
    StageFailed,
    /// Progress within a stage, and what it leaves at GitHub when it fails.
    Tell,
    /// The end of a wait for a server that can't be reached.
    GiveUp,
    /// The next attempt's time.
    Retry,
    /// The end and its result.
    Finish,
    /// An operator's or a producer's wish to stop.
    Cancel,
    /// What the broker has confirmed.
    MarkPublished,
    /// What the broker gave up.
    Ingest,
    /// Dead letters on their way back.
    Replay,
    /// Dead letters put aside, taken up again, noted or exported.
    DeadLetters,
}

impl TransactionKind {
    const ALL: [Self; 17] = [
        Self::Accept,
        Self::Refuse,
        Self::Claim,
        Self::Interrupt,
        Self::Reap,
        Self::StageStarted,
        Self::StageFinished,
        Self::StageFailed,
        Self::Tell,
        Self::GiveUp,
        Self::Retry,
        Self::Finish,
        Self::Cancel,
        Self::MarkPublished,
        Self::Ingest,
        Self::Replay,
        Self::DeadLetters,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Refuse => "refuse",
            Self::Claim => "claim",
            Self::Interrupt => "interrupt",
            Self::Reap => "reap",
            Self::StageStarted => "stage-started",
            Self::StageFinished => "stage-finished",
            Self::StageFailed => "stage-failed",
            Self::Tell => "tell",
            Self::GiveUp => "give-up",
            Self::Retry => "retry",
            Self::Finish => "finish",
            Self::Cancel => "cancel",
            Self::MarkPublished => "mark-published",
            Self::Ingest => "ingest",
            Self::Replay => "replay",
            Self::DeadLetters => "dead-letters",
        }
    }
}

/// What a worker passes over on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failpoint {
    /// A transaction's commit.
    Commit(TransactionKind),
    /// The acknowledgement of a request.
    Ack,
    /// The acknowledgement of what lay among the dead letters.
    AckDeadLetter,
    /// A stage's work on the server.
    Stage,
    /// Handing a message to the broker.
    Publish,
    /// The broker's confirm.
    Confirm,
}

/// Which side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailpointSide {
    /// It's about to be taken.
    Before,
    /// It was taken, and nothing else since.
    After,
}

/// A boundary.
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

/// Takes `step` with its two points around it.
pub async fn around<T>(step: Failpoint, work: impl Future<Output = T>) -> T {
    pass(CrashPoint(FailpointSide::Before, step));
    let outcome = work.await;
    pass(CrashPoint(FailpointSide::After, step));
    outcome
}

/// Passes a point, or dies at it.
#[cfg(not(feature = "crash-points"))]
pub fn pass(_: CrashPoint) {}

/// Passes a point, or dies at it.
#[cfg(feature = "crash-points")]
pub fn pass(point: CrashPoint) {
    armed::pass(point);
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
        passed: Mutex<HashMap<CrashPoint, u32>>,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    pub(super) fn pass(point: CrashPoint) {
        let armed = ARMED.get_or_init(|| Armed {
            at: var("SLIPWAY_CRASH_AT").ok(),
            trace: var("SLIPWAY_CRASH_TRACE").ok(),
            passed: Mutex::default(),
        });
        if armed.at.is_none() && armed.trace.is_none() {
            return;
        }
        let mut passed = armed.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = passed.entry(point).or_default();
        *count += 1;
        let passing = format!("{point}#{count}");
        if let Some(path) = &armed.trace
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            let _ = writeln!(file, "{passing}");
        }
        if armed.at.as_ref() == Some(&passing) {
            // As abruptly as a power cut: no destructor, no flush, no signal handler.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
