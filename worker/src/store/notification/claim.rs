//! What is to be told next, for the one process that may send to a channel.

use std::time::Duration;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{number, seconds};
use crate::store::{Result, Store};

/// How long a process has a channel after it has begun to send; longer than sending may take.
pub const NOTIFICATION_LEASE: Duration = Duration::from_secs(20);
/// How long sending one message may take, from connecting to the answer.
pub const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(15);

/// What one message is about: one event, or several of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedNotifications {
    /// To whom within the channel; empty: whom the channel itself names.
    pub target: String,
    /// The events, the oldest first.
    pub events: Vec<ClaimedNotification>,
    /// How often in a row the channel as a whole didn't work.
    pub failures: u32,
}

/// An event that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedNotification {
    /// The event's id.
    pub event_id: String,
    /// The event as it came.
    pub event: Vec<u8>,
    /// How often it was tried, this time included.
    pub tries: u32,
    /// Whether it may have been told already: how an earlier try ended isn't known.
    pub maybe_told: bool,
    /// Whether quiet hours don't count.
    pub urgent: bool,
}

impl Store {
    /// What a channel is to be told next, with all that belongs to its group, at most `limit`; `None` when nothing is due, or
    /// another process sends to the channel. Whoever gets it has [`NOTIFICATION_LEASE`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_notifications(&self, channel: &str, limit: u32) -> Result<Option<ClaimedNotifications>> {
        deadline(async {
            let sql = "WITH first AS (
                           SELECT event_id, target, group_key FROM notifications
                           WHERE channel = $1 AND ended_at IS NULL AND due_at <= now()
                           ORDER BY due_at, event_id LIMIT 1),
                       held AS (
                           UPDATE notification_channels SET owner = $2, leased_until = now() + $3 * interval '1 second'
                           WHERE name = $1 AND (owner = $2 OR leased_until <= now()) AND limited_until <= now()
                             AND paused_until <= now() AND EXISTS (SELECT FROM first)
                           RETURNING failures),
                       alone AS (
                           SELECT n.event_id, n.begun_at, held.failures
                           FROM held, first JOIN notifications n ON n.event_id = first.event_id AND n.channel = $1
                           WHERE first.group_key IS NULL),
                       together AS (
                           SELECT n.event_id, n.begun_at, held.failures
                           FROM held, first JOIN notifications n
                               ON n.channel = $1 AND n.target = first.target AND n.group_key = first.group_key
                           WHERE n.ended_at IS NULL LIMIT $4),
                       page AS (SELECT * FROM alone UNION ALL SELECT * FROM together)
                       UPDATE notifications n SET tries = n.tries + 1, begun_at = now() FROM page
                       WHERE n.event_id = page.event_id AND n.channel = $1
                       RETURNING n.event_id, n.target, coalesce(n.event, '') AS event, n.tries, n.urgent,
                           page.begun_at IS NOT NULL AS maybe_told, page.failures, n.created_at";
            let lease = seconds(NOTIFICATION_LEASE);
            let mut rows = self.client().await?.query(sql, &[&channel, &self.name, &lease, &i64::from(limit)]).await?;
            rows.sort_by_key(|row| row.get::<_, jiff::Timestamp>("created_at"));
            let Some(first) = rows.first() else { return Ok(None) };
            let (target, failures) = (first.get("target"), number(first, "failures"));
            let events = rows
                .iter()
                .map(|row| ClaimedNotification {
                    event_id: row.get("event_id"),
                    event: row.get("event"),
                    tries: number(row, "tries"),
                    maybe_told: row.get("maybe_told"),
                    urgent: row.get("urgent"),
                })
                .collect();
            Ok(Some(ClaimedNotifications { target, events, failures }))
        })
        .await
    }
}
