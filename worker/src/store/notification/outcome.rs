//! What became of a message: told, refused, or the channel doesn't work.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::seconds;
use crate::store::{Result, Store};

/// A message that its channel refused, though others may go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedNotification {
    /// Why, without any secret.
    pub problem: String,
    /// When it's tried again; `None`: it's given up.
    pub again: Option<Duration>,
    /// Not before this moment, such as the end of quiet hours.
    pub not_before: Option<Timestamp>,
    /// Whether it may have been told all the same.
    pub maybe_told: bool,
}

impl Store {
    /// Marks events as told; the next message of their group comes after `every`, and any other one after `spacing`.
    ///
    /// # Errors
    /// When the database fails; then they may be told again.
    pub async fn mark_notified(
        &self,
        channel: &str,
        events: &[String],
        every: Duration,
        spacing: Duration,
    ) -> Result<()> {
        deadline(async {
            let sql = "WITH done AS (
                           UPDATE notifications SET ended_at = now(), told = true, event = NULL, begun_at = NULL,
                               problem = NULL
                           WHERE channel = $1 AND event_id = ANY($2) RETURNING target, group_key),
                       later AS (
                           UPDATE notifications n SET due_at = greatest(n.due_at, now() + $3 * interval '1 second')
                           FROM (SELECT DISTINCT target, group_key FROM done WHERE group_key IS NOT NULL) d
                           WHERE n.channel = $1 AND n.target = d.target AND n.group_key = d.group_key
                             AND n.ended_at IS NULL AND n.event_id <> ALL($2))
                       UPDATE notification_channels SET failures = 0, problem = NULL, paused_until = '-infinity',
                           limited_until = greatest(limited_until, now() + $4 * interval '1 second')
                       WHERE name = $1";
            self.client().await?.execute(sql, &[&channel, &events, &seconds(every), &seconds(spacing)]).await?;
            Ok(())
        })
        .await
    }

    /// Writes down that the channel refused this message: it's tried again by itself, or given up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_notification_refused(
        &self,
        channel: &str,
        events: &[String],
        refused: &RefusedNotification,
        spacing: Duration,
    ) -> Result<()> {
        deadline(async {
            let sql = "WITH refused AS (
                           UPDATE notifications SET problem = $3,
                               begun_at = CASE WHEN $6 THEN begun_at END,
                               due_at = greatest(now() + coalesce($4::float8, 0) * interval '1 second', $5::timestamptz),
                               ended_at = CASE WHEN $4 IS NULL THEN now() END,
                               event = CASE WHEN $4 IS NULL THEN NULL ELSE event END
                           WHERE channel = $1 AND event_id = ANY($2))
                       UPDATE notification_channels
                       SET limited_until = greatest(limited_until, now() + $7 * interval '1 second') WHERE name = $1";
            let (problem, again) = (refused.problem.replace('\0', ""), refused.again.map(seconds));
            self.client()
                .await?
                .execute(
                    sql,
                    &[&channel, &events, &problem, &again, &refused.not_before, &refused.maybe_told, &seconds(spacing)],
                )
                .await?;
            Ok(())
        })
        .await
    }

    /// Leaves a channel alone for a while: with a `problem` since it doesn't work, without one since the other side asked for
    /// it. Neither counts as a try of the events.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pause_notifications(
        &self,
        channel: &str,
        events: &[String],
        pause: Duration,
        problem: Option<&str>,
        maybe_told: bool,
    ) -> Result<()> {
        deadline(async {
            let sql = "WITH put_back AS (
                           UPDATE notifications SET tries = tries - 1, begun_at = CASE WHEN $5 THEN begun_at END
                           WHERE channel = $1 AND event_id = ANY($2))
                       UPDATE notification_channels SET
                           failures = CASE WHEN $4::text IS NULL THEN failures ELSE failures + 1 END,
                           problem = coalesce($4, problem),
                           paused_until = CASE WHEN $4 IS NULL THEN paused_until
                               ELSE now() + $3 * interval '1 second' END,
                           limited_until = CASE WHEN $4 IS NULL THEN now() + $3 * interval '1 second'
                               ELSE limited_until END
                       WHERE name = $1";
            let problem = problem.map(|problem| problem.replace('\0', ""));
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&channel, &events, &seconds(pause), &problem, &maybe_told];
            self.client().await?.execute(sql, &values).await?;
            Ok(())
        })
        .await
    }
}
