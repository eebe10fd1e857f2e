//! Events that were published, in the order in which they were: history for a subscriber that came later. They are read page
//! by page, so that no history is too long for it.

use jiff::Timestamp;
use slipway_protocol::EventType;
use slipway_protocol::names::Slug;

use crate::message::Outgoing;
use crate::store::connection::deadline::deadline;
use crate::store::outbox::render::{MESSAGE_COLUMNS, messages};
use crate::store::{Result, Store};

/// What a page of events comes to at most, in bytes, without the last one.
const PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// Which events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventHistory {
    /// Published before this moment.
    pub until: Timestamp,
    /// Of this project alone.
    pub project: Option<Slug>,
    /// Results alone.
    pub results_only: bool,
}

/// A place in history; what follows was published later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPosition {
    published_at: Timestamp,
    position: i64,
}

impl HistoryPosition {
    /// Before all that was published at this moment or later.
    #[must_use]
    pub fn since(moment: Timestamp) -> Self {
        Self { published_at: moment, position: 0 }
    }
}

/// An event of history.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedEvent {
    /// The message, the same as when it was published.
    pub message: Outgoing,
    /// When the broker confirmed it.
    pub published_at: Timestamp,
    /// Why its message can't be made any more; then that is empty.
    pub unreadable: Option<String>,
}

/// Some of history, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventHistoryPage {
    /// What was asked for; none, where the page has only what wasn't.
    pub events: Vec<PublishedEvent>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<HistoryPosition>,
}

impl Store {
    /// Events that were published after `from`, in order: at most `limit` rows of the outbox are looked at.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn published_events(
        &self,
        history: &EventHistory,
        from: HistoryPosition,
        limit: u32,
    ) -> Result<EventHistoryPage> {
        let project = history.project.as_ref().map(Slug::as_str);
        deadline(async {
            let sql = format!(
                "WITH page AS (
                     SELECT ctid AS place, position, published_at,
                         coalesce(octet_length(body), octet_length(told), 4096) AS size
                     FROM outbox
                     WHERE published_at >= $1 AND (published_at, position) > ($1, $2) AND published_at < $3
                     ORDER BY published_at, position LIMIT $4),
                 bounded AS (
                     SELECT place, sum(size) OVER (ORDER BY published_at, position) - size AS before FROM page)
                 SELECT o.position, o.published_at, o.sequence IS NOT NULL AND o.set_aside_at IS NULL
                         AND ($6::text IS NULL OR d.project_slug = $6) AND (NOT $7 OR o.type = $8) AS wanted,
                     {MESSAGE_COLUMNS}
                 FROM bounded b JOIN outbox o ON o.ctid = b.place LEFT JOIN deployments d ON d.id = o.deployment_id
                 WHERE b.before < $5 ORDER BY o.published_at, o.position"
            );
            let rows = self
                .client()
                .await?
                .query(
                    &sql,
                    &[
                        &from.published_at,
                        &from.position,
                        &history.until,
                        &i64::from(limit),
                        &PAGE_BYTES,
                        &project,
                        &history.results_only,
                        &EventType::Result.as_str(),
                    ],
                )
                .await?;
            let next = rows
                .last()
                .map(|row| HistoryPosition { published_at: row.get("published_at"), position: row.get("position") });
            let wanted = rows.iter().filter(|row| row.get::<_, Option<bool>>("wanted").unwrap_or_default());
            let events = wanted.flat_map(|row| {
                let (messages, unreadable) = match messages(row) {
                    Ok(messages) => (messages, None),
                    Err(error) => (vec![Outgoing::default()], Some(error.to_string())),
                };
                let published_at = row.get("published_at");
                messages.into_iter().map(move |message| PublishedEvent {
                    message,
                    published_at,
                    unreadable: unreadable.clone(),
                })
            });
            let events = events.collect();
            Ok(EventHistoryPage { events, next })
        })
        .await
    }

    /// When the oldest event was published that is still kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn oldest_published_event(&self) -> Result<Option<Timestamp>> {
        deadline(async {
            let sql = "SELECT published_at FROM outbox WHERE published_at IS NOT NULL ORDER BY published_at LIMIT 1";
            Ok(self.client().await?.query_opt(sql, &[]).await?.map(|row| row.get(0)))
        })
        .await
    }
}
