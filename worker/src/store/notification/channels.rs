//! Which process sends to which channel.

use std::time::Duration;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, seconds};
use crate::store::{Result, Store};

impl Store {
    /// Makes channels known. One that was left alone after failures is tried again at once, since whoever starts a notifier
    /// may just have repaired it; what the other side has asked for stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_notification_channels(&self, names: &[String]) -> Result<()> {
        deadline(async {
            let sql = "INSERT INTO notification_channels (name) SELECT unnest($1::text[])
                       ON CONFLICT (name) DO UPDATE SET paused_until = '-infinity'";
            self.client().await?.execute(sql, &[&names]).await?;
            Ok(())
        })
        .await
    }

    /// Leaves this process's channels to others at once.
    ///
    /// # Errors
    /// When the database fails; then they are free once their lease has ended.
    pub async fn release_notification_channels(&self) -> Result<()> {
        deadline(async {
            let sql = "UPDATE notification_channels SET owner = NULL, leased_until = '-infinity' WHERE owner = $1";
            self.client().await?.execute(sql, &[&self.name]).await?;
            Ok(())
        })
        .await
    }

    /// How long until something is due for a channel; `None` when nothing waits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn until_next_notification(&self, channel: &str) -> Result<Option<Duration>> {
        deadline(async {
            let sql = "SELECT extract(epoch FROM greatest(first.due_at, c.limited_until, c.paused_until,
                                  CASE WHEN c.owner IS DISTINCT FROM $2 THEN c.leased_until END) - now())::float8
                       FROM notification_channels c, LATERAL (
                           SELECT due_at FROM notifications WHERE channel = c.name AND ended_at IS NULL
                           ORDER BY due_at, event_id LIMIT 1) first
                       WHERE c.name = $1";
            let row = self.client().await?.query_opt(sql, &[&channel, &self.name]).await?;
            Ok(row.map(|row| duration(row.get::<_, f64>(0).max(0.0))))
        })
        .await
    }

    /// Gives up what has waited longer than `age`, a few hundred at a time, whatever its channel; gives their number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_up_old_notifications(&self, age: Duration) -> Result<u64> {
        deadline(async {
            let sql = "UPDATE notifications n SET ended_at = now(), event = NULL,
                           problem = coalesce(n.problem, 'it waited too long to be news')
                       FROM (SELECT event_id, channel FROM notifications
                             WHERE ended_at IS NULL AND created_at < now() - $1 * interval '1 second'
                             ORDER BY created_at LIMIT 500 FOR UPDATE SKIP LOCKED) old
                       WHERE n.event_id = old.event_id AND n.channel = old.channel";
            Ok(self.client().await?.execute(sql, &[&seconds(age)]).await?)
        })
        .await
    }
}
