//! The lease of a project on a server: its owner, a fence that grows with each claim, and an expiry by the database's
//! clock. It is acquired, renewed and released here, and every write of a running attempt is checked against it. Locks
//! are taken in one order everywhere: the deployment's row, then the lease's.

use std::time::Duration;

use slipway_protocol::DeploymentId;
use slipway_protocol::names::{ServerHandle, Slug};

use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::seconds;
use crate::store::deployment::head::DeploymentHead;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::State;
use crate::store::{Result, Store, StoreError};

/// The number of a claim, growing for ever: of two that act on one project, the higher one is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub(in crate::store) i64);

impl Fence {
    /// The number, as it's stored and as servers compare it.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// The right to act on one project on one server, as long as it's renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The deployment that claimed it.
    pub deployment: DeploymentId,
    /// The project's directory.
    pub slug: Slug,
    /// The server that it's valid for; on another one the project has another lease.
    pub server: ServerHandle,
    /// The number of the claim.
    pub fence: Fence,
}

/// What a renewal of the lease tells its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewOutcome {
    /// Nothing: it goes on.
    GoOn,
    /// Somebody asked to cancel it.
    Cancel,
}

impl Store {
    /// Acquires the project's lease with the next fence; `None` when somebody was faster.
    ///
    /// Servers remember the highest fence that they have seen and refuse lower ones. A database that was restored from
    /// a backup, or begun anew, has forgotten what it gave away since: fences therefore follow the clock as well, so
    /// that its next one is higher than any that a server may remember. Claims of one project come seconds apart.
    pub(super) async fn acquire(
        &self,
        tx: &StoreTransaction<'_>,
        head: &DeploymentHead,
        span: Duration,
    ) -> Result<Option<Lease>> {
        let (Some(project), Some(server)) = (head.project.clone(), head.server.clone()) else { return Ok(None) };
        let row = tx
            .query_opt(
                "INSERT INTO project_leases AS l (project_slug, server, owner, fence, expires_at)
                     VALUES ($1, $2, $3, extract(epoch FROM now())::bigint, now() + $4 * interval '1 second')
                 ON CONFLICT (project_slug, server) DO UPDATE
                     SET owner = $3, fence = greatest(l.fence + 1, extract(epoch FROM now())::bigint), expires_at = now() + $4 * interval '1 second'
                     WHERE l.expires_at <= now()
                 RETURNING fence",
                &[&project.slug.as_str(), &server.as_str(), &self.name, &seconds(span)],
            )
            .await?;
        Ok(row.map(|row| Lease { deployment: head.id, slug: project.slug, server, fence: Fence(row.get(0)) }))
    }

    /// Renews the lease for `span` from now, and tells whether somebody asked to cancel the deployment. An expired or
    /// released lease isn't revived, not even by a renewal that began in time and waited for the row's lock: hence
    /// `clock_timestamp()`, and not `now()`, which is the time at which the transaction began.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or when the database fails.
    pub async fn renew(&self, lease: &Lease, span: Duration) -> Result<RenewOutcome> {
        deadline(async {
            let renewed = self
                .vital_client()
                .await?
                .query_opt(
                    "UPDATE project_leases l SET expires_at = now() + $4 * interval '1 second' FROM deployments d
                     WHERE l.project_slug = $1 AND l.server = $2 AND l.fence = $3 AND l.expires_at > clock_timestamp()
                       AND d.id = $5
                     RETURNING d.cancel_requested_at IS NOT NULL",
                    &[
                        &lease.slug.as_str(),
                        &lease.server.as_str(),
                        &lease.fence.0,
                        &seconds(span),
                        &lease.deployment.0,
                    ],
                )
                .await?;
            match renewed {
                Some(row) if row.get(0) => Ok(RenewOutcome::Cancel),
                Some(_) => Ok(RenewOutcome::GoOn),
                None => Err(StoreError::LeaseLost),
            }
        })
        .await
    }
}

impl<'t> LockedDeployment<'t> {
    /// Locks the deployment of a running attempt, if its lease is still the newest.
    pub(in crate::store) async fn lock_leased(tx: &'t StoreTransaction<'t>, lease: &Lease) -> Result<Self> {
        let locked = LockedDeployment::lock(tx, lease.deployment).await?.ok_or(StoreError::LeaseLost)?;
        let newest = tx
            .query_opt(
                "SELECT 1 FROM project_leases WHERE project_slug = $1 AND server = $2 AND fence = $3 FOR SHARE",
                &[&lease.slug.as_str(), &lease.server.as_str(), &lease.fence.0],
            )
            .await?;
        let ours = locked.head.state == State::Running && locked.head.fence == Some(lease.fence.0);
        if ours && newest.is_some() { Ok(locked) } else { Err(StoreError::LeaseLost) }
    }
}

impl LockedDeployment<'_> {
    /// Gives the project's lease back, if it's still this deployment's.
    pub(in crate::store) async fn release(&self) -> Result<(), StoreError> {
        let (Some(project), Some(server), Some(fence)) = (&self.head.project, &self.head.server, self.head.fence)
        else {
            return Ok(());
        };
        self.tx
            .execute(
                "UPDATE project_leases SET expires_at = now()
                 WHERE project_slug = $1 AND server = $2 AND fence = $3",
                &[&project.slug.as_str(), &server.as_str(), &fence],
            )
            .await?;
        // Another deployment of this project may have waited for it.
        self.tx.wake_after_attempt().await
    }
}
