//! What a deployment's row says, as every transaction that changes it needs it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use jiff::Timestamp;
use slipway_protocol::names::{CommitSha, RepositoryName, ServerHandle, Slug};
use slipway_protocol::{Action, Correlation, DeploymentId, Placement, Project, ProjectId};
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::{number, readable};
use crate::store::deployment::held_deployments::Picked;
use crate::store::deployment::move_order::MoveOrder;
use crate::store::deployment::state::{Boundary, State};
use crate::store::{Result, StoreError};

/// What a row says about its deployment.
#[derive(Debug, Clone)]
pub(in crate::store) struct DeploymentHead {
    pub id: DeploymentId,
    pub event_id: String,
    pub replay: Option<Uuid>,
    pub action: Action,
    pub remove_volumes: bool,
    /// Of a move: where the project is, and what becomes of its data.
    pub moves: Option<MoveOrder>,
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
    /// How Slipway chose its server, or why it waits for one.
    pub placement: Option<Placement>,
}

pub(in crate::store) const HEAD_COLUMNS: &str = "id, event_id, replay_id, action, remove_volumes, project_id, project_slug, repository, commit_sha, server, \
     correlation, state, attempt, interruptions, fence, next_sequence, traceparent, superseded_by, \
     cancel_requested_at IS NOT NULL AS cancel_requested, accepted_at, first_failed_at, placement, moves_from, move_data";

impl DeploymentHead {
    pub(in crate::store) fn read(row: &Row) -> Result<Self> {
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
            moves: MoveOrder::read(row)?,
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
            // It's told, and nothing depends on it.
            placement: row.try_get::<_, Option<Json<_>>>("placement").ok().flatten().map(|Json(placement)| placement),
        })
    }
}

impl DeploymentHead {
    /// The trace context of what happens now, if it's another one than the request's.
    pub(in crate::store) fn own_traceparent(&self) -> Option<String> {
        self.unless_requests(crate::telemetry::current_traceparent())
    }

    /// As [`Self::own_traceparent`], of what happened in the trace context `then`.
    pub(in crate::store) fn unless_requests(&self, then: Option<String>) -> Option<String> {
        then.filter(|then| self.traceparent.as_ref() != Some(then))
    }

    /// Whether it may go on.
    pub(in crate::store) fn boundary(&self) -> Boundary {
        match self.superseded_by {
            _ if self.cancel_requested => Boundary::Cancelled,
            Some(by) => Boundary::Superseded(by),
            None => Boundary::GoOn,
        }
    }
}

/// The first deployment that `sql` selects and locks, and that this version can read, with the row that was selected. Those
/// that it can't read are skipped, so that one of them doesn't block all others: their ids are the parameter $1, which the
/// statement leaves out; `more` are the parameters from $2 on. Each is read for itself: the database may fail at it.
pub(in crate::store) async fn first_readable(
    tx: &StoreTransaction<'_>,
    sql: &str,
    more: &[&(dyn ToSql + Sync)],
    picked: &Picked,
) -> Result<Option<(DeploymentHead, Row)>> {
    let mut unreadable: Vec<Uuid> = Vec::new();
    loop {
        let parameters: Vec<&(dyn ToSql + Sync)> =
            std::iter::once(&unreadable as &(dyn ToSql + Sync)).chain(more.iter().copied()).collect();
        let Some(selected) = tx.query_opt(sql, &parameters).await? else { return Ok(None) };
        let id = selected.get("id");
        picked.is(id);
        let row = tx.query_one(&format!("SELECT {HEAD_COLUMNS} FROM deployments WHERE id = $1"), &[&id]).await?;
        match DeploymentHead::read(&row) {
            Ok(head) => return Ok(Some((head, selected))),
            Err(error) => {
                log_unreadable_once(id, &error);
                unreadable.push(id);
            }
        }
    }
}

/// Logs an unreadable row once, since it is found again every second.
pub(in crate::store) fn log_unreadable_once(id: Uuid, error: &StoreError) {
    static LOGGED: Mutex<BTreeSet<Uuid>> = Mutex::new(BTreeSet::new());
    if LOGGED.lock().is_ok_and(|mut logged| logged.insert(id)) {
        tracing::error!(deployment.id = %id, "a deployment is skipped until its row is repaired: {error}");
    }
}
