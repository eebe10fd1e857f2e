//! The rows of held messages: holding one, taking the next one that is due, putting it off, and letting it go.

use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::PartialEnvelope;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::message::Incoming;
use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, number, seconds};
use crate::store::{Result, Store};

/// A message that is held, taken to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldMessage {
    /// Its place among those that are held.
    pub number: i64,
    /// The message as it was delivered.
    pub incoming: Incoming,
    /// How often it has failed.
    pub tries: u32,
    /// When it was delivered.
    pub received_at: Timestamp,
}

/// A message that is held, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMessage {
    /// The project's slug; absent where it couldn't be read.
    pub project: Option<String>,
    /// CloudEvents `source` of the request.
    pub source: Option<String>,
    /// CloudEvents `id` of the request.
    pub event_id: Option<String>,
    /// What it failed with last.
    pub reason: String,
    /// How often it has failed.
    pub tries: u32,
    /// How long it has been held.
    pub waited: Duration,
    /// How long until it's tried again.
    pub next_try_in: Duration,
}

/// How much is held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldBacklog {
    /// How many messages; a thousand stands for that many or more.
    pub count: u64,
    /// Those that have been held for longest.
    pub messages: Vec<WaitingMessage>,
}

impl Store {
    /// Holds a message; once this returns, it may be acknowledged.
    ///
    /// # Errors
    /// When the database fails; then it must not be acknowledged.
    pub async fn hold(
        &self,
        known: &PartialEnvelope,
        incoming: &Incoming,
        reason: &str,
        delay: Duration,
    ) -> Result<()> {
        deadline(async {
            let sql =
                "INSERT INTO held_messages (project_id, project_slug, source, event_id, body, content_type, headers,
                           exchange, routing_key, amqp_user, reason, next_try_at)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + $12 * interval '1 second')";
            self.client()
                .await?
                .execute(
                    sql,
                    &[
                        &known.project.as_ref().map(|p| p.id.0),
                        &known.project.as_ref().map(|p| p.slug.as_str()),
                        &known.source,
                        &known.id,
                        &incoming.body,
                        &incoming.content_type,
                        &Json(&incoming.headers),
                        &incoming.exchange,
                        &incoming.routing_key,
                        &incoming.user,
                        &reason,
                        &seconds(delay),
                    ],
                )
                .await?;
            Ok(())
        })
        .await
    }

    /// Takes the message that has been due for longest; nobody else takes it for `lease`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_held(&self, lease: Duration) -> Result<Option<HeldMessage>> {
        deadline(async {
            let sql = "UPDATE held_messages SET next_try_at = now() + $1 * interval '1 second' WHERE number = (
                           SELECT number FROM held_messages WHERE next_try_at <= now()
                           ORDER BY next_try_at, number LIMIT 1 FOR UPDATE SKIP LOCKED)
                       RETURNING *";
            let row = self.client().await?.query_opt(sql, &[&seconds(lease)]).await?;
            Ok(row.as_ref().map(held))
        })
        .await
    }

    /// Puts a held message off that has failed once more, and with it those that came after it to its project, which would
    /// most likely fail like it: those that were due have failed as often as it has by then, so that many are given up no
    /// later than one, and none of them for what came after it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_off_held(&self, number: i64, reason: &str, delay: Duration) -> Result<()> {
        deadline(async {
            let sql = "WITH failed AS (
                           UPDATE held_messages SET tries = tries + 1, reason = $2,
                               next_try_at = now() + $3 * interval '1 second'
                           WHERE number = $1 RETURNING project_id, tries)
                       UPDATE held_messages h
                       SET tries = CASE WHEN h.next_try_at <= now() THEN greatest(h.tries, failed.tries) ELSE h.tries END,
                           next_try_at = greatest(h.next_try_at, now() + $3 * interval '1 second')
                       FROM failed WHERE h.project_id = failed.project_id AND h.number > $1";
            self.client().await?.execute(sql, &[&number, &reason, &seconds(delay)]).await?;
            Ok(())
        })
        .await
    }

    /// Lets a held message go that was taken in or given up.
    ///
    /// # Errors
    /// When the database fails; then it's tried once more, and is a duplicate.
    pub async fn let_go_held(&self, number: i64) -> Result<()> {
        deadline(async {
            self.client().await?.execute("DELETE FROM held_messages WHERE number = $1", &[&number]).await?;
            Ok(())
        })
        .await
    }

    /// When the next held message is due; `None` when none is held.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn until_next_held(&self) -> Result<Option<Duration>> {
        deadline(async {
            let sql = "SELECT extract(epoch FROM min(next_try_at) - now())::float8 FROM held_messages";
            let row = self.client().await?.query_one(sql, &[]).await?;
            Ok(row.get::<_, Option<f64>>(0).map(duration))
        })
        .await
    }

    /// What is held: the number, counted up to a thousand, and the first `limit` of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn held(&self, limit: u32) -> Result<HeldBacklog> {
        deadline(async {
            let sql = "SELECT project_slug, source, event_id, reason, tries,
                           extract(epoch FROM now() - received_at)::float8 AS waited,
                           extract(epoch FROM next_try_at - now())::float8 AS next_try_in,
                           (SELECT count(*) FROM (SELECT FROM held_messages LIMIT 1000) counted) AS count
                       FROM held_messages ORDER BY number LIMIT $1";
            let rows = self.client().await?.query(sql, &[&i64::from(limit)]).await?;
            let count = rows.first().map_or(0, |row| row.get::<_, i64>("count"));
            Ok(HeldBacklog { count: u64::try_from(count).unwrap_or(0), messages: rows.iter().map(waiting).collect() })
        })
        .await
    }
}

fn held(row: &Row) -> HeldMessage {
    let Json(headers) = row.get("headers");
    HeldMessage {
        number: row.get("number"),
        incoming: Incoming {
            body: row.get("body"),
            content_type: row.get("content_type"),
            headers,
            exchange: row.get("exchange"),
            routing_key: row.get("routing_key"),
            user: row.get("amqp_user"),
        },
        tries: number(row, "tries"),
        received_at: row.get("received_at"),
    }
}

fn waiting(row: &Row) -> WaitingMessage {
    WaitingMessage {
        project: row.get("project_slug"),
        source: row.get("source"),
        event_id: row.get("event_id"),
        reason: row.get("reason"),
        tries: number(row, "tries"),
        waited: duration(row.get("waited")),
        next_try_in: duration(row.get("next_try_in")),
    }
}
