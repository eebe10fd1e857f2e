//! Superseding as SQL carries it out: the deployments that a new one contends with are read, and what follows for each
//! is written. What follows is decided in `scheduler/superseding.rs`.

use slipway_protocol::names::{ServerHandle, VariableName};
use slipway_protocol::{Action, DeploymentId, Failure, ProgressKind, ProjectId};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::scheduler::{Contender, GiveWay, OlderDeployment, Order, resolve};
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::readable;
use crate::store::dead_letter::replay::apply_replay;
use crate::store::deployment::cancel::{is_precancelled, lock_cancellation};
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::order::{contends_with, newer_than, newest_first, order};
use crate::store::deployment::project_lock::lock_project;
use crate::store::deployment::state::State;
use crate::store::{Result, Store};

/// What became of a valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It's a new deployment.
    New,
    /// It's a deployment that ended at once, since this newer one is here already.
    Superseded(DeploymentId),
    /// It's a deployment that ended at once, since somebody had cancelled it before it came.
    Cancelled,
    /// It was here before; nothing was written.
    Duplicate,
    /// What it needs belongs to another project; nothing was written, and it's to be refused with this.
    Refused(Failure),
}

/// A request that is about to be stored. Its locks let two requests for one project be placed one after the other.
pub(in crate::store) struct IncomingRequest {
    pub id: DeploymentId,
    pub project: ProjectId,
    pub action: Action,
    /// Secrets in a form that any project could have used, to be told.
    pub unbound_secrets: Vec<VariableName>,
}

impl IncomingRequest {
    pub(in crate::store) async fn lock(
        tx: &StoreTransaction<'_>,
        id: DeploymentId,
        project: ProjectId,
        action: Action,
    ) -> Result<Self> {
        lock_project(tx, project).await?;
        lock_cancellation(tx, id).await?;
        Ok(Self { id, project, action, unbound_secrets: Vec::new() })
    }
}

impl Store {
    /// Gives a request that was just inserted its place among the project's others.
    pub(in crate::store) async fn place_among_contenders(
        &self,
        tx: &StoreTransaction<'_>,
        arriving: &IncomingRequest,
        server: Option<&ServerHandle>,
        order: Order,
        replay: Option<Uuid>,
    ) -> Result<Admission> {
        let id = arriving.id;
        let Some(mut locked) = LockedDeployment::lock(tx, id).await? else { return Ok(Admission::Duplicate) };
        locked.enqueue_progress(ProgressKind::Accepted { unbound_secrets: arriving.unbound_secrets.clone() }).await?;
        if is_precancelled(tx, id).await? {
            locked.finish(self, &DeploymentEnd::Cancelled, &AttemptSummary::default()).await?;
            return Ok(Admission::Cancelled);
        }
        let contenders = contenders(tx, arriving, server, &order).await?;
        let orders: Vec<Contender> = contenders.iter().map(|(contender, _)| *contender).collect();
        let order = apply_replay(tx, id, replay, order, &orders).await?;
        let verdict = resolve(&order, &orders);
        if let Some(by) = verdict.superseded_by {
            locked.finish(self, &DeploymentEnd::Superseded { by: Some(by) }, &AttemptSummary::default()).await?;
            return Ok(Admission::Superseded(by));
        }
        for (older, action) in contenders.iter().filter(|(contender, _)| verdict.supersedes.contains(&contender.id)) {
            self.supersede(tx, older.id, *action, arriving).await?;
        }
        tx.wake_runner().await?;
        Ok(Admission::New)
    }

    async fn supersede(
        &self,
        tx: &StoreTransaction<'_>,
        older: DeploymentId,
        action: Action,
        newer: &IncomingRequest,
    ) -> Result<()> {
        let by = newer.id;
        let Some(mut locked) = LockedDeployment::lock(tx, older).await? else { return Ok(()) };
        let running = match locked.head.state {
            State::Pending => false,
            State::Running => true,
            State::Ended(_) | State::Unknown => return Ok(()),
        };
        let claimed = locked.head.fence.is_some();
        let must_restore = !running && locked.must_restore_before(by).await?;
        let standing = OlderDeployment { action, running, claimed, must_restore };
        match standing.give_way_to(newer.action) {
            GiveWay::RestoreFirst => {
                let claim_again =
                    "UPDATE deployments SET superseded_by = $2, run_at = least(run_at, now()) WHERE id = $1";
                tx.execute(claim_again, &[&older.0, &by.0]).await?;
            }
            GiveWay::EndNow => {
                locked.finish(self, &DeploymentEnd::Superseded { by: Some(by) }, &AttemptSummary::default()).await?;
            }
            // Its worker reads this at the next boundary between stages.
            GiveWay::AtNextStage => {
                tx.execute("UPDATE deployments SET superseded_by = $2 WHERE id = $1", &[&older.0, &by.0]).await?;
            }
            GiveWay::GoOn => {}
        }
        Ok(())
    }
}

/// Of the deployments that the arriving one contends with, all that haven't ended, and the newest, if that is newer than
/// its place. What has ended and is older, however much that is, means nothing to it.
async fn contenders(
    tx: &StoreTransaction<'_>,
    arriving: &IncomingRequest,
    server: Option<&ServerHandle>,
    place: &Order,
) -> Result<Vec<(Contender, Action)>> {
    let against = |alias: &str| {
        let condition = contends_with(alias, "$3", "$4");
        format!("{alias}.project_id = $1 AND {alias}.id <> $2 AND {condition}")
    };
    let (open, newer, newest_first) = (against("c"), against("d"), newest_first("d"));
    let [by_number, by_time] = newer_than("d", ["$5::bigint", "$6::timestamptz", "$7::bigint"]);
    let columns = "id, producer_sequence, coalesce(event_time, accepted_at) AS event_time, arrival, action,
             state IN ('pending', 'running') AS open";
    let sql = format!(
        "SELECT {columns} FROM deployments c WHERE {open} AND state IN ('pending', 'running')
         UNION (SELECT {columns} FROM deployments d WHERE {newer} AND {by_number} ORDER BY {newest_first} LIMIT 1)
         UNION (SELECT {columns} FROM deployments d WHERE {newer} AND {by_time} ORDER BY {newest_first} LIMIT 1)"
    );
    let deploys = matches!(arriving.action, Action::Deploy | Action::Move);
    let sequence = place.sequence.map_or(-1, |sequence| i64::try_from(sequence).unwrap_or(i64::MAX));
    // One that has no server yet contends with other deployments alone.
    let server = server.map_or("", ServerHandle::as_str);
    let values: [&(dyn ToSql + Sync); 7] =
        [&arriving.project.0, &arriving.id.0, &server, &deploys, &sequence, &place.time, &place.arrival];
    let rows = tx.query(&sql, &values).await?;
    let contender = |row: &tokio_postgres::Row| {
        let contender = Contender { id: DeploymentId(row.get("id")), order: order(row), open: row.get("open") };
        Ok((contender, readable("deployments", "action", row.get::<_, &str>("action").parse())?))
    };
    rows.iter().map(contender).collect()
}
