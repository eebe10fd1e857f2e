//! What a replay would do, as far as it's looked at before anything is sent: page by page, and no further than a person
//! could read. Of what is behind that it's only said that there is more.

use std::collections::BTreeMap;

use slipway_worker::store::{DeadLetterFilter, PlannedReplay, Replay, ReplayVerdict};

use super::verdict::would_be_sent;
use crate::connect::store::Database;
use crate::terminal::error::CliError;

/// Dead letters that one statement looks at.
const PAGE: u32 = 500;
/// Dead letters that are looked at in all.
const LOOKED_AT: usize = 5000;

pub(super) struct Outlook {
    /// Those that were looked at, in the order in which they would be sent.
    pub(super) letters: Vec<PlannedReplay>,
    /// How many of those can be sent, and how many can't for which reason.
    pub(super) counts: BTreeMap<ReplayVerdict, u64>,
    /// How many of those would be sent.
    pub(super) count: u64,
    /// Whether they are all that match.
    pub(super) is_whole: bool,
    /// Whether no more than `count` will be sent, whatever else there is.
    is_exact: bool,
    replay: Replay,
}

impl Outlook {
    /// Looks at the dead letters that are meant, of which `max` are sent at most.
    pub(super) async fn of(
        filter: &DeadLetterFilter,
        replay: Replay,
        max: u32,
        database: &Database,
    ) -> Result<Self, CliError> {
        let mut filter = filter.clone();
        let mut letters: Vec<PlannedReplay> = Vec::new();
        let is_whole = loop {
            let page = database.store.plan_replay(&filter, PAGE).await.map_err(|e| database.cli_error(&e))?;
            let is_last = u32::try_from(page.len()).is_ok_and(|found| found < PAGE);
            filter.after = page.last().map(|last| (last.failed_at, last.id));
            letters.extend(page);
            if is_last {
                break true;
            }
            if letters.len() >= LOOKED_AT {
                break database.store.plan_replay(&filter, 1).await.map_err(|e| database.cli_error(&e))?.is_empty();
            }
        };
        let mut counts = BTreeMap::new();
        for one in &letters {
            *counts.entry(one.verdict).or_default() += 1;
        }
        let fit: u64 = counts.iter().filter(|(verdict, _)| would_be_sent(**verdict, replay)).map(|(_, n)| n).sum();
        let max = u64::from(max);
        Ok(Self { letters, counts, count: fit.min(max), is_whole, is_exact: is_whole || fit >= max, replay })
    }

    /// Whether nothing can be sent, for certain.
    pub(super) fn is_hopeless(&self) -> bool {
        self.count == 0 && self.is_exact
    }

    /// `12`, or `at least 5000`
    pub(super) fn how_many(&self) -> String {
        format!("{}{}", at_least(self.is_exact), self.count)
    }

    /// `500 of 1200`, or `500 so far`
    pub(super) fn progress(&self, sent: usize) -> String {
        if self.is_exact { format!("{sent} of {}", self.count) } else { format!("{sent} so far") }
    }

    /// `, 3 not: 2 superseded, 1 withheld`
    pub(super) fn describe_unsent(&self) -> String {
        let left: Vec<_> = self.counts.iter().filter(|(verdict, _)| !would_be_sent(**verdict, self.replay)).collect();
        if left.is_empty() {
            return String::new();
        }
        let reasons: Vec<String> =
            left.iter().map(|(verdict, count)| format!("{count} {}", verdict.as_str())).collect();
        let sum: u64 = left.iter().map(|(_, count)| *count).sum();
        format!(", {}{sum} not: {}", at_least(self.is_whole), reasons.join(", "))
    }
}

fn at_least(is_exact: bool) -> &'static str {
    if is_exact { "" } else { "at least " }
}
