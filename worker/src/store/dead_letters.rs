//! Dead letters: what couldn't be done, kept so that it can be looked at, replayed and archived. How one is written is
//! in `new_dead_letter`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use slipway_protocol::{DeploymentId, topology};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::ledger::{enqueue, number};
use super::{Result, Store, commit, deadline};
use crate::crash::Write;
use crate::message::Outgoing;

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterState {
    /// It waits for somebody.
    Open,
    /// It was sent again.
    Replayed,
    /// Somebody put it aside.
    Archived,
}

impl DeadLetterState {
    /// The name, as in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Archived => "archived",
        }
    }
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its id: the deployment's, or one derived from the body where there is none.
    pub id: Uuid,
    /// The deployment that failed.
    pub deployment: Option<DeploymentId>,
    /// The project's slug, where it could be read.
    pub project: Option<String>,
    /// The message as it came; `None` when it holds a secret in plain text.
    pub body: Option<Vec<u8>>,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its text headers.
    pub headers: BTreeMap<String, String>,
    /// `rejected`, `permanent`, `exhausted` or `interrupted`.
    pub reason: String,
    /// The stage, `intake` or `engine`.
    pub stage: String,
    /// The error code.
    pub code: String,
    /// The code's class.
    pub class: String,
    /// What happened, redacted.
    pub message: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// When it failed first.
    pub first_failed_at: Timestamp,
    /// When it failed last.
    pub last_failed_at: Timestamp,
    /// The exchange it was published to.
    pub original_exchange: String,
    /// Its routing key then.
    pub original_routing_key: String,
    /// The worker that gave it up.
    pub worker: String,
    /// How many replays led to it.
    pub replay_count: u32,
    /// The replay that it was sent again with.
    pub replayed_as: Option<Uuid>,
    /// What became of it.
    pub state: DeadLetterState,
    /// What operators noted.
    pub note: Option<String>,
}

/// Which dead letters to list; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// In this state.
    pub state: Option<DeadLetterState>,
    /// Of this project's slug.
    pub project: Option<String>,
    /// With this error code.
    pub code: Option<String>,
}

impl Store {
    /// Dead letters, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter, limit: u32) -> Result<Vec<DeadLetter>> {
        deadline(async {
            let rows = self
                .client()
                .await?
                .query(
                    "SELECT * FROM dead_letters
                     WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR project_slug = $2)
                       AND ($3::text IS NULL OR code = $3)
                     ORDER BY last_failed_at DESC, id LIMIT $4",
                    &[&filter.state.map(DeadLetterState::as_str), &filter.project, &filter.code, &i64::from(limit)],
                )
                .await?;
            Ok(rows.iter().map(read).collect())
        })
        .await
    }

    /// The dead letter `id`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        deadline(async {
            let client = self.client().await?;
            Ok(client.query_opt("SELECT * FROM dead_letters WHERE id = $1", &[&id]).await?.as_ref().map(read))
        })
        .await
    }

    /// Sends a dead letter again under the id `replay`, through the outbox, so that either both are done or neither.
    /// Gives false when it isn't open any more or its body was withheld.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replay_dead_letter(&self, id: Uuid, replay: Uuid) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            let row = tx
                .query_opt(
                    "UPDATE dead_letters SET state = 'replayed', replayed_as = $2, updated_at = now()
                     WHERE id = $1 AND state = 'open' AND body IS NOT NULL RETURNING *",
                    &[&id, &replay],
                )
                .await?;
            let Some(letter) = row.as_ref().map(read) else { return Ok(false) };
            let mut headers = letter.headers;
            headers.insert(topology::REPLAY_HEADER.to_owned(), replay.to_string());
            let message = Outgoing {
                exchange: topology::REQUESTS.to_owned(),
                routing_key: slipway_protocol::EventType::ProjectReady.as_str().to_owned(),
                message_id: replay.to_string(),
                event_type: slipway_protocol::EventType::ProjectReady.as_str().to_owned(),
                correlation_id: None,
                content_type: letter.content_type,
                headers,
                body: letter.body.unwrap_or_default(),
            };
            enqueue(&tx, None, &message, None, true).await?;
            commit(tx, Write::Replay).await?;
            Ok(true)
        })
        .await
    }

    /// Puts a dead letter aside; false when there is no such open one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn archive_dead_letter(&self, id: Uuid, note: Option<&str>) -> Result<bool> {
        deadline(async {
            let archived = self
                .client()
                .await?
                .execute(
                    "UPDATE dead_letters SET state = 'archived', note = coalesce($2, note), updated_at = now()
                     WHERE id = $1 AND state = 'open'",
                    &[&id, &note],
                )
                .await?;
            Ok(archived == 1)
        })
        .await
    }
}

fn read(row: &Row) -> DeadLetter {
    let Json(headers) = row.get("headers");
    DeadLetter {
        id: row.get("id"),
        deployment: row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId),
        project: row.get("project_slug"),
        body: row.get("body"),
        content_type: row.get("content_type"),
        headers,
        reason: row.get("reason"),
        stage: row.get("stage"),
        code: row.get("code"),
        class: row.get("class"),
        message: row.get("message"),
        attempts: number(row, "attempts"),
        first_failed_at: row.get("first_failed_at"),
        last_failed_at: row.get("last_failed_at"),
        original_exchange: row.get("original_exchange"),
        original_routing_key: row.get("original_routing_key"),
        worker: row.get("worker"),
        replay_count: number(row, "replay_count"),
        replayed_as: row.get("replayed_as"),
        state: match row.get("state") {
            "replayed" => DeadLetterState::Replayed,
            "archived" => DeadLetterState::Archived,
            _ => DeadLetterState::Open,
        },
        note: row.get("note"),
    }
}
