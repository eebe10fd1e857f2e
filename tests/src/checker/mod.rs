//! Whether a history keeps the promises: every confirmed request in exactly one terminal state with exactly one result,
//! events in order without gaps, one attempt at a time on a project, nothing left behind. In the style of Jepsen's
//! checkers: it knows nothing of how the history came about, and says everything that is wrong with it.

mod effects;
mod history;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use slipway_protocol::DeploymentId;
use uuid::Uuid;

pub use history::{DeploymentRow, ObservedDeadLetter, ObservedEvent, RunHistory, SentRequest};
pub use violation::Violation;

/// What a history amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryVerdict {
    /// Messages that were published or tried to be.
    pub attempted: usize,
    /// Those that the broker confirmed.
    pub confirmed: usize,
    /// Deployments by their state.
    pub states: BTreeMap<String, usize>,
    /// Failures by their code.
    pub codes: BTreeMap<String, usize>,
    /// Events, each counted once.
    pub events: usize,
    /// Results among them.
    pub results: usize,
    /// Events that came again.
    pub duplicates: usize,
    /// Attempts that were interrupted.
    pub interruptions: usize,
    /// Stages that a server refused for their old fence.
    pub refused: usize,
    /// What is wrong.
    pub violations: Vec<Violation>,
}

impl HistoryVerdict {
    /// Passes a history without violations.
    ///
    /// # Errors
    /// The whole account, when there is any.
    pub fn pass(self) -> anyhow::Result<Self> {
        if self.violations.is_empty() { Ok(self) } else { Err(anyhow::anyhow!("{self}")) }
    }
}

impl fmt::Display for HistoryVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempted, confirmed, events, results, duplicates, interruptions, refused, .. } = self;
        let listed = |counts: &BTreeMap<String, usize>| {
            counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "requests    {attempted} attempted, {confirmed} confirmed")?;
        writeln!(f, "deployments {}", listed(&self.states))?;
        if !self.codes.is_empty() {
            writeln!(f, "failures    {}", listed(&self.codes))?;
        }
        writeln!(f, "events      {events}, {results} of them results; {duplicates} came again")?;
        writeln!(f, "attempts    {interruptions} interrupted, {refused} stages refused for an old fence")?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION   {violation}")?;
        }
        write!(f, "{}", if self.violations.is_empty() { "passed" } else { "FAILED" })
    }
}

/// Judges a history; failures with a code outside of `explained` count as unexplained.
#[must_use]
pub fn check(history: &RunHistory, explained: &[&str]) -> HistoryVerdict {
    let mut verdict = counted(history);
    let found = &mut verdict.violations;
    requests(history, found);
    ends(history, explained, found);
    order(history, found);
    letters(history, found);
    latest(history, found);
    found.extend(history.left.iter().cloned().map(Violation::Left));
    if let Some(log) = &history.effects {
        verdict.refused = effects::check(log, &history.deployments, found);
    }
    verdict
}

fn counted(history: &RunHistory) -> HistoryVerdict {
    let distinct: HashMap<&str, bool> = history.events.iter().map(|e| (e.id.as_str(), e.result)).collect();
    let mut verdict = HistoryVerdict {
        attempted: history.requests.len(),
        confirmed: history.requests.iter().filter(|request| request.confirmed).count(),
        events: distinct.len(),
        results: distinct.values().filter(|result| **result).count(),
        duplicates: history.events.len() - distinct.len(),
        ..HistoryVerdict::default()
    };
    for row in &history.deployments {
        *verdict.states.entry(row.state.clone()).or_default() += 1;
        verdict.interruptions += usize::try_from(row.interruptions).unwrap_or(0);
        if let Some(code) = row.code.as_ref().filter(|_| is_failure(&row.state)) {
            *verdict.codes.entry(code.clone()).or_default() += 1;
        }
    }
    verdict
}

fn is_failure(state: &str) -> bool {
    matches!(state, "failed" | "missing_secret")
}

/// Nothing confirmed is lost, and nothing is done that nobody asked for.
fn requests(history: &RunHistory, found: &mut Vec<Violation>) {
    let rows: HashSet<Uuid> = history.deployments.iter().map(|row| row.id).collect();
    let mut asked = HashSet::new();
    for request in &history.requests {
        match request.deployment {
            Some(DeploymentId(id)) => {
                asked.insert(id);
                if request.confirmed && !rows.contains(&id) {
                    found.push(Violation::Lost(id));
                }
            }
            None if request.confirmed => {
                let kept = history.dead_letters.iter().any(|l| l.body.as_ref().is_none_or(|b| *b == request.body));
                if !kept {
                    found.push(Violation::UnreadableLost(String::from_utf8_lossy(&request.body).into_owned()));
                }
            }
            None => {}
        }
    }
    let replays: HashMap<Uuid, Uuid> =
        history.dead_letters.iter().filter_map(|letter| Some((letter.replayed_as?, letter.id))).collect();
    let replayed: HashSet<Uuid> = history.deployments.iter().filter_map(|row| row.replay).collect();
    for row in &history.deployments {
        if !asked.contains(&row.id) && !row.replay.is_some_and(|replay| replays.contains_key(&replay)) {
            found.push(Violation::Unasked(row.id));
        }
    }
    let lost = replays.iter().filter(|(replay, _)| !replayed.contains(replay));
    found.extend(lost.map(|(_, letter)| Violation::ReplayLost(*letter)));
}

/// Every deployment has ended, once, with one result that says the same, and with a reason that is known.
fn ends(history: &RunHistory, explained: &[&str], found: &mut Vec<Violation>) {
    let mut results: HashMap<Uuid, BTreeMap<&str, &ObservedEvent>> = HashMap::new();
    for event in history.events.iter().filter(|event| event.result) {
        results.entry(event.deployment).or_default().insert(&event.id, event);
    }
    for row in &history.deployments {
        if matches!(row.state.as_str(), "pending" | "running") {
            found.push(Violation::Unended(row.id, row.state.clone()));
            continue;
        }
        let told = results.remove(&row.id).unwrap_or_default();
        match told.len() {
            0 => found.push(Violation::NoResult(row.id)),
            1 => {}
            n => found.push(Violation::SeveralResults(row.id, n)),
        }
        let other = told.values().filter_map(|event| event.outcome.clone()).find(|outcome| *outcome != row.state);
        found.extend(other.map(|told| Violation::OtherResult { deployment: row.id, state: row.state.clone(), told }));
        if is_failure(&row.state) {
            let code = row.code.as_deref().unwrap_or("no code");
            if !explained.contains(&code) {
                found.push(Violation::Unexplained(row.id, code.to_owned()));
            }
        }
    }
    found.extend(results.into_keys().map(Violation::ResultOfNobody));
}

/// Events are numbered from 1 without gaps, come in that order the first time, stay what they were, and end with the
/// result.
fn order(history: &RunHistory, found: &mut Vec<Violation>) {
    let mut bodies: HashMap<&str, &ObservedEvent> = HashMap::new();
    let mut firsts: BTreeMap<Uuid, Vec<&ObservedEvent>> = BTreeMap::new();
    for event in &history.events {
        match bodies.get(event.id.as_str()) {
            Some(first) if *first != event => found.push(Violation::Contradiction(event.id.clone())),
            Some(_) => {}
            None => {
                bodies.insert(&event.id, event);
                firsts.entry(event.deployment).or_default().push(event);
            }
        }
    }
    for (deployment, events) in firsts {
        for pair in events.windows(2) {
            if pair[0].sequence >= pair[1].sequence {
                found.push(Violation::Order { deployment, after: pair[0].sequence, came: pair[1].sequence });
            }
            if pair[0].result {
                found.push(Violation::AfterResult { deployment, came: pair[1].sequence });
            }
        }
        let there: BTreeSet<u64> = events.iter().map(|event| event.sequence).collect();
        let last = there.last().copied().unwrap_or(0);
        found.extend((1..=last).filter(|n| !there.contains(n)).map(|missing| Violation::Gap { deployment, missing }));
        let derived = |event: &&ObservedEvent| DeploymentId(deployment).event_id(event.sequence).to_string();
        found.extend(events.iter().filter(|e| derived(e) != e.id).map(|e| Violation::WrongId(e.id.clone())));
    }
}

/// Every failure left one dead letter with the request's own bytes, and nothing else did.
fn letters(history: &RunHistory, found: &mut Vec<Violation>) {
    let bodies: HashMap<Uuid, &[u8]> =
        history.requests.iter().filter_map(|r| Some((r.deployment?.0, r.body.as_slice()))).collect();
    let letters: HashMap<Uuid, &ObservedDeadLetter> =
        history.dead_letters.iter().map(|letter| (letter.id, letter)).collect();
    let of: HashSet<Uuid> = history.dead_letters.iter().filter_map(|letter| letter.deployment).collect();
    for row in &history.deployments {
        match (is_failure(&row.state), of.contains(&row.id)) {
            (true, false) => found.push(Violation::NoDeadLetter(row.id)),
            (false, true) => found.push(Violation::StrayDeadLetter(row.id, row.state.clone())),
            _ => {}
        }
    }
    for letter in &history.dead_letters {
        let asked = letter.deployment.and_then(|deployment| bodies.get(&deployment));
        if letter.body.as_deref().zip(asked.copied()).is_some_and(|(kept, asked)| kept != asked) {
            found.push(Violation::BodyChanged(letter.id));
        }
    }
    for (id, body) in &history.queued {
        let Some(id) = id.as_ref().and_then(|id| id.parse::<Uuid>().ok()) else { continue };
        match letters.get(&id) {
            None => found.push(Violation::StrayMessage(id)),
            Some(letter) if letter.body.as_ref().is_some_and(|kept| kept != body) => {
                found.push(Violation::BodyChanged(id));
            }
            Some(_) => {}
        }
    }
}

/// The latest request of a project isn't superseded: there is nothing newer that could have been deployed instead.
fn latest(history: &RunHistory, found: &mut Vec<Violation>) {
    let mut latest: HashMap<Uuid, &DeploymentRow> = HashMap::new();
    for row in history.deployments.iter().filter(|row| !row.refused && row.state != "cancelled") {
        let Some(project) = row.project else { continue };
        let newest = latest.entry(project).or_insert(row);
        if newest.order < row.order {
            *newest = row;
        }
    }
    let superseded = latest.values().filter(|row| row.state == "superseded");
    found.extend(superseded.map(|row| Violation::LatestSuperseded(row.id)));
}
