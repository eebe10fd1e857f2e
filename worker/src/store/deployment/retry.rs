//! The next attempt of a deployment: when it is due, and whether the one that failed counts.

use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::{DeploymentId, Failure, ProgressKind};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::seconds;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::{Boundary, State};
use crate::store::{Result, Store};

/// What became of an attempt that failed and is to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOutcome {
    /// The next one may begin then.
    At(Timestamp),
    /// A newer request for the same project waits. Nothing was written.
    Superseded(DeploymentId),
    /// An operator asked to cancel it. Nothing was written: the previous release is to be restored first.
    Cancelled,
}

/// When the next attempt is due, and whether the one that failed counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// After so long.
    Counted(Duration),
    /// After so long; the one that failed doesn't count.
    Uncounted(Duration),
    /// The one that failed doesn't count, since its server's circuit is open for so long. The deployment is due at once,
    /// behind all others, and the circuit decides who of them is let through.
    Server(Duration),
}

impl Store {
    /// Schedules the next attempt `delay` from now and gives the lease back, unless the deployment is to stop.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn retry(&self, lease: &Lease, failure: Failure, delay: Duration) -> Result<RetryOutcome> {
        self.schedule_attempt(lease, failure, NextAttempt::Counted(delay)).await
    }

    /// As [`Store::retry`], for [`NextAttempt::Server`].
    ///
    /// # Errors
    /// As [`Store::retry`].
    pub async fn wait_for_server(&self, lease: &Lease, failure: Failure, open: Duration) -> Result<RetryOutcome> {
        self.schedule_attempt(lease, failure, NextAttempt::Server(open)).await
    }

    /// As [`Store::retry`], for any kind of next attempt.
    ///
    /// # Errors
    /// As [`Store::retry`].
    pub async fn schedule_attempt(&self, lease: &Lease, failure: Failure, next: NextAttempt) -> Result<RetryOutcome> {
        let (delay, counts, at_once) = match next {
            NextAttempt::Counted(delay) => (delay, true, false),
            NextAttempt::Uncounted(delay) => (delay, false, false),
            NextAttempt::Server(open) => (open, false, true),
        };
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let mut locked = LockedDeployment::lock_leased(&tx, lease).await?;
            match locked.head.boundary() {
                Boundary::GoOn => {}
                Boundary::Superseded(by) => return Ok(RetryOutcome::Superseded(by)),
                Boundary::Cancelled => return Ok(RetryOutcome::Cancelled),
            }
            let run_at: Timestamp = tx
                .query_one(
                    "UPDATE deployments SET failure = $3,
                         run_at = now() + CASE WHEN $5 THEN interval '0' ELSE $2 * interval '1 second' END,
                         attempt = attempt - CASE WHEN $4 THEN 0 ELSE 1 END,
                         waits = waits + CASE WHEN $4 THEN 0 ELSE 1 END,
                         first_failed_at = coalesce(first_failed_at, now()), last_failed_at = now()
                     WHERE id = $1 RETURNING now() + $2 * interval '1 second'",
                    &[&lease.deployment.0, &seconds(delay), &Json(&failure), &counts, &at_once],
                )
                .await?
                .get(0);
            let attempt = locked.head.attempt + u32::from(counts);
            locked.enqueue_progress(ProgressKind::AttemptScheduled { attempt, run_at, failure }).await?;
            locked.release().await?;
            locked.step(State::Pending).await?;
            commit(tx, TransactionKind::Retry).await?;
            self.wake_runner_in(delay);
            Ok(RetryOutcome::At(run_at))
        })
        .await
    }
}
