//! One deployment's row, locked for a transaction: its state, its next sequence number and the events that tell what
//! changes. Everything that writes about a deployment goes through here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::Timestamp;
use serde::Serialize;
use slipway_protocol::names::{CommitSha, RepositoryName, ServerHandle, Slug};
use slipway_protocol::{
    Action, CONTENT_TYPE, CloudEvent, Correlation, DeploymentId, EventType, Progress, ProgressKind, Project, ProjectId,
    topology,
};
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::error::readable;
use super::state::State;
use super::{Lease, Result, StoreError, StoreTransaction, wakeups};
use crate::message::Outgoing;

/// CloudEvents `source` of what Slipway tells.
const SOURCE: &str = "/slipway";

/// What a row says about its deployment.
#[derive(Debug, Clone)]
pub(super) struct DeploymentHead {
    pub id: DeploymentId,
    pub event_id: String,
    pub replay: Option<Uuid>,
    pub action: Action,
    pub remove_volumes: bool,
    pub project: Option<Project>,
    pub repository: Option<RepositoryName>,
    pub commit: Option<CommitSha>,
    pub server: Option<ServerHandle>,
    pub correlation: Correlation,
    pub state: State,
    pub attempt: u32,
    pub interruptions: u32,
    pub fence: Option<i64>,
    pub next_sequence: u64,
    pub traceparent: Option<String>,
    pub superseded_by: Option<DeploymentId>,
    pub cancel_requested: bool,
    pub accepted_at: Timestamp,
    pub first_failed_at: Option<Timestamp>,
}

pub(super) const HEAD: &str = "id, event_id, replay_id, action, remove_volumes, project_id, project_slug, repository, commit_sha, server, \
     correlation, state, attempt, interruptions, fence, next_sequence, traceparent, superseded_by, \
     cancel_requested_at IS NOT NULL AS cancel_requested, accepted_at, first_failed_at";

impl DeploymentHead {
    pub(super) fn read(row: &Row) -> Result<Self> {
        const TABLE: &str = "deployments";
        let text = |column: &str| row.get::<_, Option<String>>(column);
        let Json(correlation) = readable(TABLE, "correlation", row.try_get::<_, Json<Correlation>>("correlation"))?;
        let slug = readable(TABLE, "project_slug", text("project_slug").map(Slug::new).transpose())?;
        let project_id = row.get::<_, Option<Uuid>>("project_id").map(ProjectId);
        Ok(Self {
            id: DeploymentId(row.get("id")),
            event_id: row.get("event_id"),
            replay: row.get("replay_id"),
            action: readable(TABLE, "action", row.get::<_, &str>("action").parse())?,
            remove_volumes: row.get("remove_volumes"),
            project: project_id.zip(slug).map(|(id, slug)| Project { id, slug }),
            repository: readable(TABLE, "repository", text("repository").map(RepositoryName::new).transpose())?,
            commit: readable(TABLE, "commit_sha", text("commit_sha").map(CommitSha::new).transpose())?,
            server: readable(TABLE, "server", text("server").map(ServerHandle::new).transpose())?,
            correlation,
            state: readable(TABLE, "state", row.get::<_, &str>("state").parse())?,
            attempt: number(row, "attempt"),
            interruptions: number(row, "interruptions"),
            fence: row.get("fence"),
            next_sequence: u64::try_from(row.get::<_, i64>("next_sequence")).unwrap_or(1),
            traceparent: row.get("traceparent"),
            superseded_by: row.get::<_, Option<Uuid>>("superseded_by").map(DeploymentId),
            cancel_requested: row.get("cancel_requested"),
            accepted_at: row.get("accepted_at"),
            first_failed_at: row.get("first_failed_at"),
        })
    }
}

pub(super) fn number(row: &Row, column: &str) -> u32 {
    u32::try_from(row.get::<_, i32>(column)).unwrap_or(0)
}

/// The first row that `sql` selects and that this version can read, with the columns of [`HEAD`]. The rows that it
/// can't read are passed over, so that one of them doesn't stand in everybody's way: their ids are the parameter $1, to
/// be left out; `more` are those from $2 on.
pub(super) async fn first_readable(
    tx: &Transaction<'_>,
    sql: &str,
    more: &[&(dyn ToSql + Sync)],
) -> Result<Option<(DeploymentHead, Row)>> {
    let mut unreadable: Vec<Uuid> = Vec::new();
    loop {
        let parameters: Vec<&(dyn ToSql + Sync)> =
            std::iter::once(&unreadable as &(dyn ToSql + Sync)).chain(more.iter().copied()).collect();
        let Some(row) = tx.query_opt(sql, &parameters).await? else { return Ok(None) };
        match DeploymentHead::read(&row) {
            Ok(head) => return Ok(Some((head, row))),
            Err(error) => {
                let id = row.get("id");
                passed_over(id, &error);
                unreadable.push(id);
            }
        }
    }
}

/// Says so once for each row, since it's met again every second.
pub(super) fn passed_over(id: Uuid, error: &StoreError) {
    static TOLD: Mutex<BTreeSet<Uuid>> = Mutex::new(BTreeSet::new());
    if TOLD.lock().is_ok_and(|mut told| told.insert(id)) {
        tracing::error!(deployment.id = %id, "a deployment is passed over until its row is mended: {error}");
    }
}

/// A deployment's row, locked until the transaction ends.
pub(super) struct LockedDeployment<'t> {
    pub tx: &'t StoreTransaction<'t>,
    pub head: DeploymentHead,
}

impl<'t> LockedDeployment<'t> {
    /// Locks the deployment `id`; `None` when there is none.
    pub(super) async fn lock(tx: &'t StoreTransaction<'t>, id: DeploymentId) -> Result<Option<Self>> {
        let sql = format!("SELECT {HEAD} FROM deployments WHERE id = $1 FOR UPDATE");
        let row = tx.query_opt(&sql, &[&id.0]).await?;
        row.as_ref().map(DeploymentHead::read).transpose().map(|head| head.map(|head| Self { tx, head }))
    }

    /// Locks the deployment of a running attempt, if its lease is still the newest.
    pub(super) async fn held(tx: &'t StoreTransaction<'t>, lease: &Lease) -> Result<Self> {
        let ledger = Self::lock(tx, lease.deployment).await?.ok_or(StoreError::LeaseLost)?;
        let newest = tx
            .query_opt(
                "SELECT 1 FROM project_leases WHERE project_slug = $1 AND server = $2 AND fence = $3 FOR SHARE",
                &[&lease.slug.as_str(), &lease.server.as_str(), &lease.fence.0],
            )
            .await?;
        let ours = ledger.head.state == State::Running && ledger.head.fence == Some(lease.fence.0);
        if ours && newest.is_some() { Ok(ledger) } else { Err(StoreError::LeaseLost) }
    }

    /// Takes the step to `to`, if the table of transitions allows it.
    pub(super) async fn step(&mut self, to: State) -> Result<()> {
        self.head.state = self.head.state.step(to)?;
        self.tx
            .execute(
                "UPDATE deployments SET state = $2, finished_at = CASE WHEN $3 THEN now() END WHERE id = $1",
                &[&self.head.id.0, &to.as_str(), &to.is_terminal()],
            )
            .await?;
        match to {
            State::Pending => {
                self.tx.execute("SELECT pg_notify($1, '')", &[&wakeups::DEPLOYMENTS]).await?;
            }
            State::Running => {}
            State::Ended(outcome) => self.tx.ends(outcome),
        }
        Ok(())
    }

    /// Tells a step of the deployment.
    pub(super) async fn progress(&mut self, kind: ProgressKind) -> Result<()> {
        // Only a refused request has no project, and it makes no progress.
        let Some(project) = self.head.project.clone() else { return Ok(()) };
        let key = topology::progress_key(&project.slug, kind.stage());
        let (deployment_id, action) = (self.head.id, self.head.action);
        let progress = Progress { deployment_id, project, action, kind, correlation: self.head.correlation.clone() };
        self.event(EventType::Progress, key, progress).await
    }

    /// Puts an event into the outbox with the next sequence number.
    pub(super) async fn event<T: Serialize>(&mut self, kind: EventType, routing_key: String, data: T) -> Result<()> {
        let sequence = self.head.next_sequence;
        let traceparent = crate::telemetry::current_traceparent().or_else(|| self.head.traceparent.clone());
        let mut event =
            CloudEvent::new(kind, SOURCE, self.head.id.event_id(sequence).to_string(), data).with_sequence(sequence);
        event.subject = self.head.project.as_ref().map(|p| p.slug.to_string());
        event.time = Some(Timestamp::now());
        event.causationid = Some(self.head.event_id.clone());
        event.traceparent.clone_from(&traceparent);
        let message = Outgoing {
            exchange: topology::EVENTS.to_owned(),
            routing_key,
            message_id: event.id.clone(),
            event_type: event.event_type.clone(),
            correlation_id: Some(correlation_id(&self.head.correlation, self.head.id)),
            content_type: Some(CONTENT_TYPE.to_owned()),
            headers: BTreeMap::new(),
            body: readable("outbox", "body", serde_json::to_vec(&event))?,
        };
        // Nobody need ask for progress; a result is kept until somebody does.
        let must_route = kind == EventType::Result;
        enqueue(self.tx, Some((self.head.id, Some(sequence))), &message, traceparent, must_route).await?;
        self.head.next_sequence += 1;
        let next = i64::try_from(self.head.next_sequence).unwrap_or(i64::MAX);
        self.tx.execute("UPDATE deployments SET next_sequence = $2 WHERE id = $1", &[&self.head.id.0, &next]).await?;
        Ok(())
    }
}

/// The request's own correlation id where it has one, else the deployment's id.
fn correlation_id(correlation: &Correlation, deployment: DeploymentId) -> String {
    // AMQP's short strings end at 255 bytes.
    let own = correlation.get("correlation_id").and_then(|v| v.as_str()).filter(|v| !v.is_empty() && v.len() <= 255);
    own.map_or_else(|| deployment.to_string(), str::to_owned)
}

/// Puts a message into the outbox and wakes the relay at commit.
pub(super) async fn enqueue(
    tx: &Transaction<'_>,
    about: Option<(DeploymentId, Option<u64>)>,
    message: &Outgoing,
    traceparent: Option<String>,
    must_route: bool,
) -> Result<()> {
    let deployment = about.map(|(id, _)| id.0);
    let sequence = about.and_then(|(_, sequence)| sequence).map(|s| i64::try_from(s).unwrap_or(i64::MAX));
    tx.execute(
        "INSERT INTO outbox (deployment_id, sequence, message_id, type, exchange, routing_key, correlation_id,
                             content_type, headers, traceparent, body, must_route)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            &deployment,
            &sequence,
            &message.message_id,
            &message.event_type,
            &message.exchange,
            &message.routing_key,
            &message.correlation_id,
            &message.content_type,
            &Json(&message.headers),
            &traceparent,
            &message.body,
            &must_route,
        ],
    )
    .await?;
    tx.execute("SELECT pg_notify($1, '')", &[&wakeups::OUTBOX]).await?;
    Ok(())
}
