//! A port that was chosen and turned out to be a stranger's: it's marked as in use, and the deployment gets another one.

use std::collections::BTreeSet;

use slipway_protocol::names::Port;
use slipway_protocol::{CloudEvent, Failure, ProgressKind, ProjectReady};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::scheduler::PlacementLimits;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::retry::RetryOutcome;
use crate::store::deployment::state::{Boundary, State};
use crate::store::placement::lock_placement;
use crate::store::placement::ports::{ports_for, taken_ports};
use crate::store::placement::request::ProjectHome;
use crate::store::placement::servers::port_set;
use crate::store::placement::write::{NewReservation, reserve_ports, with_place};
use crate::store::{Result, Store};

impl Store {
    /// Exchanges the ports of a running deployment that strangers hold for others, and has it tried again at once; the
    /// attempt isn't counted. `None`, and nothing is written: one of them isn't Slipway's choice, or it has exchanged too many
    /// already, or there are no others.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn leave_ports(
        &self,
        lease: &Lease,
        taken: &BTreeSet<Port>,
        failure: Failure,
        limits: &PlacementLimits,
    ) -> Result<Option<RetryOutcome>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            lock_placement(&tx).await?;
            let mut locked = LockedDeployment::lock_leased(&tx, lease).await?;
            match locked.head.boundary() {
                Boundary::GoOn => {}
                Boundary::Superseded(by) => return Ok(Some(RetryOutcome::Superseded(by))),
                Boundary::Cancelled => return Ok(Some(RetryOutcome::Cancelled)),
            }
            let Some(event) = exchange(&tx, &mut locked, lease, taken, limits).await? else { return Ok(None) };
            let sql = "UPDATE deployments SET request = $2, placement = $3, failure = $4, run_at = now(), attempt = attempt - 1,
                           first_failed_at = coalesce(first_failed_at, now()), last_failed_at = now()
                       WHERE id = $1 RETURNING run_at";
            let (id, placement) = (lease.deployment.0, Json(&locked.head.placement));
            let run_at = tx.query_one(sql, &[&id, &Json(&event), &placement, &Json(&failure)]).await?.get(0);
            let attempt = locked.head.attempt;
            locked.enqueue_progress(ProgressKind::AttemptScheduled { attempt, run_at, failure }).await?;
            locked.release().await?;
            locked.step(State::Pending).await?;
            commit(tx, TransactionKind::Retry).await?;
            Ok(Some(RetryOutcome::At(run_at)))
        })
        .await
    }
}

/// The request with other ports in the place of those that are `taken`, which are marked as in use and not set aside any more.
async fn exchange(
    tx: &StoreTransaction<'_>,
    locked: &mut LockedDeployment<'_>,
    lease: &Lease,
    taken: &BTreeSet<Port>,
    limits: &PlacementLimits,
) -> Result<Option<CloudEvent<ProjectReady>>> {
    let Some(placement) = &mut locked.head.placement else { return Ok(None) };
    let server = &lease.server;
    let sql = "SELECT array_agg(port) FILTER (WHERE chosen), array_agg(port) FILTER (WHERE NOT chosen)
               FROM reserved_ports WHERE deployment_id = $1";
    let row = tx.query_one(sql, &[&lease.deployment.0]).await?;
    let (chosen, given) = (port_set(row.get(0)), port_set(row.get(1)));
    placement.left_ports.extend(taken);
    let exchangeable = !taken.is_empty() && taken.iter().all(|port| chosen.contains(&port.get()));
    if !exchangeable || placement.left_ports.len() > PlacementLimits::MAX_PORTS_LEFT {
        return Ok(None);
    }
    let sql = "SELECT request FROM deployments WHERE id = $1";
    let Json(mut event) = readable(
        "deployments",
        "request",
        tx.query_one(sql, &[&lease.deployment.0]).await?.try_get::<_, Json<CloudEvent<ProjectReady>>>(0),
    )?;
    for allocation in &mut event.data.allocations {
        allocation.host_port = allocation.host_port.filter(|port| !taken.contains(port));
    }
    let numbers: Vec<i32> = taken.iter().map(|port| i32::from(port.get())).collect();
    let sql = "WITH freed AS (DELETE FROM reserved_ports WHERE deployment_id = $1 AND port = ANY($3)),
                    marked AS (UPDATE server_facts SET ports = ports || $3::integer[] WHERE server = $2)
               SELECT (SELECT ports FROM server_facts WHERE server = $2),
                   (SELECT array_agg(port) FROM reserved_ports WHERE server = $2 AND deployment_id <> $1)";
    let row = tx.query_one(sql, &[&lease.deployment.0, &server.as_str(), &numbers]).await?;
    let project = &event.data.project;
    let nowhere = ProjectHome::default();
    let mut busy = taken_ports(tx, server, None, project.id, &nowhere).await?;
    busy.extend(port_set(row.get(0)).into_iter().chain(port_set(row.get(1))));
    busy.extend(placement.left_ports.iter().map(|port| port.get()));
    let Some(ports) = ports_for(&event.data, &nowhere, &busy, limits) else { return Ok(None) };
    let kept: BTreeSet<Port> = event.data.allocations.iter().filter_map(|a| a.host_port).collect();
    let given = kept.iter().copied().filter(|port| given.contains(&port.get())).collect();
    let reservation = NewReservation {
        deployment: lease.deployment,
        project: project.id,
        server,
        room: placement.needed,
        ports: &ports,
        given: &given,
    };
    reserve_ports(tx, &reservation).await?;
    placement.ports.clone_from(&ports);
    Ok(Some(with_place(event, server, &ports)))
}
