//! Attempts that were interrupted: released by a worker that stops, or taken from one that died.

use slipway_protocol::{DeploymentId, ErrorCode, Failure, Outcome, ProgressKind};

use crate::failpoint::TransactionKind;
use crate::scheduler::after_interruption;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::head::first_readable;
use crate::store::deployment::held_deployments::{IS_HELD, Picked, may_be_tried};
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::{Boundary, State};
use crate::store::{Result, Store};

/// What an interrupted deployment became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptOutcome {
    /// It waits for another worker.
    Released,
    /// It has ended: as superseded or cancelled if it was called off, and otherwise since it was interrupted too often.
    Ended(Outcome),
}

impl InterruptOutcome {
    /// How it has ended, if it has.
    #[must_use]
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Released => None,
            Self::Ended(outcome) => Some(outcome),
        }
    }
}

impl Store {
    /// Gives a deployment back that this process can't finish; costs it no attempt, but at most `limit` times.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn interrupt(&self, lease: &Lease, limit: u32) -> Result<InterruptOutcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let locked = LockedDeployment::lock_leased(&tx, lease).await?;
            let became = end_or_release(self, locked, limit).await?;
            commit(tx, TransactionKind::Interrupt).await?;
            Ok(became)
        })
        .await
    }

    /// Takes back one deployment whose worker let its lease expire: a crash, or a machine that is gone. `None` when
    /// there is no such deployment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reap(&self, limit: u32) -> Result<Option<(DeploymentId, InterruptOutcome)>> {
        let picked = Picked::default();
        let reaped = deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            tx.hurry().await?;
            let sql = format!(
                "SELECT id, {IS_HELD} AS is_held FROM deployments d
                 WHERE state = 'running' AND id <> ALL ($1) AND {}
                   AND NOT EXISTS (SELECT 1 FROM project_leases l WHERE l.project_slug = d.project_slug
                                   AND l.server = d.server AND l.fence = d.fence AND l.expires_at > now())
                 ORDER BY arrival LIMIT 1 FOR UPDATE OF d SKIP LOCKED",
                may_be_tried()
            );
            let Some((head, row)) = first_readable(&tx, &sql, &[], &picked).await? else { return Ok(None) };
            let locked = LockedDeployment { tx: &tx, head };
            if locked.is_acted_on().await? {
                return Ok(None);
            }
            let (id, is_held) = (locked.head.id, row.get("is_held"));
            let became = end_or_release(self, locked, limit).await?;
            commit(tx, TransactionKind::Reap).await?;
            Ok(Some((id, became, is_held)))
        })
        .await;
        let Some((id, became, is_held)) = picked.hold_failing(self, reaped).await? else { return Ok(None) };
        if is_held {
            self.let_go_deployments(&[id.0]).await;
        }
        Ok(Some((id, became)))
    }
}

/// The reason of a dead letter that was interrupted too often.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// Why a deployment that was interrupted so often is given up.
pub(crate) fn interrupted_too_often(interruptions: u32) -> String {
    format!("{interruptions} attempts were interrupted by workers that stopped or died")
}

/// Releases an interrupted deployment, or ends it: when a newer request takes over what it touched, or when it was
/// interrupted more than `limit` times. A cancelled one is claimed once more, to restore the previous release.
async fn end_or_release(store: &Store, mut locked: LockedDeployment<'_>, limit: u32) -> Result<InterruptOutcome> {
    let (id, attempt) = (locked.head.id, locked.head.attempt);
    locked
        .tx
        .execute(
            "UPDATE stage_journal SET outcome = 'interrupted', outcome_at = now()
             WHERE deployment_id = $1 AND fence = $2 AND outcome IS NULL",
            &[&id.0, &locked.head.fence],
        )
        .await?;
    locked.tx.execute("UPDATE deployments SET interruptions = interruptions + 1 WHERE id = $1", &[&id.0]).await?;
    locked.enqueue_progress(ProgressKind::Interrupted { attempt }).await?;
    if let Boundary::Superseded(by) = locked.head.boundary()
        && !locked.must_restore_before(by).await?
    {
        let end = DeploymentEnd::Superseded { by: Some(by) };
        return locked.finish(store, &end, &AttemptSummary::default()).await.map(InterruptOutcome::Ended);
    }
    let before = locked.head.interruptions;
    if !after_interruption(before, limit, locked.is_left_unproven().await?) {
        let end = match locked.head.boundary() {
            Boundary::GoOn => {
                let failure = Failure::new(ErrorCode::InterruptedTooOften, None, interrupted_too_often(before + 1));
                DeploymentEnd::Failed { failure, missing_secret: None, reason: INTERRUPTED }
            }
            Boundary::Superseded(by) => DeploymentEnd::Superseded { by: Some(by) },
            Boundary::Cancelled => DeploymentEnd::Cancelled,
        };
        return locked.finish(store, &end, &AttemptSummary::default()).await.map(InterruptOutcome::Ended);
    }
    locked
        .tx
        .execute("UPDATE deployments SET attempt = greatest(attempt - 1, 0), run_at = now() WHERE id = $1", &[&id.0])
        .await?;
    locked.release().await?;
    locked.step(State::Pending).await?;
    Ok(InterruptOutcome::Released)
}
