//! What a running attempt writes: the journal of its stages, and its progress. Every call names the lease and writes
//! nothing when that is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_protocol::{Change, Failure, ProgressKind, ProjectId, Stage, StageSummary};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::deployment::github_digests::save_digests;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::Boundary;
use crate::store::deployment::unproven::leaves_unproven;
use crate::store::server::circuit_breaker;
use crate::store::{Result, Store};

impl Store {
    /// Writes the intent to run a stage and its event, unless the deployment is to stop at this boundary.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_started(&self, lease: &Lease, stage: Stage, input_hash: &[u8]) -> Result<Boundary> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let mut locked = LockedDeployment::lock_leased(&tx, lease).await?;
            let attempt = locked.head.attempt;
            match locked.head.boundary() {
                Boundary::GoOn => {}
                stop => return Ok(stop),
            }
            // A call that is repeated since its answer was lost changes nothing.
            let new = tx
                .execute(
                    "INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                    &[
                        &lease.deployment.0,
                        &lease.fence.0,
                        &i32::try_from(attempt).unwrap_or(i32::MAX),
                        &stage.as_str(),
                        &input_hash,
                    ],
                )
                .await?;
            if new == 1 {
                locked.enqueue_progress(ProgressKind::StageStarted { stage, attempt }).await?;
                locked.invalidate_digests(stage).await?;
            }
            if leaves_unproven(locked.head.action, stage) {
                locked.set_unproven(true).await?;
            }
            commit(tx, TransactionKind::StageStarted).await?;
            Ok(Boundary::GoOn)
        })
        .await
    }

    /// Writes that a stage is done, and its event.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_finished(
        &self,
        lease: &Lease,
        summary: &StageSummary,
        facts: &serde_json::Map<String, serde_json::Value>,
        digests: Option<(ProjectId, &BTreeMap<String, String>)>,
    ) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let mut locked = LockedDeployment::lock_leased(&tx, lease).await?;
            let attempt = locked.head.attempt;
            let change = match summary.change {
                Change::Changed => "changed",
                Change::Unchanged => "unchanged",
            };
            let new = tx.execute(
                "UPDATE stage_journal SET outcome = 'done', outcome_at = now(), change = $4, facts = $5, duration_ms = $6
                 WHERE deployment_id = $1 AND fence = $2 AND stage = $3 AND outcome IS NULL",
                &[
                    &lease.deployment.0,
                    &lease.fence.0,
                    &summary.stage.as_str(),
                    &change,
                    &Json(facts),
                    &i64::try_from(summary.duration_ms).unwrap_or(i64::MAX),
                ],
            )
            .await?;
            if new == 0 {
                return Ok(());
            }
            if let Some((project, digests)) = digests {
                save_digests(&tx, project, &lease.server, digests).await?;
            }
            locked
                .enqueue_progress(ProgressKind::StageFinished {
                    stage: summary.stage,
                    attempt,
                    change: summary.change,
                    duration_ms: summary.duration_ms,
                    facts: facts.clone(),
                })
                .await?;
            circuit_breaker::close_circuit(&tx, &lease.server).await?;
            commit(tx, TransactionKind::StageFinished).await?;
            Ok(())
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

    /// Writes events of what happened within an attempt: log lines, retries within a stage.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn record_progress(&self, lease: &Lease, kinds: Vec<ProgressKind>) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let mut locked = LockedDeployment::lock_leased(&tx, lease).await?;
            for kind in kinds {
                locked.enqueue_progress(kind).await?;
            }
            commit(tx, TransactionKind::RecordProgress).await?;
            Ok(())
        })
        .await
    }
}
