//! What waits to be told, and what couldn't be, for `slipway status`.

use std::time::Duration;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, number};
use crate::store::{Result, Store};

/// How long what was told or given up is remembered; longer than any event may be old when it's told.
pub const NOTIFICATION_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a channel gets on.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationChannel {
    /// The channel, as the routing file calls it.
    pub name: String,
    /// How many events wait to be told there.
    pub waiting: u64,
    /// How long the first of them has been due, beyond what the channel's rate or its other side asks for.
    pub overdue: Duration,
    /// How many of those were refused, and are tried again.
    pub refused: u64,
    /// How many were given up within a day.
    pub given_up: u64,
    /// How often in a row the channel as a whole didn't work.
    pub failures: u32,
    /// What is wrong with the channel, or with one of its messages.
    pub problem: Option<String>,
    /// How long until the channel is tried again.
    pub next_try_in: Duration,
}

impl Store {
    /// How each channel gets on, by name; also those that no routing file has any more, while something waits for them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn notification_channels(&self) -> Result<Vec<NotificationChannel>> {
        deadline(async {
            let sql = "WITH untold AS (
                           SELECT channel, count(*) AS waiting, min(due_at) AS due_at,
                               count(*) FILTER (WHERE problem IS NOT NULL) AS refused, max(problem) AS problem
                           FROM notifications WHERE ended_at IS NULL GROUP BY channel),
                       lost AS (
                           SELECT channel, count(*) AS given_up, max(problem) AS problem FROM notifications
                           WHERE ended_at > now() - interval '1 day' AND NOT told GROUP BY channel),
                       known AS (
                           SELECT name FROM notification_channels UNION SELECT channel FROM untold
                           UNION SELECT channel FROM lost)
                       SELECT k.name, coalesce(w.waiting, 0) AS waiting, coalesce(w.refused, 0) AS refused,
                           coalesce(l.given_up, 0) AS given_up, coalesce(c.failures, 0) AS failures,
                           coalesce(c.problem, w.problem, l.problem) AS problem,
                           coalesce(extract(epoch FROM greatest(c.paused_until, now()) - now()), 0)::float8 AS next_try,
                           CASE WHEN w.due_at IS NULL THEN 0 ELSE greatest(0, extract(epoch FROM now() - greatest(w.due_at,
                               c.limited_until, c.paused_until))) END::float8 AS overdue
                       FROM known k LEFT JOIN notification_channels c ON c.name = k.name
                           LEFT JOIN untold w ON w.channel = k.name LEFT JOIN lost l ON l.channel = k.name
                       ORDER BY k.name";
            let rows = self.client().await?.query(sql, &[]).await?;
            let channel = |row: &tokio_postgres::Row| {
                let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
                NotificationChannel {
                    name: row.get("name"),
                    waiting: count("waiting"),
                    overdue: duration(row.get("overdue")),
                    refused: count("refused"),
                    given_up: count("given_up"),
                    failures: number(row, "failures"),
                    problem: row.get("problem"),
                    next_try_in: duration(row.get("next_try")),
                }
            };
            Ok(rows.iter().map(channel).collect())
        })
        .await
    }
}
