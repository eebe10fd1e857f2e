//! The door: one transaction that either makes a message into one deployment, or into one dead letter and one result,
//! or finds that it was here before.

use jiff::Timestamp;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{
    Action, DeploymentId, DeploymentResult, EventType, Failure, Outcome, PartialEnvelope, ProgressKind, ProjectId,
    Request, topology,
};
use tokio_postgres::Transaction;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::cancellations::foreseen;
use super::ending::{AttemptSummary, DeploymentEnd};
use super::error::readable;
use super::ledger::LockedDeployment;
use super::new_dead_letter::NewDeadLetter;
use super::new_deployment::{NewDeployment, order, place_of};
use super::replays::{replay_of, replayed};
use super::state::State;
use super::{Result, Store, StoreTransaction, commit, deadline};
use crate::crash::TransactionKind;
use crate::message::Incoming;
use crate::scheduler::{Contender, GiveWay, OlderDeployment, Order, resolve};

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
}

/// A request that is about to be stored. Of two requests for one project, one is placed after the other.
pub(super) struct IncomingRequest {
    pub id: DeploymentId,
    pub project: ProjectId,
    pub action: Action,
}

impl IncomingRequest {
    pub(super) async fn lock(
        tx: &Transaction<'_>,
        id: DeploymentId,
        project: ProjectId,
        action: Action,
    ) -> Result<Self> {
        tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&project.to_string()]).await?;
        super::cancellations::lock(tx, id).await?;
        Ok(Self { id, project, action })
    }
}

/// A message that can't become a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedMessage {
    /// Why.
    pub failure: Failure,
    /// What could be read of it.
    pub known: PartialEnvelope,
    /// Whether its body holds a secret in plain text, which no table may keep.
    pub withhold: bool,
}

impl Store {
    /// Stores a valid request to deploy. An older request for the same project that still waits is superseded, one that
    /// runs is asked to stop; a request that is older than what is here is superseded at once.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn accept(&self, request: &Request, incoming: &Incoming) -> Result<Admission> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let data = &request.event.data;
            let newcomer = IncomingRequest::lock(&tx, request.deployment_id(), data.project.id, Action::Deploy).await?;
            let new = NewDeployment {
                project: &data.project,
                repository: &data.repository.name,
                commit: &data.repository.commit,
                server: &data.server.handle,
                acting: readable("deployments", "request", serde_json::to_value(&request.event))?,
                correlation: &data.correlation,
                sequence: data.sequence,
                action: Action::Deploy,
                remove_volumes: false,
                acts_on: None,
                reason: None,
            };
            let Some(order) = new.insert(&tx, request, incoming).await? else { return Ok(Admission::Duplicate) };
            let replay = replay_of(request);
            let accepted = self.place(&tx, &newcomer, &data.server.handle, order, replay).await?;
            commit(tx, TransactionKind::Accept).await?;
            Ok(accepted)
        })
        .await
    }

    /// Gives a request that was just inserted its place among the project's others.
    pub(super) async fn place(
        &self,
        tx: &StoreTransaction<'_>,
        newcomer: &IncomingRequest,
        server: &ServerHandle,
        order: Order,
        replay: Option<Uuid>,
    ) -> Result<Admission> {
        let id = newcomer.id;
        let Some(mut ledger) = LockedDeployment::lock(tx, id).await? else { return Ok(Admission::Duplicate) };
        ledger.progress(ProgressKind::Accepted).await?;
        if foreseen(tx, id).await? {
            ledger.finish(self, &DeploymentEnd::Cancelled, &AttemptSummary::default()).await?;
            return Ok(Admission::Cancelled);
        }
        let rivals = rivals(tx, newcomer, server).await?;
        let orders: Vec<Contender> = rivals.iter().map(|(rival, _)| *rival).collect();
        let order = replayed(tx, id, replay, order, &orders).await?;
        let verdict = resolve(&order, &orders);
        if let Some(by) = verdict.superseded_by {
            ledger.finish(self, &DeploymentEnd::Superseded { by: Some(by) }, &AttemptSummary::default()).await?;
            return Ok(Admission::Superseded(by));
        }
        for (older, action) in rivals.iter().filter(|(rival, _)| verdict.supersedes.contains(&rival.id)) {
            self.supersede(tx, older.id, *action, newcomer).await?;
        }
        tx.execute("SELECT pg_notify($1, '')", &[&super::wakeups::DEPLOYMENTS]).await?;
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
        let Some(mut ledger) = LockedDeployment::lock(tx, older).await? else { return Ok(()) };
        let running = match ledger.head.state {
            State::Pending => false,
            State::Running => true,
            State::Ended(_) => return Ok(()),
        };
        let claimed = ledger.head.fence.is_some();
        let must_restore = !running && ledger.settles_before(by).await?;
        let standing = OlderDeployment { action, running, claimed, must_restore };
        match standing.give_way_to(newer.action) {
            GiveWay::RestoreFirst => {
                let claim_again =
                    "UPDATE deployments SET superseded_by = $2, run_at = least(run_at, now()) WHERE id = $1";
                tx.execute(claim_again, &[&older.0, &by.0]).await?;
            }
            GiveWay::EndNow => {
                ledger.finish(self, &DeploymentEnd::Superseded { by: Some(by) }, &AttemptSummary::default()).await?;
            }
            // Its worker reads this at the next boundary between stages.
            GiveWay::AtNextStage => {
                tx.execute("UPDATE deployments SET superseded_by = $2 WHERE id = $1", &[&older.0, &by.0]).await?;
            }
            GiveWay::GoOn => {}
        }
        Ok(())
    }

    /// Stores a refused message: its dead letter and, when its ids could be read, its result. False when it was here
    /// before; then nothing was written.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn refuse(&self, refusal: &RefusedMessage, incoming: &Incoming) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            if !end_refused(&tx, refusal).await? {
                return Ok(false);
            }
            let new = NewDeadLetter::of_refused(refusal, incoming).insert(&tx, self).await?;
            commit(tx, TransactionKind::Refuse).await?;
            Ok(new)
        })
        .await
    }
}

/// Stores the end of a request that never was a deployment, and its result, when its ids could be read; false when its
/// deployment is here already.
pub(super) async fn end_refused(tx: &StoreTransaction<'_>, refusal: &RefusedMessage) -> Result<bool> {
    let known = &refusal.known;
    let Some(id) = known.deployment_id() else { return Ok(true) };
    if !insert_refused(tx, id, refusal).await? {
        return Ok(false);
    }
    let Some(mut ledger) = LockedDeployment::lock(tx, id).await? else { return Ok(false) };
    let result = refused_result(id, refusal, ledger.head.accepted_at);
    tx.execute("UPDATE deployments SET result = $2 WHERE id = $1", &[&id.0, &Json(&result)]).await?;
    let key = topology::result_key(known.project.as_ref().map(|p| &p.slug), Outcome::Failed);
    ledger.event(EventType::Result, key, result).await?;
    Ok(true)
}

/// Of the project's other requests that were accepted and that the newcomer stands against, the newest and all that
/// haven't ended. Where a project is to be deployed has one answer only, whatever the server; anything else is about
/// one server.
async fn rivals(
    tx: &Transaction<'_>,
    newcomer: &IncomingRequest,
    server: &ServerHandle,
) -> Result<Vec<(Contender, Action)>> {
    const THEM: &str = "project_id = $1 AND id <> $2 AND request IS NOT NULL AND state <> 'cancelled'
                        AND (server = $3 OR (action = 'deploy' AND $4))";
    let place = place_of("d");
    let sql = format!(
        "SELECT id, producer_sequence, coalesce(event_time, accepted_at) AS event_time, arrival, action,
             state IN ('pending', 'running') AS open
         FROM deployments WHERE {THEM} AND (state IN ('pending', 'running')
             OR id = (SELECT id FROM deployments d WHERE {THEM} ORDER BY {place} DESC LIMIT 1))"
    );
    let deploys = newcomer.action == Action::Deploy;
    let rows = tx.query(&sql, &[&newcomer.project.0, &newcomer.id.0, &server.as_str(), &deploys]).await?;
    let rival = |row: &tokio_postgres::Row| {
        let rival = Contender { id: DeploymentId(row.get("id")), order: order(row), open: row.get("open") };
        Ok((rival, readable("deployments", "action", row.get::<_, &str>("action").parse())?))
    };
    rows.iter().map(rival).collect()
}

/// Inserts a refused request as failed, so that its duplicate is recognised; false when it exists.
async fn insert_refused(tx: &StoreTransaction<'_>, id: DeploymentId, refusal: &RefusedMessage) -> Result<bool> {
    let known = &refusal.known;
    let inserted = tx
        .execute(
            "INSERT INTO deployments (id, source, event_id, replay_id, project_id, project_slug, repository, commit_sha,
                 server, correlation, state, failure, traceparent, first_failed_at, last_failed_at, finished_at, action)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'failed', $11, $12, now(), now(), now(), $13)
             ON CONFLICT (id) DO NOTHING",
            &[
                &id.0,
                &known.source.clone().unwrap_or_default(),
                &known.id.clone().unwrap_or_default(),
                &known.replay,
                &known.project.as_ref().map(|p| p.id.0),
                &known.project.as_ref().map(|p| p.slug.as_str()),
                &known.repository.as_ref().map(|r| r.as_str()),
                &known.commit.as_ref().map(|c| c.as_str()),
                &known.server.as_ref().map(|s| s.as_str()),
                &Json(&known.correlation),
                &Json(&refusal.failure),
                &crate::telemetry::current_traceparent().or_else(|| known.traceparent.clone()),
                &known.action().as_str(),
            ],
        )
        .await?;
    if inserted == 1 {
        tx.ends(Outcome::Failed);
    }
    Ok(inserted == 1)
}

fn refused_result(id: DeploymentId, refusal: &RefusedMessage, accepted_at: Timestamp) -> DeploymentResult {
    let known = &refusal.known;
    DeploymentResult {
        deployment_id: id,
        action: known.action(),
        outcome: Outcome::Failed,
        project: known.project.clone(),
        repository: known.repository.clone(),
        commit: known.commit.clone(),
        server: known.server.clone(),
        url: None,
        failure: Some(refusal.failure.clone()),
        missing_secret: None,
        superseded_by: None,
        serving: None,
        also_on: Vec::new(),
        exposed: Vec::new(),
        services: Vec::new(),
        stages: Vec::new(),
        attempts: 0,
        accepted_at,
        finished_at: accepted_at,
        correlation: known.correlation.clone(),
    }
}
