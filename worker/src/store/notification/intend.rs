//! The intent to tell: written before the event is acknowledged, once for each event and channel.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::seconds;
use crate::store::{Result, Store};

/// That one channel is to be told of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationIntent {
    /// The channel, as the routing file calls it.
    pub channel: String,
    /// To whom within the channel; empty: whom the channel itself names.
    pub target: String,
    /// What it's told together with, if anything.
    pub group: Option<NotificationGroup>,
    /// Whether it's told in quiet hours, too.
    pub urgent: bool,
    /// When it may be told; at once if that is over.
    pub not_before: Option<Timestamp>,
}

/// What is told together.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationGroup {
    /// The same for all of the group.
    pub key: String,
    /// How long the first one waits for others.
    pub wait: Duration,
    /// How long after one message of the group the next one comes, at least.
    pub every: Duration,
}

impl Store {
    /// Writes down whom an event is to be told to; gives the number of those who weren't to be told of it before. Once it's
    /// written, the event may be acknowledged.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn intend_notifications(
        &self,
        event_id: &str,
        event: &[u8],
        intents: &[NotificationIntent],
    ) -> Result<u64> {
        let text = |value: &str| value.replace('\0', "");
        let group = |of: fn(&NotificationGroup) -> Duration| -> Vec<f64> {
            intents.iter().map(|intent| intent.group.as_ref().map_or(0.0, |group| seconds(of(group)))).collect()
        };
        let channels: Vec<String> = intents.iter().map(|intent| text(&intent.channel)).collect();
        let targets: Vec<String> = intents.iter().map(|intent| text(&intent.target)).collect();
        let keys: Vec<Option<String>> =
            intents.iter().map(|intent| intent.group.as_ref().map(|group| text(&group.key))).collect();
        let (waits, intervals) = (group(|group| group.wait), group(|group| group.every));
        let urgent: Vec<bool> = intents.iter().map(|intent| intent.urgent).collect();
        let not_before: Vec<Option<Timestamp>> = intents.iter().map(|intent| intent.not_before).collect();
        deadline(async {
            let sql = "INSERT INTO notifications (event_id, channel, target, group_key, event, urgent, due_at)
                       SELECT $1, n.channel, n.target, n.group_key, $2, n.urgent,
                           greatest(now() + n.wait * interval '1 second', n.not_before,
                               (SELECT max(t.ended_at) FROM notifications t
                                WHERE t.channel = n.channel AND t.target = n.target AND t.group_key = n.group_key)
                               + n.every * interval '1 second')
                       FROM unnest($3::text[], $4::text[], $5::text[], $6::float8[], $7::float8[], $8::bool[],
                                $9::timestamptz[]) AS n (channel, target, group_key, wait, every, urgent, not_before)
                       ON CONFLICT DO NOTHING";
            let client = self.client().await?;
            let id = text(event_id);
            let written = client
                .execute(sql, &[&id, &event, &channels, &targets, &keys, &waits, &intervals, &urgent, &not_before])
                .await?;
            Ok(written)
        })
        .await
    }
}
