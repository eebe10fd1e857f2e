//! Ports of a server that can't be given away, beside those that were seen in use and those that are set aside.

use std::collections::{BTreeMap, BTreeSet};

use slipway_protocol::names::{Port, ServerHandle, ServiceName};
use slipway_protocol::{ProjectId, ProjectReady};

use crate::scheduler::{PlacementLimits, PlacementServer, assign_ports};
use crate::store::Result;
use crate::store::connection::client::Statements;
use crate::store::placement::request::ProjectHome;
use crate::store::placement::servers::port_set;

/// What other projects have on the server by their own requests: those that serve, and those that haven't ended.
const OF_OTHERS: &str = "
    SELECT array_agg(DISTINCT (a.allocation ->> 'host_port')::integer) FROM (
        SELECT d.request FROM project_places p JOIN deployments d ON d.project_id = p.project_id AND d.arrival = p.succeeded
        WHERE p.server = $1 AND p.succeeded > coalesce(p.undeployed, 0) AND p.project_id <> $2
        UNION ALL SELECT request FROM deployments WHERE state = 'pending' AND server = $1 AND project_id <> $2
        UNION ALL SELECT request FROM deployments WHERE state = 'running' AND server = $1 AND project_id <> $2) k
    CROSS JOIN LATERAL jsonb_array_elements(k.request #> '{data,allocations}') a (allocation)
    WHERE a.allocation ? 'host_port'";

/// The ports of `server` that this project can't have.
pub(in crate::store) async fn taken_ports(
    client: &impl Statements,
    handle: &ServerHandle,
    server: Option<&PlacementServer>,
    project: ProjectId,
    home: &ProjectHome,
) -> Result<BTreeSet<u16>> {
    let row = client.row(OF_OTHERS, &[&handle.as_str(), &project.0]).await?;
    let mut taken = port_set(row.and_then(|row| row.get(0)));
    let others = taken.clone();
    if let Some(server) = server {
        taken.extend(server.measured.iter().flat_map(|measured| &measured.ports));
        taken.extend(&server.reserved.ports);
    }
    // What the project itself has there is in use, and its own.
    if home.server.as_ref() == Some(handle) {
        let own: BTreeSet<u16> = home.ports.values().map(|port| port.get()).collect();
        taken.retain(|port| others.contains(port) || !own.contains(port));
    }
    Ok(taken)
}

/// A port for each service of the request, on a server whose `taken` ones can't be had.
pub(in crate::store) fn ports_for(
    request: &ProjectReady,
    home: &ProjectHome,
    taken: &BTreeSet<u16>,
    limits: &PlacementLimits,
) -> Option<BTreeMap<ServiceName, Port>> {
    let services = request.allocations.iter().map(|a| (a.service.clone(), a.host_port)).collect();
    assign_ports(&services, &home.ports, taken, limits.ports)
}
