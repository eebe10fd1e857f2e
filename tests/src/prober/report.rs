//! What a prober has seen: who answered, what wasn't answered, and for how long nobody did.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use super::answer::{Answerer, ProbeAnswer, ProbeKind, SocketBreak};
use super::failure::ProbeFailure;

/// How much later than a switch the first answer of the new release may be seen.
const SLACK: Duration = Duration::from_millis(300);

/// All that a prober has seen. As text it's one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// When the prober was started.
    pub begun: Instant,
    /// Every question but those of WebSockets that broke, in the order of their ends.
    pub answers: Vec<ProbeAnswer>,
    /// Every WebSocket that broke.
    pub breaks: Vec<SocketBreak>,
    /// How often the connection that's kept had to be opened anew.
    pub reopened: usize,
    /// How long it was asked.
    pub ended: Duration,
}

impl ProbeReport {
    /// What wasn't answered.
    #[must_use]
    pub fn failed(&self) -> Vec<&ProbeAnswer> {
        self.answers.iter().filter(|answer| answer.outcome.is_err()).collect()
    }

    /// How many answers of each kind went well.
    #[must_use]
    pub fn answered(&self, kind: ProbeKind) -> usize {
        self.answers.iter().filter(|answer| answer.kind == kind && answer.outcome.is_ok()).count()
    }

    /// How many answers came from this commit.
    #[must_use]
    pub fn of(&self, commit: &str) -> usize {
        self.good().filter(|(_, who)| who.commit == commit).count()
    }

    /// How many answers came from each commit, in the order in which they came to answer.
    #[must_use]
    pub fn by_commit(&self) -> Vec<(&str, usize)> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for (_, who) in self.good() {
            match counts.iter_mut().find(|(commit, _)| *commit == who.commit) {
                Some((_, count)) => *count += 1,
                None => counts.push((&who.commit, 1)),
            }
        }
        counts
    }

    /// The longest time that somebody who came had to wait until somebody got an answer: what a page of theirs was away.
    /// Only new connections count: as many of them come all the time.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        self.waits().map(|(asked, answered)| answered - asked).max().unwrap_or_default()
    }

    /// As [`ProbeReport::longest_gap`], less what those waited at that time who asked somebody else: on a busy machine all
    /// do now and then.
    #[must_use]
    pub fn longest_gap_beside(&self, others: &Self) -> Duration {
        let others: Vec<_> =
            others.waits().map(|(asked, answered)| (others.begun + asked, others.begun + answered)).collect();
        let beyond = |(asked, answered): (Duration, Duration)| {
            let (asked, answered) = (self.begun + asked, self.begun + answered);
            let overlap =
                |(from, to): &(Instant, Instant)| answered.min(*to).saturating_duration_since(asked.max(*from));
            (answered - asked).saturating_sub(others.iter().map(overlap).max().unwrap_or_default())
        };
        // The longest first: what is left of one is no longer than it was.
        let mut waits: Vec<_> = self.waits().collect();
        waits.sort_by_key(|(asked, answered)| std::cmp::Reverse(*answered - *asked));
        let mut longest = Duration::ZERO;
        for wait in waits {
            if wait.1 - wait.0 <= longest {
                break;
            }
            longest = longest.max(beyond(wait));
        }
        longest
    }

    /// For each new connection when it was asked, and when somebody got an answer who came no sooner.
    fn waits(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let mut asked: Vec<_> = self.answers.iter().filter(|answer| answer.kind == ProbeKind::Fresh).collect();
        asked.sort_by_key(|answer| answer.asked);
        let mut next_answer = self.ended;
        asked.into_iter().rev().map(move |answer| {
            if answer.outcome.is_ok() {
                next_answer = next_answer.min(answer.ended);
            }
            (answer.asked, next_answer.max(answer.asked))
        })
    }

    /// The WebSockets that broke though the release that they led to wasn't replaced, or hadn't been for as long as that.
    #[must_use]
    pub fn early_breaks(&self, drain_limit: Duration) -> Vec<&SocketBreak> {
        let is_early = |broken: &&SocketBreak| {
            let others = self.good().filter(|(answer, who)| {
                answer.kind == ProbeKind::Fresh
                    && answer.asked >= broken.opened
                    && Some(*who) != broken.answerer.as_ref()
            });
            let replaced = others.map(|(answer, _)| answer.asked).min();
            replaced.is_none_or(|replaced| broken.ended + SLACK < replaced + drain_limit)
        };
        self.breaks.iter().filter(is_early).collect()
    }

    /// Those that an answer never came for, by the way they were asked and why, with the first one's time.
    #[must_use]
    pub fn why_failed(&self) -> String {
        let mut reasons: BTreeMap<(ProbeKind, &ProbeFailure), (usize, Duration)> = BTreeMap::new();
        for answer in &self.answers {
            if let Err(failure) = &answer.outcome {
                reasons.entry((answer.kind, failure)).or_insert((0, answer.asked)).0 += 1;
            }
        }
        let told =
            reasons.iter().map(|((kind, why), (count, first))| format!("{count} {kind:?} {why}, first at {first:.2?}"));
        told.collect::<Vec<_>>().join("; ")
    }

    fn good(&self) -> impl Iterator<Item = (&ProbeAnswer, &Answerer)> {
        self.answers.iter().filter_map(|answer| Some((answer, answer.outcome.as_ref().ok()?)))
    }
}

impl Display for ProbeReport {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (all, failed) = (thousands(self.answers.len()), thousands(self.failed().len()));
        write!(formatter, "{all} answers, {failed} failed, longest gap {:.0?}", self.longest_gap())?;
        for (commit, count) in self.by_commit() {
            write!(formatter, ", {} {}", commit.get(..7).unwrap_or(commit), thousands(count))?;
        }
        write!(formatter, "; {} WebSockets broke", self.breaks.len())?;
        let why = self.why_failed();
        if why.is_empty() { Ok(()) } else { write!(formatter, "; failed: {why}") }
    }
}

/// A number with commas between its thousands.
#[must_use]
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    parts.join(",")
}
