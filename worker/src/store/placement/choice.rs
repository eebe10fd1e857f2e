//! A choice with its ports: the best server that has as many as are needed. Nothing is written here.

use std::collections::BTreeMap;

use slipway_protocol::names::{Port, ServerHandle, ServiceName};
use slipway_protocol::{Action, Lack, LackKind, NeededRoom, Placement, PlacementReason, ProjectReady};

use crate::scheduler::{PlacementChoice, PlacementLimits, PlacementNeeds, PlacementServer, choose};
use crate::store::Result;
use crate::store::connection::client::Statements;
use crate::store::placement::ports::{ports_for, taken_ports};
use crate::store::placement::request::{ProjectHome, RequestSource, needs_of, refuse_servers};
use crate::store::placement::write::report;

/// Where a request is to be deployed, or why nowhere, as it's told.
pub(in crate::store) struct ChosenPlace {
    /// The server, if one has room.
    pub server: Option<ServerHandle>,
    /// A port for each allocation.
    pub ports: BTreeMap<ServiceName, Port>,
    /// What is to be set aside: nothing of memory and disk where the project has them already.
    pub room: NeededRoom,
    /// What is told.
    pub report: Placement,
    /// What was needed.
    pub needs: PlacementNeeds,
}

/// Chooses a server for a request, and its ports there.
pub(in crate::store) async fn choose_place(
    client: &impl Statements,
    servers: &mut [PlacementServer],
    request: &ProjectReady,
    source: &RequestSource<'_>,
    limits: &PlacementLimits,
) -> Result<ChosenPlace> {
    refuse_servers(client, servers, request, source).await?;
    let home = ProjectHome::of(client, &request.project).await?;
    let home = match source.action {
        // It's to leave its server; its ports are as good as others.
        Action::Move => ProjectHome { server: None, is_proven: false, ..home },
        _ => home,
    };
    let mut needs = needs_of(request, &home, limits);
    let is_refused =
        |server: &PlacementServer| Some(&server.handle) == source.names.as_ref() && !server.refusals.is_empty();
    // Whoever names a server knows what it lacks.
    if source.names.is_some() && !servers.iter().any(is_refused) {
        needs.lives_on.clone_from(&source.names);
    }
    loop {
        let mut choice = choose(servers, &needs);
        if choice.reason == PlacementReason::LivesThere && source.names.is_some() {
            choice.reason = PlacementReason::Named;
        }
        let Some(handle) = choice.server.clone() else { return Ok(nowhere(choice, needs)) };
        let server = servers.iter().position(|server| server.handle == handle);
        let taken =
            taken_ports(client, &handle, server.and_then(|at| servers.get(at)), request.project.id, &home).await?;
        let lives_there = matches!(choice.reason, PlacementReason::LivesThere | PlacementReason::Named);
        let clashes = needs.given_ports.iter().any(|port| taken.contains(&port.get())) && !lives_there;
        let ports = ports_for(request, &home, &taken, limits).filter(|_| !clashes);
        if let Some(ports) = ports {
            let room = match home.is_proven {
                true => NeededRoom { ram_mb: 0, disk_mb: 0, ..needs.room },
                false => needs.room,
            };
            let report = report(choice, &needs, ports.clone());
            return Ok(ChosenPlace { server: Some(handle), ports, room, report, needs });
        }
        let message = match clashes {
            true => "the ports that the request gives are another project's there".to_owned(),
            false => format!("it has no {} free ports within {}", needs.room.ports, limits.ports),
        };
        let lack = Lack { what: LackKind::Ports, message };
        match server.and_then(|at| servers.get_mut(at)).filter(|_| !lives_there) {
            Some(server) => server.refusals.push(lack),
            None => {
                let mut choice = choice;
                choice
                    .scores
                    .iter_mut()
                    .filter(|score| score.server == handle)
                    .for_each(|s| s.lacks.push(lack.clone()));
                return Ok(nowhere(choice, needs));
            }
        }
    }
}

fn nowhere(choice: PlacementChoice, needs: PlacementNeeds) -> ChosenPlace {
    let choice = PlacementChoice { server: None, reason: PlacementReason::NoRoom, ..choice };
    let (room, report) = (needs.room, report(choice, &needs, BTreeMap::new()));
    ChosenPlace { server: None, ports: BTreeMap::new(), room, report, needs }
}
