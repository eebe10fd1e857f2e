//! What a running attempt writes: the journal of its stages, and its progress. Every call names the lease and writes
//! nothing when that is lost. Each step is one statement: what it tells is known beforehand, and whether it may be told is
//! asked under the locks of the deployment and its lease.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_protocol::{
    Action, Change, DeploymentId, EventType, Failure, ProgressKind, ProjectId, Stage, StageSummary,
};
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::wakeups;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::Boundary;
use crate::store::deployment::unproven::leaves_unproven;
use crate::store::outbox::event_sequence::told;
use crate::store::server::circuit_breaker;
use crate::store::{Result, Store, StoreError};

/// A stage that is done.
#[derive(Debug, Clone, Copy)]
pub struct StageEnd<'a> {
    /// Which stage, whether it changed anything, and how long it took.
    pub summary: &'a StageSummary,
    /// What it found or did.
    pub facts: &'a serde_json::Map<String, serde_json::Value>,
    /// What GitHub holds of the project's secrets now, where the stage is about them.
    pub digests: Option<(ProjectId, &'a BTreeMap<String, String>)>,
}

/// A stage that is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageIntent<'a> {
    /// Which stage.
    pub stage: Stage,
    /// Of all that its work depends on.
    pub input_hash: &'a [u8],
}

/// A step of an attempt. The deployment's row is locked first and the lease after it, as everywhere. An outcome or an
/// intent that is there already tells nothing: it's a call repeated since its answer was lost.
const STEP: &str = "
    WITH deployment AS MATERIALIZED (
        SELECT next_sequence, superseded_by, cancel_requested_at IS NOT NULL AS cancelled, action, project_id, traceparent
        FROM deployments WHERE id = $1 AND fence = $2 AND state = 'running' FOR UPDATE),
    held AS MATERIALIZED (
        SELECT d.*, d.superseded_by IS NULL AND NOT d.cancelled AS goes_on
        FROM deployment d CROSS JOIN project_leases l
        WHERE l.project_slug = $3 AND l.server = $4 AND l.fence = $2 FOR SHARE OF l),
    ended AS (
        UPDATE stage_journal j SET outcome = 'done', outcome_at = now(), change = $6, facts = $7, duration_ms = $8
        FROM held WHERE j.deployment_id = $1 AND j.fence = $2 AND j.stage = $5 AND j.outcome IS NULL RETURNING 1),
    begun AS (
        INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash)
        SELECT $1, $2, $9, $10, $11 FROM held WHERE $10::text IS NOT NULL AND goes_on
        ON CONFLICT DO NOTHING RETURNING 1),
    news AS (
        SELECT 0 AS place, $12::bytea AS told FROM ended UNION ALL SELECT 1, $13::bytea FROM begun
        UNION ALL SELECT 1 + place, told FROM unnest($14::bytea[]) WITH ORDINALITY AS more (told, place)),
    told AS (
        INSERT INTO outbox (deployment_id, sequence, type, told, traceparent, must_route)
        SELECT $1, held.next_sequence + row_number() OVER (ORDER BY news.place) - 1, $15, news.told,
            nullif($16, held.traceparent), false
        FROM held CROSS JOIN news RETURNING 1),
    counted AS (
        UPDATE deployments SET next_sequence = next_sequence + (SELECT count(*) FROM told)
        WHERE id = $1 AND EXISTS (SELECT FROM told)),
    unproven AS (
        UPDATE project_leases SET unsettled = true
        WHERE project_slug = $3 AND server = $4 AND NOT unsettled
          AND EXISTS (SELECT FROM held WHERE goes_on AND action = ANY($17))),
    doubted AS (
        UPDATE github_digests SET digest = ''
        WHERE $10 = 'secrets' AND project_id = (SELECT project_id FROM held) AND EXISTS (SELECT FROM begun)),
    forgotten AS (
        DELETE FROM github_digests
        WHERE project_id = $18 AND NOT (server = $4 AND name = ANY($19)) AND EXISTS (SELECT FROM ended)),
    saved AS (
        INSERT INTO github_digests (project_id, server, name, digest)
        SELECT $18, $4, name, digest FROM unnest($19::text[], $20::text[]) AS known (name, digest)
        WHERE EXISTS (SELECT FROM ended)
        ON CONFLICT (project_id, server, name) DO UPDATE SET digest = excluded.digest, updated_at = now()),
    closed AS (
        DELETE FROM server_circuits WHERE server = $4 AND EXISTS (SELECT FROM ended) RETURNING open_until)
    SELECT superseded_by, cancelled, (SELECT pg_notify($21, '') FROM told LIMIT 1),
        (SELECT pg_notify($22, '') FROM closed WHERE open_until IS NOT NULL LIMIT 1),
        EXISTS (SELECT FROM closed WHERE open_until IS NOT NULL) AS reached_again
    FROM held";

impl Store {
    /// Writes the intent to run a stage and its event, unless the deployment is to stop at this boundary.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_started(&self, lease: &Lease, stage: Stage, input_hash: &[u8]) -> Result<Boundary> {
        let intent = StageIntent { stage, input_hash };
        self.write_step(lease, TransactionKind::StageStarted, None, Some(intent), Vec::new()).await
    }

    /// Writes that a stage is done, and its event; and at once, unless the deployment is to stop at this boundary, the
    /// intent to run the `next` one, and its event.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_finished(
        &self,
        lease: &Lease,
        end: StageEnd<'_>,
        next: Option<StageIntent<'_>>,
    ) -> Result<Boundary> {
        self.write_step(lease, TransactionKind::StageFinished, Some(end), next, Vec::new()).await
    }

    /// Writes events of what happened within an attempt: log lines, retries within a stage.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn record_progress(&self, lease: &Lease, kinds: Vec<ProgressKind>) -> Result<()> {
        self.write_step(lease, TransactionKind::RecordProgress, None, None, kinds).await.map(drop)
    }

    async fn write_step(
        &self,
        lease: &Lease,
        write: TransactionKind,
        end: Option<StageEnd<'_>>,
        next: Option<StageIntent<'_>>,
        kinds: Vec<ProgressKind>,
    ) -> Result<Boundary> {
        let attempt = lease.attempt;
        let finished = end.map(|end| ProgressKind::StageFinished {
            stage: end.summary.stage,
            attempt,
            change: end.summary.change,
            duration_ms: end.summary.duration_ms,
            facts: end.facts.clone(),
        });
        let started = next.map(|next| ProgressKind::StageStarted { stage: next.stage, attempt });
        let change = end.map(|end| match end.summary.change {
            Change::Changed => "changed",
            Change::Unchanged => "unchanged",
        });
        let touching: Vec<&str> = next.map_or_else(Vec::new, |next| {
            let actions = Action::ALL.into_iter().filter(|action| leaves_unproven(*action, next.stage));
            actions.map(Action::as_str).collect()
        });
        let digests = end.and_then(|end| end.digests);
        let (names, values): (Vec<&str>, Vec<&str>) =
            digests.iter().flat_map(|(_, known)| known.iter()).map(|(n, v)| (n.as_str(), v.as_str())).unzip();
        let values: [&(dyn ToSql + Sync); 22] = [
            &lease.deployment.0,
            &lease.fence.0,
            &lease.slug.as_str(),
            &lease.server.as_str(),
            &end.map(|end| end.summary.stage.as_str()),
            &change,
            &end.map(|end| Json(end.facts)),
            &end.map(|end| i64::try_from(end.summary.duration_ms).unwrap_or(i64::MAX)),
            &i32::try_from(attempt).unwrap_or(i32::MAX),
            &next.map(|next| next.stage.as_str()),
            &next.map(|next| next.input_hash),
            &finished.as_ref().map(told).transpose()?,
            &started.as_ref().map(told).transpose()?,
            &kinds.iter().map(told).collect::<Result<Vec<_>>>()?,
            &EventType::Progress.as_str(),
            &crate::telemetry::current_traceparent(),
            &touching,
            &digests.map(|(project, _)| project.0),
            &names,
            &values,
            &wakeups::OUTBOX,
            &wakeups::DEPLOYMENTS,
        ];
        deadline(async {
            let row = self.client().await?.write(write, STEP, &values).await?.ok_or(StoreError::LeaseLost)?;
            if row.get("reached_again") {
                tracing::info!(server.handle = %lease.server, "the server's circuit is closed");
            }
            Ok(match row.get::<_, Option<Uuid>>("superseded_by") {
                _ if row.get("cancelled") => Boundary::Cancelled,
                Some(by) => Boundary::Superseded(DeploymentId(by)),
                None => Boundary::GoOn,
            })
        })
        .await
    }

    /// Writes that a stage failed; the event of what follows is [`Store::retry`]'s or [`Store::finish`]'s. Returns how
    /// long the server's circuit is open from now, when the failure was one to connect and the circuit is open. Any
    /// other failure of an attempt that has `reached` the server closes the circuit: the connection was made.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_failed(
        &self,
        lease: &Lease,
        stage: Stage,
        failure: &Failure,
        took: Duration,
        reached: bool,
    ) -> Result<Option<Duration>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            LockedDeployment::lock_leased(&tx, lease).await?;
            let new = tx
                .execute(
                    "UPDATE stage_journal SET outcome = 'failed', outcome_at = now(), failure = $4, duration_ms = $5
                 WHERE deployment_id = $1 AND fence = $2 AND stage = $3 AND outcome IS NULL",
                    &[
                        &lease.deployment.0,
                        &lease.fence.0,
                        &stage.as_str(),
                        &Json(failure),
                        &i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
                    ],
                )
                .await?;
            let open = match failure.code.is_connection_failure() {
                true => circuit_breaker::record_connection_failure(&tx, &lease.server, new == 1).await?,
                false if reached => circuit_breaker::close_circuit(&tx, &lease.server).await.map(|()| None)?,
                false => None,
            };
            commit(tx, TransactionKind::StageFailed).await?;
            Ok(open)
        })
        .await
    }
}
