//! A request that waits for its server: what it needs, where its project lives, and what rules servers out for it alone.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use slipway_protocol::names::{Port, ServerHandle, ServiceName};
use slipway_protocol::{Action, Allocation, Lack, LackKind, Project, ProjectReady};
use tokio_postgres::types::Json;

use crate::scheduler::{Asking, PlacementLimits, PlacementNeeds, PlacementServer, SourceScope, is_allowed};
use crate::store::Result;
use crate::store::connection::client::Statements;
use crate::store::connection::value::readable;

/// Where a project lives, and the ports that it has there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct ProjectHome {
    pub server: Option<ServerHandle>,
    pub ports: BTreeMap<ServiceName, Port>,
    /// Whether it was deployed there with success, so that what it takes is among what was seen of the server.
    pub is_proven: bool,
}

/// Where the project was deployed last with success and not taken off since; else where it's just being deployed; else where
/// something of it was left.
const HOME: &str = "
    SELECT server, allocations, is_proven FROM (
        SELECT 1 AS rank, p.server, d.request #> '{data,allocations}' AS allocations, true AS is_proven, p.succeeded AS arrival
        FROM project_places p LEFT JOIN deployments d ON d.project_id = p.project_id AND d.arrival = p.succeeded
        WHERE p.project_id = $1 AND p.project_slug = $2 AND p.server <> '' AND p.succeeded > coalesce(p.undeployed, 0)
          AND NOT EXISTS (SELECT FROM slug_owners o WHERE o.server = p.server AND o.project_slug = p.project_slug
              AND o.project_id <> p.project_id)
        UNION ALL
        SELECT 2, server, request #> '{data,allocations}', false, arrival FROM deployments
        WHERE project_id = $1 AND state IN ('pending', 'running') AND project_slug = $2 AND server IS NOT NULL
          AND action IN ('deploy', 'rollback', 'move')
        UNION ALL
        SELECT 3, p.server, NULL, false, p.touched FROM project_places p JOIN slug_owners o
            ON o.server = p.server AND o.project_slug = p.project_slug AND o.project_id = p.project_id
        WHERE p.project_id = $1 AND p.project_slug = $2 AND p.touched > coalesce(p.undeployed, 0)) home
    ORDER BY rank, arrival DESC LIMIT 1";

impl ProjectHome {
    pub(in crate::store) async fn of(client: &impl Statements, project: &Project) -> Result<Self> {
        let Some(row) = client.row(HOME, &[&project.id.0, &project.slug.as_str()]).await? else {
            return Ok(Self::default());
        };
        let server = readable("project_places", "server", ServerHandle::new(row.get::<_, String>("server")))?;
        // A request that can't be read any more has no ports to keep.
        let allocations = row.try_get::<_, Option<Json<Vec<Allocation>>>>("allocations").ok().flatten();
        let allocations = allocations.map(|Json(allocations)| allocations).unwrap_or_default();
        let ports = allocations.into_iter().filter_map(|a| Some((a.service, a.host_port?))).collect();
        Ok(Self { server: Some(server), ports, is_proven: row.get("is_proven") })
    }
}

/// What a request needs of its server.
pub(in crate::store) fn needs_of(
    request: &ProjectReady,
    home: &ProjectHome,
    limits: &PlacementLimits,
) -> PlacementNeeds {
    PlacementNeeds {
        room: limits.needed(request.resources, request.allocations.len()),
        given_ports: request.allocations.iter().filter_map(|allocation| allocation.host_port).collect(),
        wish: request.placement.clone().unwrap_or_default(),
        lives_on: home.server.clone(),
    }
}

/// Until when a request waits for room that came at `accepted_at`.
pub(in crate::store) fn waits_until(
    request: &ProjectReady,
    accepted_at: Timestamp,
    limits: &PlacementLimits,
) -> Timestamp {
    let wish = request.placement.as_ref().and_then(|wish| wish.wait_seconds);
    let default = i64::try_from(limits.wait.as_secs()).unwrap_or(i64::MAX);
    let wait = SignedDuration::from_secs(wish.map_or(default, i64::from));
    let end = accepted_at.checked_add(wait).unwrap_or(Timestamp::MAX);
    request.expires_at.map_or(end, |expiry| end.min(expiry))
}

/// Who asks for a deployment: what rules about sources look at.
pub(in crate::store) struct RequestSource<'a> {
    pub source: &'a str,
    pub user: Option<&'a str>,
    pub scopes: &'a [SourceScope],
    /// To deploy, or to move.
    pub action: Action,
    /// The server that a move names.
    pub names: Option<ServerHandle>,
}

/// Adds what rules each server out for this request alone: its slug is another project's there, or its source may not
/// deploy to it.
pub(in crate::store) async fn refuse_servers(
    client: &impl Statements,
    servers: &mut [PlacementServer],
    request: &ProjectReady,
    source: &RequestSource<'_>,
) -> Result<()> {
    let sql = "SELECT server FROM slug_owners WHERE project_slug = $1 AND project_id <> $2";
    let (project, repository) = (&request.project, request.repository.name.as_str());
    let rows = client.rows(sql, &[&project.slug.as_str(), &project.id.0]).await?;
    let taken: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for server in servers {
        server.refusals.clear();
        if taken.iter().any(|handle| handle == server.handle.as_str()) {
            let message = format!("the slug {} is another project's there", project.slug);
            server.refusals.push(Lack { what: LackKind::Slug, message });
        }
        let asking = Asking {
            source: source.source,
            user: source.user,
            action: source.action,
            project: Some(project.slug.as_str()),
            repository: Some(repository),
            server: Some(server.handle.as_str()),
        };
        if !is_allowed(source.scopes, &asking) {
            let message = format!("no rule lets the source {} deploy to it", source.source);
            server.refusals.push(Lack { what: LackKind::NotAllowed, message });
        }
    }
    Ok(())
}
