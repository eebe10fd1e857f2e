//! What happened, as seen from outside: what was asked for, what the database holds at the end, what subscribers
//! received, and what was done on servers. Read from Postgres and RabbitMQ without the workers' code, so that neither's
//! mistake hides the other's.

use anyhow::{Context as _, Result};
use serde_json::Value;
use slipway_protocol::{Action, DeploymentId};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::bus::ReceivedMessage;
use crate::model::Effect;

/// All that a verdict needs.
#[derive(Debug, Clone, Default)]
pub struct RunHistory {
    /// Messages that were published, or were tried to be.
    pub requests: Vec<SentRequest>,
    /// The deployments at the end.
    pub deployments: Vec<DeploymentRow>,
    /// Progress and results as a subscriber got them, in that order, duplicates included.
    pub events: Vec<ObservedEvent>,
    /// The dead letters at the end.
    pub dead_letters: Vec<ObservedDeadLetter>,
    /// What was in the dead-letter queue: message id and body.
    pub queued: Vec<(Option<String>, Vec<u8>)>,
    /// What was done on servers, in order; absent where nobody took note.
    pub effects: Option<Vec<Effect>>,
    /// What should have been let go or sent, in words.
    pub left: Vec<String>,
}

/// A message to the workers.
#[derive(Debug, Clone, Default)]
pub struct SentRequest {
    /// The deployment that it asks for; absent when its ids can't be read.
    pub deployment: Option<DeploymentId>,
    /// Whether the broker confirmed it, at least once.
    pub confirmed: bool,
    /// Its body.
    pub body: Vec<u8>,
}

/// A deployment at the end.
#[derive(Debug, Clone, Default)]
pub struct DeploymentRow {
    /// Its id.
    pub id: Uuid,
    /// Its project; absent when a refused request didn't tell.
    pub project: Option<Uuid>,
    /// Its place among the project's, the latest last: the producer's number, its time, its arrival.
    pub order: (Option<i64>, Option<jiff::Timestamp>, i64),
    /// What it was to do.
    pub action: Action,
    /// The state's name.
    pub state: String,
    /// The failure's code.
    pub code: Option<String>,
    /// The replay that asked for it.
    pub replay: Option<Uuid>,
    /// Which deployment took its place.
    pub superseded_by: Option<Uuid>,
    /// How often its attempts were interrupted.
    pub interruptions: i32,
    /// Whether intake refused it.
    pub refused: bool,
}

/// An event as received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedEvent {
    /// Its id.
    pub id: String,
    /// Whether it's a result.
    pub result: bool,
    /// About which deployment.
    pub deployment: Uuid,
    /// Its place.
    pub sequence: u64,
    /// A result's outcome.
    pub outcome: Option<String>,
    /// The whole of it.
    pub body: Vec<u8>,
}

/// A dead letter at the end.
#[derive(Debug, Clone, Default)]
pub struct ObservedDeadLetter {
    /// Its id.
    pub id: Uuid,
    /// The deployment that failed.
    pub deployment: Option<Uuid>,
    /// The message, unless it was withheld.
    pub body: Option<Vec<u8>>,
    /// Its code.
    pub code: String,
    /// The replay that it was sent again with.
    pub replayed_as: Option<Uuid>,
}

impl ObservedEvent {
    /// Reads a received message.
    ///
    /// # Errors
    /// When it's no event of a deployment.
    pub fn read(message: &ReceivedMessage) -> Result<Self> {
        let event = message.json()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            id: text(&event["id"]).context("an event without id")?,
            result: event["type"] == "slipway.deployment.result.v1",
            deployment: text(&event["data"]["deployment_id"]).context("an event about no deployment")?.parse()?,
            sequence: text(&event["sequence"]).context("an event without sequence")?.parse()?,
            outcome: text(&event["data"]["outcome"]),
            body: message.body.clone(),
        })
    }
}

impl RunHistory {
    /// Reads what the database holds. The caller adds what it asked for, received and saw done.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn of_database(sql: &Client) -> Result<Self> {
        let deployments = sql
            .query(
                "SELECT id, project_id, producer_sequence, event_time, arrival, action, state,
                     failure ->> 'code' AS code, replay_id, superseded_by, interruptions, request IS NULL AS refused
                 FROM deployments ORDER BY arrival",
                &[],
            )
            .await?;
        let letters = sql.query("SELECT id, deployment_id, body, code, replayed_as FROM dead_letters", &[]).await?;
        let row = |row: &tokio_postgres::Row| DeploymentRow {
            id: row.get("id"),
            project: row.get("project_id"),
            order: (row.get("producer_sequence"), row.get("event_time"), row.get("arrival")),
            action: action(row.get("action")),
            state: row.get("state"),
            code: row.get("code"),
            replay: row.get("replay_id"),
            superseded_by: row.get("superseded_by"),
            interruptions: row.get("interruptions"),
            refused: row.get("refused"),
        };
        let letter = |row: &tokio_postgres::Row| ObservedDeadLetter {
            id: row.get("id"),
            deployment: row.get("deployment_id"),
            body: row.get("body"),
            code: row.get("code"),
            replayed_as: row.get("replayed_as"),
        };
        Ok(Self {
            deployments: deployments.iter().map(row).collect(),
            dead_letters: letters.iter().map(letter).collect(),
            left: left(sql).await?,
            ..Self::default()
        })
    }
}

/// The action of that name; one that nobody knows counts as the one that takes most.
fn action(name: &str) -> Action {
    Action::ALL.into_iter().find(|action| action.as_str() == name).unwrap_or_default()
}

/// Leases that are held, messages that wait and stages without an end, in words. To be asked once every worker is gone.
async fn left(sql: &Client) -> Result<Vec<String>> {
    let rows = sql
        .query(
            "SELECT format('lease of %s on %s, held by %s', project_slug, server, owner)
                 FROM project_leases WHERE expires_at > now()
             UNION ALL SELECT format('the relay''s lease, held by %s', owner)
                 FROM relay_lease WHERE expires_at > now()
             UNION ALL SELECT format('message %s of type %s for %s in the outbox', message_id, type, exchange)
                 FROM outbox WHERE published_at IS NULL
             UNION ALL SELECT format('stage %s of %s under fence %s has no outcome', stage, deployment_id, fence)
                 FROM stage_journal WHERE outcome IS NULL",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
