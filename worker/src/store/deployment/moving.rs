//! What follows from a move's success: the project is where it went, and is taken off the server where it was.

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{
    Action, CONTENT_TYPE, CloudEvent, Correlation, DeploymentId, EventType, Message, ProgressKind, Project,
    ProjectCommand, ProjectReady, ProjectUndeploy, Request, topology,
};
use tokio_postgres::types::Json;

use crate::message::Incoming;
use crate::store::connection::deadline::deadline;
use crate::store::connection::value::readable;
use crate::store::deployment::command::read_basis;
use crate::store::deployment::insert::NewDeployment;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::move_order::MoveOrder;
use crate::store::pushes::watch::watch_elsewhere;
use crate::store::{Result, Store};

/// What the sources of undeployments begin with that follow from moves.
pub const MOVES_SOURCE: &str = "/slipway/moves/";

impl Store {
    /// The request of what a move takes away from its server; none that can be read any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn moved_version(&self, deployment: DeploymentId) -> Result<Option<ProjectReady>> {
        deadline(async {
            let sql = "SELECT v.request -> 'data' AS data FROM deployments d
                       JOIN deployments v ON v.id = d.acts_on WHERE d.id = $1";
            let row = self.client().await?.query_opt(sql, &[&deployment.0]).await?;
            let request = row.and_then(|row| row.try_get::<_, Option<Json<ProjectReady>>>("data").ok().flatten());
            Ok(request.map(|Json(request)| request))
        })
        .await
    }
}

/// The undeployment that follows from the success of a move.
pub(in crate::store) fn undeployment_of(moved: DeploymentId) -> DeploymentId {
    DeploymentId::of(&source_of(moved), EVENT_ID, None)
}

const EVENT_ID: &str = "undeploy";

fn source_of(moved: DeploymentId) -> String {
    format!("{MOVES_SOURCE}{moved}")
}

impl LockedDeployment<'_> {
    /// Whether a newer request will have the project on the server that it moves away from: then what is there stays.
    pub(in crate::store) async fn is_wanted_there(&self, project: &Project, from: &ServerHandle) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM deployments WHERE project_id = $1 AND state IN ('pending', 'running')
                       AND project_slug = $2 AND server = $3 AND id <> $4)";
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&project.id.0, &project.slug.as_str(), &from.as_str(), &self.head.id.0];
        Ok(self.tx.query_one(sql, &values).await?.get(0))
    }

    /// After a move that couldn't be taken back: something of it may be on the server that it went to, where it's found and can
    /// be undeployed.
    pub(in crate::store) async fn note_arrival(&self) -> Result<()> {
        let sql = "UPDATE project_places p SET begun = greatest(p.begun, d.arrival), begun_at = greatest(p.begun_at, d.accepted_at)
                   FROM deployments d WHERE d.id = $1 AND p.project_id = d.project_id AND p.project_slug = d.project_slug
                     AND p.server = d.server";
        self.tx.execute(sql, &[&self.head.id.0]).await?;
        Ok(())
    }

    /// After the success of a move: pushes go to where the project is now, and it's taken off the server where it was.
    pub(in crate::store) async fn leave_former_server(&self, undeploys: bool) -> Result<()> {
        let (Some(project), Some(server), Some(order)) = (&self.head.project, &self.head.server, &self.head.moves)
        else {
            return Ok(());
        };
        watch_elsewhere(self.tx, project.id, &order.from, server).await?;
        let moved: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&project.id.0, &project.slug.as_str()];
        // The allocation that is known is left: the next code that comes alone goes where the project is.
        let sql = "UPDATE project_halves SET place_left = true
                   WHERE project_id = $1 AND project_slug = $2 AND half = 'resources'";
        self.tx.execute(sql, &moved).await?;
        // What moves before it were refused for is settled.
        let sql = "UPDATE dead_letters l SET state = 'archived', updated_at = now(),
                       note = concat_ws(E'\\n', l.note, 'It was moved by deployment ' || $3)
                   FROM deployments d WHERE d.id = l.deployment_id AND d.project_id = $1 AND d.action = 'move'
                     AND l.id = ANY (ARRAY(SELECT o.id FROM dead_letters o WHERE o.project_slug = $2 AND o.state = 'open'
                         ORDER BY o.last_failed_at DESC LIMIT 100))";
        self.tx.execute(sql, &[moved[0], moved[1], &self.head.id.to_string()]).await?;
        if !undeploys {
            return Ok(());
        }
        let row = self.tx.query_one("SELECT acts_on FROM deployments WHERE id = $1", &[&self.head.id.0]).await?;
        let Some(version) = row.get::<_, Option<uuid::Uuid>>("acts_on").map(DeploymentId) else { return Ok(()) };
        let basis = read_basis(self.tx, order.from.clone(), version).await?;
        let (request, incoming) = undeploy_request(self.head.id, project, order, &self.head.correlation)?;
        let new = NewDeployment {
            project,
            repository: &basis.repository,
            commit: &basis.commit,
            server: Some(&order.from),
            acting: basis.acting,
            correlation: &self.head.correlation,
            sequence: None,
            action: Action::Undeploy,
            remove_volumes: false,
            acts_on: Some(version),
            moves: None,
            reason: request.event.data.reason.as_deref(),
            unbound_secrets: &[],
        };
        if new.insert(self.tx, &request, &incoming).await?.is_none() {
            return Ok(());
        }
        if let Some(mut undeployment) = LockedDeployment::lock(self.tx, request.deployment_id()).await? {
            undeployment.enqueue_progress(ProgressKind::Accepted { unbound_secrets: Vec::new() }).await?;
        }
        self.tx.wake_runner().await?;
        Ok(())
    }
}

/// The message with which somebody would ask for it: a dead letter of it can be replayed like any other.
fn undeploy_request(
    moved: DeploymentId,
    project: &Project,
    order: &MoveOrder,
    correlation: &Correlation,
) -> Result<(Request<ProjectCommand>, Incoming)> {
    const TABLE: &str = "deployments";
    let data = ProjectUndeploy {
        project: project.clone(),
        server: Some(order.from.clone()),
        remove_volumes: false,
        reason: Some(format!("it was moved by deployment {moved}")),
        sequence: None,
        expires_at: None,
        correlation: correlation.clone(),
    };
    let event = CloudEvent::new(EventType::ProjectUndeploy, source_of(moved), EVENT_ID, data);
    let event = CloudEvent { subject: Some(project.slug.to_string()), ..event };
    let incoming = Incoming {
        body: readable(TABLE, "request", serde_json::to_vec(&event))?,
        content_type: Some(CONTENT_TYPE.to_owned()),
        exchange: topology::REQUESTS.to_owned(),
        routing_key: EventType::ProjectUndeploy.as_str().to_owned(),
        ..Incoming::default()
    };
    match readable(TABLE, "request", slipway_protocol::read(&incoming.body, &incoming.metadata()))? {
        Message::Command(request) => Ok((*request, incoming)),
        _ => readable(TABLE, "request", Err("it isn't about a project")),
    }
}
