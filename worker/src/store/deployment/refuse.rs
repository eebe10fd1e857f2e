//! The end of a message that can't become a deployment: one dead letter and, when its ids could be read, one result.

use jiff::Timestamp;
use slipway_protocol::{DeploymentId, DeploymentResult, EventType, Failure, Outcome, PartialEnvelope};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::message::Incoming;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::wakeups;
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::dead_letter::refusal::RefusedMessage;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::{Result, Store};

impl Store {
    /// Stores a refused message: its dead letter and, when its ids could be read, its result. False when it was here
    /// before; then nothing was written.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn refuse(&self, refusal: &RefusedMessage, incoming: &Incoming) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            if !end_refused(&tx, refusal, incoming.user.as_deref()).await? {
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
pub(in crate::store) async fn end_refused(
    tx: &StoreTransaction<'_>,
    refusal: &RefusedMessage,
    user: Option<&str>,
) -> Result<bool> {
    end_at_once(tx, &refusal.known, RequestEnd::Failed(&refusal.failure), user).await
}

/// How a request ends that never is a deployment.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum RequestEnd<'a> {
    /// It can't become one.
    Failed(&'a Failure),
    /// Something newer says the same or more; here the deployment that came of that, where there is one.
    Superseded(Option<DeploymentId>),
    /// Somebody asked to cancel it.
    Cancelled,
}

/// As [`end_refused`], whatever the end is.
pub(in crate::store) async fn end_at_once(
    tx: &StoreTransaction<'_>,
    known: &PartialEnvelope,
    end: RequestEnd<'_>,
    user: Option<&str>,
) -> Result<bool> {
    let Some(id) = known.deployment_id() else { return Ok(true) };
    if !insert_ended(tx, id, known, end, user).await? {
        return Ok(false);
    }
    let Some(locked) = LockedDeployment::lock(tx, id).await? else { return Ok(false) };
    let result = result_at_once(id, known, end, locked.head.accepted_at);
    let sql = "WITH told AS (INSERT INTO outbox (deployment_id, sequence, events, type, traceparent, must_route)
                             SELECT id, next_sequence, 1, $3, $4, true FROM deployments WHERE id = $1),
                   ended AS (UPDATE deployments SET result = $2, next_sequence = next_sequence + 1 WHERE id = $1)
               SELECT pg_notify($5, '')";
    let (kind, traceparent) = (EventType::Result.as_str(), locked.head.own_traceparent());
    tx.execute(sql, &[&id.0, &Json(&result), &kind, &traceparent, &wakeups::OUTBOX]).await?;
    Ok(true)
}

/// Inserts a request as ended, so that its duplicate is recognised; false when it exists.
async fn insert_ended(
    tx: &StoreTransaction<'_>,
    id: DeploymentId,
    known: &PartialEnvelope,
    end: RequestEnd<'_>,
    user: Option<&str>,
) -> Result<bool> {
    let (outcome, failure, by) = parts(end);
    let inserted = tx
        .execute(
            "INSERT INTO deployments (id, source, event_id, replay_id, project_id, project_slug, repository, commit_sha,
                 server, correlation, state, failure, traceparent, first_failed_at, last_failed_at, finished_at, action,
                 amqp_user, superseded_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $15, $11, $12,
                 CASE WHEN $11::jsonb IS NOT NULL THEN now() END, CASE WHEN $11 IS NOT NULL THEN now() END, now(), $13,
                 $14, $16)
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
                &failure.map(Json),
                &crate::telemetry::current_traceparent().or_else(|| known.traceparent.clone()),
                &known.action().as_str(),
                &user,
                &outcome.as_str(),
                &by.map(|id| id.0),
            ],
        )
        .await?;
    if inserted == 1 {
        tx.count_end(outcome);
    }
    Ok(inserted == 1)
}

fn parts(end: RequestEnd<'_>) -> (Outcome, Option<&Failure>, Option<DeploymentId>) {
    match end {
        RequestEnd::Failed(failure) => (Outcome::Failed, Some(failure), None),
        RequestEnd::Superseded(by) => (Outcome::Superseded, None, by),
        RequestEnd::Cancelled => (Outcome::Cancelled, None, None),
    }
}

/// The result of a request that never was a deployment.
pub(in crate::store) fn refused_result(
    id: DeploymentId,
    refusal: &RefusedMessage,
    accepted_at: Timestamp,
) -> DeploymentResult {
    result_at_once(id, &refusal.known, RequestEnd::Failed(&refusal.failure), accepted_at)
}

fn result_at_once(
    id: DeploymentId,
    known: &PartialEnvelope,
    end: RequestEnd<'_>,
    accepted_at: Timestamp,
) -> DeploymentResult {
    let (outcome, failure, superseded_by) = parts(end);
    DeploymentResult {
        project: known.project.clone(),
        repository: known.repository.clone(),
        commit: known.commit.clone(),
        server: known.server.clone(),
        failure: failure.cloned(),
        superseded_by,
        correlation: known.correlation.clone(),
        ..DeploymentResult::at_once(id, known.action(), outcome, accepted_at)
    }
}
