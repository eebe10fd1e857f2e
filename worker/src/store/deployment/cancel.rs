//! Cancelling a deployment. Who asked for it, when and why is stored, whatever comes of it.

use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::{DeploymentCancel, DeploymentId, ErrorCode, Request};
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::connection::wakeups;
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::State;
use crate::store::halves::withdraw::withdraw_half;
use crate::store::{Result, Store};

/// A request to cancel a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Identifies the request; a second one with the same id changes nothing.
    pub id: Uuid,
    /// The deployment to be cancelled; its own request may not have come yet.
    pub deployment: DeploymentId,
    /// Who asks: CloudEvents `source`, or the person.
    pub source: String,
    /// CloudEvents `id`; for a person's request the same as `id`.
    pub event_id: String,
    /// The reason that was given, for the record.
    pub reason: Option<String>,
}

impl CancelRequest {
    /// The request of a person.
    #[must_use]
    pub fn of_operator(deployment: DeploymentId, who: &str, reason: Option<String>) -> Self {
        let id = Uuid::now_v7();
        Self { id, deployment, source: who.to_owned(), event_id: id.to_string(), reason }
    }

    /// The request of a cancel event; `None` when the event names no deployment, which the decoder never lets through.
    #[must_use]
    pub fn of_event(request: &Request<DeploymentCancel>) -> Option<Self> {
        Some(Self {
            id: request.deployment_id().0,
            deployment: request.event.data.deployment()?,
            source: request.event.source.clone(),
            event_id: request.event.id.clone(),
            reason: request.event.data.reason.clone(),
        })
    }
}

/// What a request to cancel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelOutcome {
    /// The state that the deployment was in: a pending one has ended now, a running one was asked to stop, one that
    /// had ended stays as it is. `None` for a deployment that isn't known; should its request come, it ends at once.
    pub found: Option<State>,
    /// Whether the same request came before, and so nothing was written.
    pub duplicate: bool,
}

/// A request to cancel, as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancellation {
    /// Who asked: CloudEvents `source`, or the person.
    pub source: String,
    /// CloudEvents `id` of the request to cancel.
    pub event_id: String,
    /// The reason that was given.
    pub reason: Option<String>,
    /// The state that the deployment was in; `None` when it wasn't known.
    pub found: Option<State>,
    /// When it was stored, by the database's clock.
    pub requested_at: Timestamp,
}

const UNKNOWN: &str = "unknown";

impl Store {
    /// Cancels a deployment in the name of this process; see [`Store::request_cancel`]. `None` when there is no such
    /// deployment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cancel(&self, id: DeploymentId) -> Result<Option<State>> {
        Ok(self.request_cancel(&CancelRequest::of_operator(id, self.name(), None)).await?.found)
    }

    /// Stores a request to cancel and carries it out: a waiting deployment ends, a running attempt is asked to stop.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn request_cancel(&self, request: &CancelRequest) -> Result<CancelOutcome> {
        self.carry_out_cancel(request, None).await
    }

    /// As [`Store::request_cancel`], for an operator, whose action is recorded.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn cancel_by_operator(&self, deployment: DeploymentId, operator: &Operator) -> Result<CancelOutcome> {
        let request = CancelRequest::of_operator(deployment, &operator.who, operator.why.clone());
        self.carry_out_cancel(&request, Some(operator)).await
    }

    async fn carry_out_cancel(&self, request: &CancelRequest, operator: Option<&Operator>) -> Result<CancelOutcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            // The deployment's own request may arrive at the same moment: whichever is second sees the other.
            lock_cancellation(&tx, request.deployment).await?;
            if let Some(found) = recorded_outcome(&tx, request).await? {
                return Ok(CancelOutcome { found, duplicate: true });
            }
            let locked = LockedDeployment::lock(&tx, request.deployment).await?;
            let withdrawn = withdraw_half(&tx, request.deployment).await?;
            let found = match &locked {
                Some(locked) => Some(state_at_request(locked).await?),
                None => withdrawn.then_some(State::Pending),
            };
            insert_cancellation(&tx, request, found).await?;
            if let Some(operator) = operator {
                let details = json!({ "found": found.map_or(UNKNOWN, State::as_str) });
                record(&tx, OperatorAction::Cancel, &request.deployment.to_string(), operator, &details).await?;
            }
            match locked {
                Some(mut locked) if found == Some(State::Pending) => {
                    locked.finish(self, &DeploymentEnd::Cancelled, &AttemptSummary::default()).await?;
                }
                Some(_) if found == Some(State::Running) => {
                    tx.execute(
                        "UPDATE deployments SET cancel_requested_at = coalesce(cancel_requested_at, now()),
                             run_at = least(run_at, now()) WHERE id = $1",
                        &[&request.deployment.0],
                    )
                    .await?;
                    tx.execute("SELECT pg_notify($1, $2)", &[&wakeups::DEPLOYMENTS, &wakeups::CANCEL_REQUESTED])
                        .await?;
                }
                Some(_) | None => {}
            }
            commit(tx, TransactionKind::Cancel).await?;
            Ok(CancelOutcome { found, duplicate: false })
        })
        .await
    }

    /// Archives the dead letters of cancellations of a deployment whose request came while they were being refused.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_overtaking_cancels(&self, deployment: DeploymentId) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            lock_cancellation(&tx, deployment).await?;
            if LockedDeployment::lock(&tx, deployment).await?.is_some() {
                archive_overtaking(&tx, deployment).await?;
            }
            commit(tx, TransactionKind::Cancel).await
        })
        .await
    }

    /// Who asked to cancel a deployment, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cancellations(&self, id: DeploymentId) -> Result<Vec<Cancellation>> {
        deadline(async {
            let rows = self
                .client()
                .await?
                .query(
                    "SELECT source, event_id, reason, found, requested_at FROM cancellations
                     WHERE deployment_id = $1 ORDER BY requested_at, id",
                    &[&id.0],
                )
                .await?;
            let cancellation = |row: &tokio_postgres::Row| Cancellation {
                source: row.get("source"),
                event_id: row.get("event_id"),
                reason: row.get("reason"),
                found: state(row.get("found")).unwrap_or(Some(State::Unknown)),
                requested_at: row.get("requested_at"),
            };
            Ok(rows.iter().map(cancellation).collect())
        })
        .await
    }
}

/// The state that a request to cancel finds. A waiting deployment counts as running when the previous release has to be
/// restored: it gets an attempt now, for that and nothing else. Deployments that were to give way to the cancelled one,
/// and haven't ended yet, go on.
async fn state_at_request(locked: &LockedDeployment<'_>) -> Result<State> {
    let head = &locked.head;
    if head.state != State::Pending {
        return Ok(head.state);
    }
    if head.fence.is_some() {
        return Ok(State::Running);
    }
    let goes_on = "UPDATE deployments SET superseded_by = NULL
                   WHERE superseded_by = $1 AND project_id = $2 AND state IN ('pending', 'running')";
    locked.tx.execute(goes_on, &[&head.id.0, &head.project.as_ref().map(|p| p.id.0)]).await?;
    Ok(if locked.is_left_unproven().await? { State::Running } else { State::Pending })
}

/// Locks a deployment's cancellations: a cancel event and the request that it is about may arrive at the same moment.
pub(in crate::store) async fn lock_cancellation(tx: &StoreTransaction<'_>, deployment: DeploymentId) -> Result<()> {
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", &[&deployment.to_string()]).await?;
    Ok(())
}

/// Whether the deployment was cancelled before its request arrived. What was told of the cancellation then, that there is no
/// such deployment, needs nobody's attention any more.
pub(in crate::store) async fn is_precancelled(tx: &StoreTransaction<'_>, deployment: DeploymentId) -> Result<bool> {
    let sql = "SELECT 1 FROM cancellations WHERE deployment_id = $1 LIMIT 1";
    let found = tx.query_opt(sql, &[&deployment.0]).await?.is_some();
    if found {
        archive_overtaking(tx, deployment).await?;
    }
    Ok(found)
}

/// Archives the dead letters of cancellations that were faster than their request.
async fn archive_overtaking(tx: &StoreTransaction<'_>, deployment: DeploymentId) -> Result<()> {
    let sql = "UPDATE dead_letters SET state = 'archived', updated_at = now(),
                   note = concat_ws(E'\\n', note, 'the request came later, and was cancelled')
               WHERE id IN (SELECT id FROM cancellations WHERE deployment_id = $1 AND found = $2)
                 AND state = 'open' AND code = $3";
    let code = ErrorCode::UnknownDeployment;
    tx.execute(sql, &[&deployment.0, &UNKNOWN, &code.as_str()]).await?;
    Ok(())
}

/// What the same request found when it came first.
async fn recorded_outcome(tx: &StoreTransaction<'_>, request: &CancelRequest) -> Result<Option<Option<State>>> {
    let row = tx.query_opt("SELECT found FROM cancellations WHERE id = $1", &[&request.id]).await?;
    row.map(|row| state(row.get("found"))).transpose()
}

async fn insert_cancellation(tx: &StoreTransaction<'_>, request: &CancelRequest, found: Option<State>) -> Result<()> {
    tx.execute(
        "INSERT INTO cancellations (id, deployment_id, source, event_id, reason, found) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            &request.id,
            &request.deployment.0,
            &request.source,
            &request.event_id,
            &request.reason,
            &found.map_or(UNKNOWN, State::as_str),
        ],
    )
    .await?;
    Ok(())
}

fn state(found: &str) -> Result<Option<State>> {
    if found == UNKNOWN {
        return Ok(None);
    }
    readable("cancellations", "found", found.parse()).map(Some)
}
