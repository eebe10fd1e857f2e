//! Commands about a project at the door: which server and which version they mean is decided here, once, when they
//! arrive. From then on each is a deployment like any other, with the request of the version that it acts with.

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, DeploymentId, ErrorCode, Failure, Project, ProjectCommand, Request};
use tokio_postgres::Transaction;
use tokio_postgres::types::Json;

use super::error::readable;
use super::intake::{Accepted, Newcomer};
use super::replays::replay_of;
use super::versions::{CONTENT, GONE, TOUCHED, choose, versions};
use super::{Result, Store, commit, deadline};
use crate::crash::Write;
use crate::message::Incoming;
use crate::scheduler::Order;

/// What a command acts with.
struct Base {
    server: ServerHandle,
    deployment: DeploymentId,
}

impl Store {
    /// Stores a valid command, as [`Store::accept`] does a request to deploy; a rollback goes to one of the last
    /// `versions` versions at most. The inner error is the command's: nothing was written, it's to be refused.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn command(
        &self,
        request: &Request<ProjectCommand>,
        incoming: &Incoming,
        versions: u32,
    ) -> Result<Result<Accepted, Failure>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            let data = &request.event.data;
            let newcomer = Newcomer::lock(&tx, request.deployment_id(), data.project.id, data.action).await?;
            // Before anything is looked up: what a command means may be another thing by the time of its duplicate.
            let known = tx.query_opt("SELECT 1 FROM deployments WHERE id = $1", &[&newcomer.id.0]).await?;
            if known.is_some() {
                return Ok(Ok(Accepted::Duplicate));
            }
            let base = match base(&tx, data, versions).await? {
                Ok(base) => base,
                Err(failure) => return Ok(Err(failure)),
            };
            let Some(order) = insert(&tx, request, incoming, &base).await? else { return Ok(Ok(Accepted::Duplicate)) };
            let accepted = self.place(&tx, &newcomer, &base.server, order, replay_of(request)).await?;
            commit(tx, Write::Accept).await?;
            Ok(Ok(accepted))
        })
        .await
    }
}

fn refuse<T>(code: ErrorCode, message: String) -> Result<Result<T, Failure>> {
    Ok(Err(Failure::new(code, None, message)))
}

async fn base(tx: &Transaction<'_>, command: &ProjectCommand, limit: u32) -> Result<Result<Base, Failure>> {
    let project = &command.project;
    let server = match server(tx, command).await? {
        Ok(server) => server,
        Err(failure) => return Ok(Err(failure)),
    };
    let deployment = match command.action {
        Action::Rollback => {
            let recorded = versions(tx, project, &server, limit).await?;
            let present = present(tx, project, &server).await?;
            let chosen = choose(command.to.as_ref(), &recorded, present.as_ref()).map(|v| v.deployment);
            if chosen.is_none() {
                let which =
                    if command.to.is_some() { "the version that the request names" } else { "a version before" };
                let message = format!(
                    "{which} isn't among the {} recorded of {} on {server} (the last {limit} are kept)",
                    recorded.len(),
                    project.slug
                );
                return refuse(ErrorCode::UnknownVersion, message);
            }
            chosen
        }
        _ => latest(tx, project, &server).await?,
    };
    match deployment {
        Some(deployment) => Ok(Ok(Base { server, deployment })),
        None => refuse(ErrorCode::UnknownProject, format!("nothing of {} was ever on {server}", project.slug)),
    }
}

/// The one server that the command can mean.
async fn server(tx: &Transaction<'_>, command: &ProjectCommand) -> Result<Result<ServerHandle, Failure>> {
    let (project, named) = (&command.project, command.server.as_ref().map(ServerHandle::as_str));
    let sql = format!(
        "SELECT server, max(arrival) > max({GONE}) AS present FROM deployments d
         WHERE project_id = $1 AND project_slug = $2 AND ($3::text IS NULL OR server = $3) AND {TOUCHED}
         GROUP BY server ORDER BY server"
    );
    let rows = tx.query(&sql, &[&project.id.0, &project.slug.as_str(), &named]).await?;
    let on = |only_present: bool| {
        let rows = rows.iter().filter(|row| !only_present || row.get::<_, bool>("present"));
        rows.map(|row| row.get::<_, String>("server")).collect::<Vec<_>>()
    };
    let (all, present) = (on(false), on(true));
    // What was taken off its server may be taken off again: perhaps with its volumes this time.
    let candidates = if present.is_empty() && command.action == Action::Undeploy { &all } else { &present };
    let slug = &project.slug;
    match candidates.as_slice() {
        [one] => Ok(Ok(readable("deployments", "server", ServerHandle::new(one.clone()))?)),
        [] if all.is_empty() => {
            let place = named.map(|server| format!(" on {server}")).unwrap_or_default();
            refuse(
                ErrorCode::UnknownProject,
                format!("no deployment of project {} as {slug}{place} is known", project.id),
            )
        }
        [] => refuse(ErrorCode::NotDeployed, format!("{slug} was undeployed from {}", all.join(", "))),
        many => refuse(ErrorCode::AmbiguousServer, format!("{slug} is on {}; the request names none", many.join(", "))),
    }
}

/// The deployment that says best what is on the server: the last one with success, or else the last one that began.
async fn latest(tx: &Transaction<'_>, project: &Project, server: &ServerHandle) -> Result<Option<DeploymentId>> {
    let sql = format!(
        "SELECT id FROM deployments d WHERE project_id = $1 AND project_slug = $2 AND server = $3 AND {TOUCHED}
         ORDER BY state IN ('succeeded', 'already_deployed') AND arrival > {GONE} DESC, arrival DESC LIMIT 1"
    );
    let row = tx.query_opt(&sql, &[&project.id.0, &project.slug.as_str(), &server.as_str()]).await?;
    Ok(row.map(|row| DeploymentId(row.get(0))))
}

/// What is being deployed, if anything is.
async fn present(tx: &Transaction<'_>, project: &Project, server: &ServerHandle) -> Result<Option<serde_json::Value>> {
    let sql = format!(
        "SELECT {CONTENT} FROM deployments WHERE project_id = $1 AND project_slug = $2 AND server = $3
            AND action IN ('deploy', 'rollback') AND state IN ('pending', 'running') ORDER BY arrival DESC LIMIT 1"
    );
    let row = tx.query_opt(&sql, &[&project.id.0, &project.slug.as_str(), &server.as_str()]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Inserts the command as pending; `None` when it exists.
async fn insert(
    tx: &Transaction<'_>,
    request: &Request<ProjectCommand>,
    incoming: &Incoming,
    base: &Base,
) -> Result<Option<Order>> {
    let (event, data) = (&request.event, &request.event.data);
    let sequence = data.sequence.map(|s| i64::try_from(s).unwrap_or(i64::MAX));
    let traceparent = crate::telemetry::current_traceparent().or_else(|| event.traceparent.clone());
    let row = tx
        .query_opt(
            "INSERT INTO deployments (id, source, event_id, replay_id, project_id, project_slug, repository, commit_sha,
                 server, request, correlation, body, content_type, headers, exchange, routing_key, producer_sequence,
                 event_time, state, traceparent, action, remove_volumes, acts_on, reason)
             SELECT $2, $3, $4, $5, $6, $7, repository, commit_sha, server,
                 request #- '{data,sequence}' #- '{data,expires_at}' #- '{data,correlation}',
                 $8, $9, $10, $11, $12, $13, $14, $15, 'pending', $16, $17, $18, id, $19
             FROM deployments WHERE id = $1
             ON CONFLICT (id) DO NOTHING RETURNING arrival",
            &[
                &base.deployment.0,
                &request.deployment_id().0,
                &event.source,
                &event.id,
                &request.replay,
                &data.project.id.0,
                &data.project.slug.as_str(),
                &Json(&data.correlation),
                &incoming.body,
                &incoming.content_type,
                &Json(&incoming.headers),
                &incoming.exchange,
                &incoming.routing_key,
                &sequence,
                &event.time,
                &traceparent,
                &data.action.as_str(),
                &data.remove_volumes,
                &data.reason,
            ],
        )
        .await?;
    Ok(row.map(|row| Order { sequence: data.sequence, time: event.time, arrival: row.get(0) }))
}
