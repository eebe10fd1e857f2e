//! How long each kind of row is kept.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long each kind of row is kept after its end. What hasn't ended is never pruned, and neither are open dead letters, nor
/// the latest deployments of each project that is on a server, which rollbacks and commands act with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Sealed secrets of requests that no rollback can need, and the messages of dead letters that were dealt with.
    pub secrets: Duration,
    /// What the stages of a deployment did.
    pub journal: Duration,
    /// Deployments themselves.
    pub deployments: Duration,
    /// Events that were published.
    pub events: Duration,
    /// Dead letters that were replayed or archived.
    pub dead_letters: Duration,
    /// Copies of dead letters in RabbitMQ.
    pub dead_letter_messages: Duration,
    /// The record of what operators and producers did: commands, cancellations, rules that were revoked.
    pub audit: Duration,
    /// Ids of requests whose rows are gone, by which a duplicate is recognised.
    pub ids: Duration,
    /// To how many versions of a project one may roll back: they are kept whole.
    pub versions: u32,
}

impl Retention {
    /// From numbers of days.
    #[must_use]
    pub fn days(days: u32) -> Duration {
        DAY.saturating_mul(days)
    }
}
