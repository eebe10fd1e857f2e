//! Deployments as operators read them: lists, one in full, and its journal.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use slipway_protocol::{DeploymentId, DeploymentResult, Failure, Placement, ProjectReady};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{id_range, number};
use crate::store::deployment::selection::DeploymentFilter;
use crate::store::deployment::state::State;
use crate::store::{Result, Store};

/// All that is stored of a deployment but its journal and its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// The id, derived from `source` and `id` of its request, or from the replay.
    pub id: DeploymentId,
    /// CloudEvents `source` of its request.
    pub source: String,
    /// CloudEvents `id` of its request.
    pub event_id: String,
    /// The replay that asked for it.
    pub replay: Option<Uuid>,
    /// What was asked for, named as in events; a later version may have others.
    pub action: String,
    /// The deployment whose version a command acts with.
    pub acts_on: Option<DeploymentId>,
    /// Whether an undeployment removes the project's volumes.
    pub remove_volumes: bool,
    /// Why a command was given.
    pub reason: Option<String>,
    /// RabbitMQ's user who sent its request, as the broker has checked; absent when the message didn't tell.
    pub amqp_user: Option<String>,
    /// Secrets in an old form, which any project could have used.
    pub unbound_secrets: Vec<String>,
    /// The project's slug; absent when a refused request didn't tell, and so are the next four.
    pub project: Option<String>,
    /// The repository at GitHub, as `owner/name`.
    pub repository: Option<String>,
    /// The commit, 40 hexadecimal digits.
    pub commit: Option<String>,
    /// The server's handle.
    pub server: Option<String>,
    /// The request that it acts with; absent for a refused one.
    pub request: Option<ProjectReady>,
    /// How Slipway chose its server, or why it waits for one; absent where the request named the server.
    pub placement: Option<Placement>,
    /// Its state: it waits, it runs, or how it ended.
    pub state: State,
    /// The attempt that runs or ran last, from 1; 0 before the first.
    pub attempt: u32,
    /// How often attempts were interrupted.
    pub interruptions: u32,
    /// When its next attempt may begin.
    pub run_at: Timestamp,
    /// The worker that runs it or ran it last.
    pub owner: Option<String>,
    /// The deployment that took its place, or is to take it.
    pub superseded_by: Option<DeploymentId>,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// Why its last attempt failed.
    pub failure: Option<Failure>,
    /// What its result says; absent until it has ended.
    pub result: Option<DeploymentResult>,
    /// Sequential SSH round trips of its last attempt.
    pub ssh_round_trips: Option<u32>,
    /// W3C trace context of its request's intake.
    pub traceparent: Option<String>,
    /// When its request was stored, by the database's clock like all times here.
    pub accepted_at: Timestamp,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When its result was written; absent until then.
    pub finished_at: Option<Timestamp>,
    /// The columns that a later version has written in a way that this one doesn't know, each with what it holds: null
    /// where that may be a secret.
    pub unread: BTreeMap<&'static str, Value>,
}

/// A stage's entry in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Number of the attempt.
    pub attempt: u32,
    /// Number of the claim, which a lease's fence is.
    pub fence: i64,
    /// The stage's name, as in events.
    pub stage: String,
    /// When the intent to run it was written, before anything was done.
    pub intent_at: Timestamp,
    /// `done`, `failed` or `interrupted`; absent while it runs.
    pub outcome: Option<String>,
    /// `changed` or `unchanged`, when done.
    pub change: Option<String>,
    /// What it found or did, when done.
    pub facts: Option<serde_json::Map<String, serde_json::Value>>,
    /// The code, class and message, when failed.
    pub failure: Option<Failure>,
    /// How long it took.
    pub duration: Option<Duration>,
}

const COLUMNS: &str = "id, source, event_id, replay_id, amqp_user, unbound_secrets, action, acts_on, remove_volumes, reason, project_slug, repository, commit_sha, server, \
     request -> 'data' AS data, placement, state, attempt, interruptions, run_at, owner, superseded_by, \
     cancel_requested_at IS NOT NULL AS cancel_requested, failure, result, ssh_round_trips, traceparent, accepted_at, \
     started_at, finished_at";

impl Store {
    /// The deployment `id`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>> {
        deadline(async {
            let client = self.client().await?;
            let sql = format!("SELECT {COLUMNS} FROM deployments WHERE id = $1");
            Ok(client.query_opt(&sql, &[&id.0]).await?.as_ref().map(read))
        })
        .await
    }

    /// Ids that begin with `prefix`, as people type them: at most ten.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deployments_like(&self, prefix: &str) -> Result<Vec<DeploymentId>> {
        deadline(async {
            let Some((first, last)) = id_range(prefix) else { return Ok(Vec::new()) };
            let sql = "SELECT id FROM deployments WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 10";
            let rows = self.client().await?.query(sql, &[&first, &last]).await?;
            Ok(rows.iter().map(|row| DeploymentId(row.get(0))).collect())
        })
        .await
    }

    /// Deployments, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deployments(&self, filter: &DeploymentFilter, limit: u32) -> Result<Vec<Deployment>> {
        deadline(async {
            let limit = i64::from(limit);
            let (sql, values) = filter.statement(COLUMNS, &limit);
            let rows = self.client().await?.query(&sql, &values).await?;
            Ok(rows.iter().map(read).collect())
        })
        .await
    }

    /// The journal of a deployment's stages, in the order in which they began.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn journal(&self, id: DeploymentId) -> Result<Vec<JournalEntry>> {
        deadline(async {
            let client = self.client().await?;
            let rows = client
                .query("SELECT * FROM stage_journal WHERE deployment_id = $1 ORDER BY intent_at, fence", &[&id.0])
                .await?;
            Ok(rows.iter().map(entry).collect())
        })
        .await
    }
}

/// A row as far as it's understood: one that a later version has written must not hide the others.
fn read(row: &Row) -> Deployment {
    let mut unread = BTreeMap::new();
    let state = row.get::<_, &str>("state");
    let known_state = state.parse().unwrap_or_else(|_| {
        unread.insert("state", Value::from(state));
        State::Unknown
    });
    Deployment {
        id: DeploymentId(row.get("id")),
        source: row.get("source"),
        event_id: row.get("event_id"),
        replay: row.get("replay_id"),
        action: row.get("action"),
        amqp_user: row.get("amqp_user"),
        unbound_secrets: row.get::<_, Option<_>>("unbound_secrets").unwrap_or_default(),
        acts_on: row.get::<_, Option<Uuid>>("acts_on").map(DeploymentId),
        remove_volumes: row.get("remove_volumes"),
        reason: row.get("reason"),
        project: row.get("project_slug"),
        repository: row.get("repository"),
        commit: row.get("commit_sha"),
        server: row.get("server"),
        request: read_json(row, "data", &mut unread),
        placement: row.try_get::<_, Option<Json<_>>>("placement").ok().flatten().map(|Json(placement)| placement),
        state: known_state,
        attempt: number(row, "attempt"),
        interruptions: number(row, "interruptions"),
        run_at: row.get("run_at"),
        owner: row.get("owner"),
        superseded_by: row.get::<_, Option<Uuid>>("superseded_by").map(DeploymentId),
        cancel_requested: row.get("cancel_requested"),
        failure: read_json(row, "failure", &mut unread),
        result: read_json(row, "result", &mut unread),
        ssh_round_trips: row.get::<_, Option<i32>>("ssh_round_trips").and_then(|n| u32::try_from(n).ok()),
        traceparent: row.get("traceparent"),
        accepted_at: row.get("accepted_at"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        unread,
    }
}

/// What a column holds; noted in `unread` where this version doesn't understand it.
fn read_json<T: DeserializeOwned + 'static>(
    row: &Row,
    column: &'static str,
    unread: &mut BTreeMap<&'static str, Value>,
) -> Option<T> {
    let found = row.try_get::<_, Option<Json<T>>>(column);
    if found.is_err() {
        let raw = row.try_get::<_, Option<Json<Value>>>(column).ok().flatten();
        // A request holds the values of variables.
        let shown = raw.filter(|_| column != "data").map_or(Value::Null, |Json(raw)| raw);
        unread.insert(column, shown);
    }
    found.ok().flatten().map(|Json(value)| value)
}

fn entry(row: &Row) -> JournalEntry {
    JournalEntry {
        attempt: number(row, "attempt"),
        fence: row.get("fence"),
        stage: row.get("stage"),
        intent_at: row.get("intent_at"),
        outcome: row.get("outcome"),
        change: row.get("change"),
        facts: row.try_get::<_, Option<Json<_>>>("facts").ok().flatten().map(|Json(facts)| facts),
        failure: row.try_get::<_, Option<Json<_>>>("failure").ok().flatten().map(|Json(failure)| failure),
        duration: row
            .get::<_, Option<i64>>("duration_ms")
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis),
    }
}
