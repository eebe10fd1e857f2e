//! Accepting a command about a project: which server and which version it means is decided here, once, when it arrives.
//! From then on it is a deployment like any other, with the request of the version that it acts with.

use slipway_protocol::names::{CommitSha, RepositoryName, ServerHandle};
use slipway_protocol::{
    Action, CloudEvent, DeploymentId, ErrorCode, Failure, Project, ProjectCommand, ProjectReady, Request,
};

use crate::failpoint::TransactionKind;
use crate::message::Incoming;
use crate::scheduler::{Asking, is_allowed};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::dead_letter::replay::replay_of;
use crate::store::deployment::insert::NewDeployment;
use crate::store::deployment::move_order::{NewMove, refuse_move, without_place};
use crate::store::deployment::places::PLACES;
use crate::store::deployment::superseding::{Admission, IncomingRequest};
use crate::store::deployment::versions::{VERSION_CONTENT, choose_version, versions};
use crate::store::owners::claim::claim_owned;
use crate::store::pushes::watch::heed_command;
use crate::store::sources::scopes;
use crate::store::{Result, Store};

/// What a command acts with.
pub(in crate::store) struct CommandBasis {
    server: ServerHandle,
    deployment: DeploymentId,
    pub repository: RepositoryName,
    pub commit: CommitSha,
    /// That version's request, without what belonged to its own event.
    pub acting: serde_json::Value,
}

impl Store {
    /// Stores a valid command, as [`Store::accept`] does a request to deploy; a rollback goes to one of the last
    /// `versions` versions at most, and the rules about sources must allow it. The inner error is the command's: nothing was written, it's to be refused.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn accept_command(
        &self,
        request: &Request<ProjectCommand>,
        incoming: &Incoming,
        versions: u32,
    ) -> Result<Result<Admission, Failure>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let data = &request.event.data;
            let arriving = IncomingRequest::lock(&tx, request.deployment_id(), data.project.id, data.action).await?;
            // Before anything else: when a duplicate comes, the same command might mean another server or version.
            let known = tx.query_opt("SELECT 1 FROM deployments WHERE id = $1", &[&arriving.id.0]).await?;
            if known.is_some() {
                return Ok(Ok(Admission::Duplicate));
            }
            let basis = match basis(&tx, data, versions).await? {
                Ok(basis) => basis,
                Err(failure) => return Ok(Err(failure)),
            };
            let asking = Asking {
                source: &request.event.source,
                user: incoming.user.as_deref(),
                action: data.action,
                project: Some(data.project.slug.as_str()),
                repository: Some(basis.repository.as_str()),
                server: Some(basis.server.as_str()),
            };
            if !is_allowed(&scopes(&tx).await?, &asking) {
                return Ok(Err(asking.refusal()));
            }
            let moves = match data.action {
                Action::Move => {
                    if let Some(failure) = Box::pin(refuse_move(&tx, data, &basis.server)).await? {
                        return Ok(Err(failure));
                    }
                    let (from, to) = (&basis.server, data.move_to.as_ref());
                    Some(NewMove { from, to, data: data.move_data })
                }
                _ => None,
            };
            let new = NewDeployment {
                project: &data.project,
                repository: &basis.repository,
                commit: &basis.commit,
                // A move gets its server like whatever leaves it to Slipway.
                server: moves.is_none().then_some(&basis.server),
                acting: match moves {
                    Some(_) => without_place(basis.acting.clone()),
                    None => basis.acting.clone(),
                },
                correlation: &data.correlation,
                sequence: data.sequence,
                action: data.action,
                remove_volumes: data.remove_volumes,
                acts_on: Some(basis.deployment),
                moves,
                reason: data.reason.as_deref(),
                unbound_secrets: &[],
            };
            let Some(order) = new.insert(&tx, request, incoming).await? else { return Ok(Ok(Admission::Duplicate)) };
            let accepted =
                self.place_among_contenders(&tx, &arriving, Some(&basis.server), order, replay_of(request)).await?;
            if accepted == Admission::New && data.action != Action::Move {
                let acting: CloudEvent<ProjectReady> =
                    readable("deployments", "request", serde_json::from_value(basis.acting))?;
                let (project, server) = (&data.project, &basis.server);
                if let Err(failure) = claim_owned(&tx, data.action, project, server, &acting.data).await? {
                    return Ok(Err(failure));
                }
                heed_command(&tx, data.project.id, &basis.server, data.action).await?;
            }
            commit(tx, TransactionKind::Accept).await?;
            if data.action == Action::Move {
                self.heard.placements.notify_one();
            }
            Ok(Ok(accepted))
        })
        .await
    }
}

/// What a rollback would act with, if it were asked for now.
#[derive(Debug)]
pub struct RollbackBasis {
    /// The deployment whose version it would go back to.
    pub version: DeploymentId,
    /// That version's request.
    pub event: CloudEvent<ProjectReady>,
}

impl Store {
    /// What a rollback would act with; nothing is written. The inner error is the command's, as of
    /// [`Store::accept_command`].
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn rollback_basis(
        &self,
        command: &ProjectCommand,
        versions: u32,
    ) -> Result<Result<RollbackBasis, Failure>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            match basis(&tx, command, versions).await? {
                Ok(basis) => Ok(Ok(RollbackBasis {
                    version: basis.deployment,
                    event: readable("deployments", "request", serde_json::from_value(basis.acting))?,
                })),
                Err(failure) => Ok(Err(failure)),
            }
        })
        .await
    }
}

fn refuse<T>(code: ErrorCode, message: String) -> Result<Result<T, Failure>> {
    Ok(Err(Failure::new(code, None, message)))
}

async fn basis(
    tx: &StoreTransaction<'_>,
    command: &ProjectCommand,
    limit: u32,
) -> Result<Result<CommandBasis, Failure>> {
    let project = &command.project;
    let server = match server(tx, command).await? {
        Ok(server) => server,
        Err(failure) => return Ok(Err(failure)),
    };
    let deployment = match command.action {
        Action::Rollback => {
            let recorded = versions(tx, project, &server, limit).await?;
            let present = present(tx, project, &server).await?;
            let chosen = choose_version(command.to.as_ref(), &recorded, present.as_ref()).map(|v| v.deployment);
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
        Some(deployment) => Ok(Ok(read_basis(tx, server, deployment).await?)),
        None => refuse(ErrorCode::UnknownProject, format!("nothing of {} was ever on {server}", project.slug)),
    }
}

/// What acts with the version that `deployment` made.
pub(in crate::store) async fn read_basis(
    tx: &StoreTransaction<'_>,
    server: ServerHandle,
    deployment: DeploymentId,
) -> Result<CommandBasis> {
    const TABLE: &str = "deployments";
    // Who deploys pushes, and what images are read with, are no part of a version: they stay as they are now.
    let sql = "SELECT d.repository, d.commit_sha, CASE WHEN w.deployed_by IS NULL THEN plain.request
                   ELSE jsonb_set(plain.request, '{data,repository,pushes_deployed_by}', to_jsonb(w.deployed_by))
                   END AS acting
               FROM deployments d LEFT JOIN watched_branches w USING (project_id)
               LEFT JOIN LATERAL (
                   SELECT n.request #> '{data,registry}' AS registry FROM deployments n
                   WHERE n.project_id = d.project_id AND n.request IS NOT NULL AND n.action = 'deploy'
                     -- Nearly all are there: estimated apart, so few would be that all were read and sorted.
                     AND CASE WHEN n.project_slug = d.project_slug AND n.server = d.server THEN true ELSE false END
                   ORDER BY n.arrival DESC LIMIT 1) newest ON true,
               LATERAL (
                   SELECT d.request #- '{data,sequence}' #- '{data,expires_at}' #- '{data,correlation}'
                       #- '{data,repository,pushes_deployed_by}' #- '{data,registry}' AS request) bare,
               LATERAL (
                   SELECT CASE WHEN newest.registry IS NULL THEN bare.request
                       ELSE jsonb_set(bare.request, '{data,registry}', newest.registry) END AS request) plain
               WHERE d.id = $1";
    let row = tx.query_one(sql, &[&deployment.0]).await?;
    let text = |column: &str| row.get::<_, Option<String>>(column).unwrap_or_default();
    Ok(CommandBasis {
        server,
        deployment,
        repository: readable(TABLE, "repository", RepositoryName::new(text("repository")))?,
        commit: readable(TABLE, "commit_sha", CommitSha::new(text("commit_sha")))?,
        acting: row.get("acting"),
    })
}

/// The one server that the command can mean.
async fn server(tx: &StoreTransaction<'_>, command: &ProjectCommand) -> Result<Result<ServerHandle, Failure>> {
    let (project, named) = (&command.project, command.server.as_ref().map(ServerHandle::as_str));
    let sql = format!(
        "SELECT server, present FROM {PLACES} p
         WHERE project_id = $1 AND project_slug = $2 AND ($3::text IS NULL OR server = $3) AND NOT lost ORDER BY server"
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
async fn latest(tx: &StoreTransaction<'_>, project: &Project, server: &ServerHandle) -> Result<Option<DeploymentId>> {
    let sql = format!(
        "SELECT id FROM deployments WHERE project_id = $1 AND arrival = (
             SELECT CASE WHEN succeeded > coalesce(undeployed, 0) THEN succeeded ELSE newest END FROM {PLACES} p
             WHERE project_id = $1 AND project_slug = $2 AND server = $3)"
    );
    let row = tx.query_opt(&sql, &[&project.id.0, &project.slug.as_str(), &server.as_str()]).await?;
    Ok(row.map(|row| DeploymentId(row.get(0))))
}

/// What is being deployed, if anything is.
async fn present(
    tx: &StoreTransaction<'_>,
    project: &Project,
    server: &ServerHandle,
) -> Result<Option<serde_json::Value>> {
    let sql = format!(
        "SELECT {VERSION_CONTENT} FROM deployments WHERE project_id = $1 AND project_slug = $2 AND server = $3
            AND action IN ('deploy', 'rollback', 'move') AND state IN ('pending', 'running') ORDER BY arrival DESC LIMIT 1"
    );
    let row = tx.query_opt(&sql, &[&project.id.0, &project.slug.as_str(), &server.as_str()]).await?;
    Ok(row.map(|row| row.get(0)))
}
