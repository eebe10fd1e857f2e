//! Claiming a deployment: it becomes running under a new lease. Whose turn it is, is in `queue`.

use slipway_protocol::{Action, CloudEvent, ErrorCode, EventType, Failure, ProgressKind, ProjectReady};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::number;
use crate::store::deployment::basis::ClaimBasis;
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::head::DeploymentHead;
use crate::store::deployment::held_deployments::Picked;
use crate::store::deployment::history::DeploymentHistory;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::move_order::MoveOrder;
use crate::store::deployment::queue::{ClaimOptions, lock_due};
use crate::store::deployment::state::{Boundary, State};
use crate::store::outbox::event_sequence::{next_number, told};
use crate::store::owners::claim::{KnownOwners, OwnedBasis, claim_owned, owners_of};
use crate::store::owners::domains::claim_domains;
use crate::store::{Result, Store};

/// A deployment that this process has to carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The right to do so.
    pub lease: Lease,
    /// When that was asked for, by this process's clock.
    pub asked_at: Instant,
    /// Whether the database has failed at it before: then it was claimed alone, and others may be due.
    pub was_held: bool,
    /// What is to be done; it decides which stages are run.
    pub action: Action,
    /// Undeploy: with all data.
    pub remove_volumes: bool,
    /// Move: where the project is, and what becomes of its data.
    pub moves: Option<MoveOrder>,
    /// The request as it was accepted; for a command the one of the version that it acts with.
    pub event: CloudEvent<ProjectReady>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// How often attempts of it were interrupted.
    pub interruptions: u32,
    /// How often an attempt wasn't counted, since its server couldn't be reached.
    pub waits: u32,
    /// What the project has for itself.
    pub owned: OwnedBasis,
    /// What it has behind it.
    pub history: DeploymentHistory,
    /// What is known of its server and of its project there; absent if that couldn't be read.
    pub basis: Option<ClaimBasis>,
    /// Trace context of the request's intake.
    pub traceparent: Option<String>,
    /// Whether it's to be carried out. Otherwise it was claimed only to restore the previous release.
    pub boundary: Boundary,
}

impl Store {
    /// Claims the deployment that has been due for longest, of those whose project nobody acts on and whose server has
    /// room. `options` may be the lease's duration alone: the limits are the default ones then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim(&self, options: impl Into<ClaimOptions>) -> Result<Option<Claim>> {
        Ok(self.claim_many(&options.into(), 1).await?.pop())
    }

    /// Claims at most `most` of the deployments that are due, as [`Store::claim`] does one after the other. Claims wait for
    /// each other, so that no limit is exceeded; taken together they wait once.
    ///
    /// # Errors
    /// When the database fails. If it failed at one of several, nobody knows at which: claimed one at a time, that one is
    /// found, and held.
    pub async fn claim_many(&self, options: &ClaimOptions, most: usize) -> Result<Vec<Claim>> {
        let picked = Picked::default();
        let claimed = Box::pin(self.claim_picked(options, most, &picked)).await;
        let claims = picked.hold_failing(self, claimed).await?;
        let held: Vec<Uuid> =
            claims.iter().filter(|claim| claim.was_held).map(|claim| claim.lease.deployment.0).collect();
        self.let_go_deployments(&held).await;
        Ok(claims)
    }

    async fn claim_picked(&self, options: &ClaimOptions, most: usize, picked: &Picked) -> Result<Vec<Claim>> {
        let mut client = self.client().await?;
        let tx = deadline(StoreTransaction::begin(&mut client)).await?;
        // Others may claim for as long as they may: the time for what follows begins after that.
        let due = deadline(lock_due(&tx, options, most, picked)).await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        deadline(async {
            let claims = self.claim_due(&tx, due, options).await?;
            commit(tx, TransactionKind::Claim).await?;
            Ok(claims)
        })
        .await
    }

    async fn claim_due(
        &self,
        tx: &StoreTransaction<'_>,
        due: Vec<(DeploymentHead, Row)>,
        options: &ClaimOptions,
    ) -> Result<Vec<Claim>> {
        // Not before others have claimed: it's from here on that the leases last.
        let asked_at = Instant::now();
        let leases = self.acquire_leases(tx, &due, options.lease).await?;
        let owners = owners_of(tx, &due).await?;
        let mut claims = Vec::with_capacity(due.len());
        for (head, row) in due {
            // Somebody was faster.
            let Some((lease, basis)) = leases.iter().find(|(lease, _)| lease.deployment == head.id) else {
                continue;
            };
            let event = row.try_get::<_, Json<CloudEvent<ProjectReady>>>("request").map(|Json(event)| event);
            let refused = match event {
                Ok(event) => match claim_as(tx, &head, &event.data, &owners).await? {
                    Ok(owned) => {
                        let basis = basis.clone();
                        claims.push(Claim { basis, asked_at, ..claim(head, &row, lease.clone(), event, owned) });
                        continue;
                    }
                    Err(failure) => failure,
                },
                // Left where it is, it would be claimed again and again, before all others.
                Err(_) => {
                    let message = "the stored request can't be read by this version of the worker";
                    Failure::new(ErrorCode::InternalError, None, message)
                }
            };
            self.end_claimed(tx, head, lease, options, refused).await?;
        }
        self.begin_attempts(tx, &claims, options).await?;
        Ok(claims)
    }

    /// Ends a deployment that was claimed and can't be carried out: its request is unreadable, or what it needs was handed
    /// over since it was accepted, so that what serves is the other project's.
    async fn end_claimed(
        &self,
        tx: &StoreTransaction<'_>,
        mut head: DeploymentHead,
        lease: &Lease,
        options: &ClaimOptions,
        failure: Failure,
    ) -> Result<()> {
        tx.execute(
            "UPDATE deployments SET fence = $2, owner = $3, registry = $4, attempt = attempt + 1,
                 started_at = coalesce(started_at, now()) WHERE id = $1",
            &[&head.id.0, &lease.fence.0, &self.name, &options.registry],
        )
        .await?;
        (head.fence, head.attempt) = (Some(lease.fence.0), lease.attempt);
        let mut locked = LockedDeployment { tx, head };
        locked.step(State::Running).await?;
        let unreadable = failure.code == ErrorCode::InternalError;
        let end = match locked.head.boundary() {
            Boundary::Superseded(by) if !unreadable => DeploymentEnd::Superseded { by: Some(by) },
            Boundary::Cancelled if !unreadable => DeploymentEnd::Cancelled,
            _ => DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" },
        };
        locked.finish(self, &end, &AttemptSummary::default()).await.map(drop)
    }

    /// Writes that the attempts begin, and tells it.
    async fn begin_attempts(&self, tx: &StoreTransaction<'_>, claims: &[Claim], options: &ClaimOptions) -> Result<()> {
        let (mut ids, mut fences, mut news) = (Vec::new(), Vec::new(), Vec::new());
        for Claim { lease, attempt, .. } in claims {
            // The step from pending was checked where the row was locked.
            ids.push(lease.deployment.0);
            fences.push(lease.fence.0);
            news.push(told(&ProgressKind::AttemptStarted { attempt: *attempt })?);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let next = next_number("d.id", "d.next_sequence");
        let sql = format!(
            "WITH begun AS (
                       UPDATE deployments d SET state = 'running', fence = c.fence, owner = $4, registry = $5,
                           attempt = attempt + 1, started_at = coalesce(started_at, now()), finished_at = NULL,
                           next_sequence = {next} + 1
                       FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS c (id, fence, told) WHERE d.id = c.id
                       RETURNING d.id, d.next_sequence - 1 AS sequence, c.told, d.traceparent),
                   told AS (
                       INSERT INTO outbox (deployment_id, sequence, events, type, told, traceparent, must_route)
                       SELECT id, sequence, 1, $6, told, nullif($7, traceparent), false FROM begun)
                   SELECT CASE WHEN $8::text IS NOT NULL THEN pg_notify($8, '') END"
        );
        let traceparent = crate::telemetry::current_traceparent();
        let kind = EventType::Progress.as_str();
        let relay = tx.relay_to_wake();
        tx.execute(&sql, &[&ids, &fences, &news, &self.name, &options.registry, &kind, &traceparent, &relay]).await?;
        Ok(())
    }
}

fn claim(head: DeploymentHead, row: &Row, lease: Lease, event: CloudEvent<ProjectReady>, owned: OwnedBasis) -> Claim {
    Claim {
        action: head.action,
        remove_volumes: head.remove_volumes,
        moves: head.moves.clone(),
        event,
        attempt: lease.attempt,
        lease,
        asked_at: Instant::now(),
        was_held: row.get("is_held"),
        interruptions: head.interruptions,
        waits: number(row, "waits"),
        owned,
        history: DeploymentHistory::read(row),
        basis: None,
        boundary: head.boundary(),
        traceparent: head.traceparent,
    }
}

/// As [`claim_owned`], for a deployment of which it's known whose its slug and its repository's CI are.
async fn claim_as(
    tx: &StoreTransaction<'_>,
    head: &DeploymentHead,
    request: &ProjectReady,
    owners: &KnownOwners,
) -> Result<Result<OwnedBasis, Failure>> {
    let (Some(project), Some(server)) = (&head.project, &head.server) else { return Ok(Ok(OwnedBasis::default())) };
    match owners.own(head.id, project.id, head.action, request) {
        // Its domains are nearly always its own already, since the request was accepted with them.
        Some(owned) if head.action.deploys() => Ok(claim_domains(tx, project, server, request).await?.map(|()| owned)),
        Some(owned) => Ok(Ok(owned)),
        None => claim_owned(tx, head.action, project, server, request).await,
    }
}
