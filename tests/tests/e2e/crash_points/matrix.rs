//! Which boundaries somebody dies at. Each scenario is played once without harm and traced; what it passed is what can
//! be died at. Passings of a boundary are equivalent when the same step came before them in the same part of the
//! engine: nothing else is carried from one transaction to the next but what the database holds. A claim after a retry
//! is another one than the first; the start of the third stage is like that of the fourth, since stages differ in what
//! they do on a server, and a model of one makes no difference. Of the common life, the first, the middle and the last
//! passing of each boundary are taken all the same; `./tests/soak` takes every passing of every scenario.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context as _, Result};

use crate::crash_points::scenario::Scenario;

/// Who passes a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The first worker.
    Worker,
    /// The command line.
    Cli,
}

/// The n-th passing of a boundary by one process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Passing {
    pub actor: Actor,
    pub point: String,
    pub number: u32,
}

impl Passing {
    /// Reads a trace's line.
    pub fn read(actor: Actor, line: &str) -> Result<Self> {
        let (point, number) = line.split_once('#').with_context(|| format!("no passing: {line}"))?;
        Ok(Self { actor, point: point.to_owned(), number: number.parse()? })
    }

    /// Whether a process that passed it once passes it each time. How much the relay sends at once and how often lines
    /// are told is a matter of time: only the first passing of those is certain.
    pub fn is_certain(&self) -> bool {
        self.number == 1 || !(self.part() == Part::Relay || self.point.starts_with("commit-tell"))
    }

    fn part(&self) -> Part {
        let step = self.point.split(':').next().unwrap_or_default();
        match step {
            "publish" | "confirm" | "commit-mark-published" => Part::Relay,
            "ack" | "commit-accept" | "commit-half" | "commit-refuse" | "commit-cancel" => Part::Intake,
            "ack-dead-letter" | "commit-ingest" => Part::Ingest,
            _ => Part::Runner,
        }
    }
}

impl fmt::Display for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.point, self.number)
    }
}

/// The parts of the engine that pass boundaries one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Intake,
    Ingest,
    Runner,
    Relay,
}

/// A scenario and where somebody dies in it.
pub struct CrashCase<'a> {
    pub scenario: &'a Scenario,
    pub at: Passing,
}

/// The cases that the traces call for: all of them when `every`, else one of each kind.
pub fn cases<'a>(traces: &[(&'a Scenario, Vec<Passing>)], every: bool) -> Vec<CrashCase<'a>> {
    let mut kinds = HashSet::new();
    let mut cases = Vec::new();
    for (index, (scenario, passed)) in traces.iter().enumerate() {
        for (place, at) in passed.iter().enumerate() {
            let same = |other: &&Passing| other.actor == at.actor && other.part() == at.part();
            let before = passed[..place].iter().rev().find(same).map(|before| before.point.clone());
            // What the command line does to a deployment depends on the scenario alone.
            let own = at.actor == Actor::Cli || scenario.own.contains(&at.point.as_str());
            let own = own.then_some(scenario.name);
            let new = kinds.insert((at.point.clone(), before, own));
            let mark = index == 0 && is_mark(at, passed);
            if every || new || mark {
                cases.push(CrashCase { scenario, at: at.clone() });
            }
        }
    }
    cases
}

/// Of the many passings of a boundary: the first, one in the middle, the last.
fn is_mark(at: &Passing, passed: &[Passing]) -> bool {
    let last = passed.iter().filter(|other| other.point == at.point).map(|other| other.number).max().unwrap_or(1);
    [1, last.div_ceil(2), last].contains(&at.number)
}
