//! Writing a choice down: what is set aside, and the request with its server and ports. From then on it's a deployment like
//! any other.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use slipway_protocol::names::{Port, ServerHandle, ServiceName};
use slipway_protocol::{CloudEvent, DeploymentId, NeededRoom, Placement, ProjectId, ProjectReady, Server};
use tokio_postgres::types::Json;

use crate::scheduler::{PlacementChoice, PlacementNeeds};
use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::readable;
use crate::store::placement::servers::signed;

/// What a result, and whoever asks while a request waits, is told of a choice.
pub(in crate::store) fn report(
    choice: PlacementChoice,
    needs: &PlacementNeeds,
    ports: BTreeMap<ServiceName, Port>,
) -> Placement {
    Placement {
        reason: choice.reason,
        decided_at: Timestamp::now(),
        needed: needs.room,
        ports,
        left_ports: BTreeSet::new(),
        servers: choice.scores,
        more_servers: choice.more,
    }
}

/// The request as it would have been, had it named this server and these ports.
pub(in crate::store) fn with_place(
    mut event: CloudEvent<ProjectReady>,
    server: &ServerHandle,
    ports: &BTreeMap<ServiceName, Port>,
) -> CloudEvent<ProjectReady> {
    let handle = server.clone();
    event.data.server = Some(Server { handle, address: None, ssh_port: None, ssh_user: None, host_key: None });
    for allocation in &mut event.data.allocations {
        allocation.host_port = ports.get(&allocation.service).copied().or(allocation.host_port);
    }
    event
}

/// What is set aside for a deployment.
pub(in crate::store) struct NewReservation<'a> {
    pub deployment: DeploymentId,
    pub project: ProjectId,
    pub server: &'a ServerHandle,
    pub room: NeededRoom,
    pub ports: &'a BTreeMap<ServiceName, Port>,
    /// The ports among them that weren't chosen.
    pub given: &'a BTreeSet<Port>,
}

/// Gives the deployment its server, and sets aside what it needs there.
pub(in crate::store) async fn write_choice(
    tx: &StoreTransaction<'_>,
    reservation: &NewReservation<'_>,
    event: &CloudEvent<ProjectReady>,
    placement: &Placement,
) -> Result<()> {
    let (ram, disk) = (signed(reservation.room.ram_mb), signed(reservation.room.disk_mb));
    let sql = "WITH placed AS (
                   UPDATE deployments SET server = $2, request = $3, placement = $4, run_at = now() WHERE id = $1)
               INSERT INTO reservations (deployment_id, project_id, server, ram_mb, disk_mb) VALUES ($1, $5, $2, $6, $7)";
    let (id, server, project) = (reservation.deployment.0, reservation.server.as_str(), reservation.project.0);
    tx.execute(sql, &[&id, &server, &Json(event), &Json(placement), &project, &ram, &disk]).await?;
    reserve_ports(tx, reservation).await
}

/// Sets ports aside; that no two projects have one of them, the table itself sees to. One that the request gives, and somebody
/// else has, isn't set aside: preflight tells of it. What an older deployment of the project had is this one's now.
pub(in crate::store) async fn reserve_ports(tx: &StoreTransaction<'_>, reservation: &NewReservation<'_>) -> Result<()> {
    let ports: Vec<i32> = reservation.ports.values().map(|port| i32::from(port.get())).collect();
    let chosen: Vec<bool> = reservation.ports.values().map(|port| !reservation.given.contains(port)).collect();
    let sql = "INSERT INTO reserved_ports (server, port, deployment_id, chosen)
               SELECT $1, port, $2, chosen FROM unnest($3::integer[], $4::boolean[]) AS p (port, chosen)
               WHERE chosen OR NOT EXISTS (
                   SELECT FROM reserved_ports o JOIN reservations r USING (deployment_id)
                   WHERE o.server = $1 AND o.port = p.port AND r.project_id <> $5)
               ORDER BY port
               ON CONFLICT (server, port) DO UPDATE SET deployment_id = $2, chosen = excluded.chosen
                   WHERE reserved_ports.deployment_id IN (SELECT deployment_id FROM reservations WHERE project_id = $5)
               RETURNING port";
    let (server, project) = (reservation.server.as_str(), reservation.project.0);
    let rows = tx.query(sql, &[&server, &reservation.deployment.0, &ports, &chosen, &project]).await?;
    let set_aside: BTreeSet<i32> = rows.iter().map(|row| row.get(0)).collect();
    // Under the lock nobody else chooses: a port that was chosen and isn't free is a mistake of ours.
    match ports.iter().zip(&chosen).find(|(port, chosen)| **chosen && !set_aside.contains(port)) {
        Some((port, _)) => readable("reserved_ports", "port", Err(format!("{port} of {server} is set aside already"))),
        None => Ok(()),
    }
}
