//! What a running attempt writes: the journal of its stages, and its progress. Every call names the lease and writes
//! nothing when that is lost.

use std::sync::Arc;
use std::time::Duration;

use slipway_protocol::{Failure, ProgressKind, Stage};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::stage::{StageEnd, StageIntent};
use crate::store::deployment::state::Boundary;
use crate::store::deployment::step::AttemptStep;
use crate::store::deployment::step_statement::Locked;
use crate::store::server::circuit_breaker;
use crate::store::{Result, Store, StoreError};

impl Store {
    /// Writes the intent to run a stage and its event, unless the deployment is to stop at this boundary.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_started(&self, lease: &Lease, stage: Stage, input_hash: &[u8]) -> Result<Boundary> {
        let intent = StageIntent { stage, input_hash };
        self.write_step(AttemptStep::of_stage(lease, None, Some(intent))?).await
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
        let boundary = self.write_step(AttemptStep::of_stage(lease, Some(end), next)?).await?;
        self.heed_facts(&lease.server, end.facts).await;
        Ok(boundary)
    }

    /// Writes events of what happened within an attempt: log lines, retries within a stage.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn record_progress(&self, lease: &Lease, kinds: &[ProgressKind]) -> Result<()> {
        self.write_step(AttemptStep::of_progress(lease, kinds)?).await.map(drop)
    }

    async fn write_step(&self, step: AttemptStep) -> Result<Boundary> {
        self.write_step_alone(&Arc::new(step)).await
    }

    /// Writes a step that shares its statement with no other.
    pub(in crate::store) async fn write_step_alone(&self, step: &Arc<AttemptStep>) -> Result<Boundary> {
        let steps = std::slice::from_ref(step);
        let written = deadline(async {
            loop {
                match self.write_steps(steps, Locked::Wait).await {
                    // While it waited for the lock, somebody told something of this deployment, by the number that it had
                    // seen as the next one. Nothing was written.
                    Err(error) if error.is_number_taken() => {}
                    written => return written,
                }
            }
        });
        written.await?.into_iter().next().flatten().ok_or(StoreError::LeaseLost)
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
        let open = deadline(async {
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
        .await?;
        self.heed_front_door(&lease.server, Err(failure)).await;
        Ok(open)
    }
}
