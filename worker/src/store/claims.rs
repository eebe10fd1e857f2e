//! Who may act on a project: leases with an owner, a fence that grows with each claim, and an expiry by the database's
//! clock. Locks are taken in one order everywhere: the deployment's row, then the lease's.

use std::time::Duration;

use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{Action, CloudEvent, DeploymentId, ErrorCode, Failure, ProgressKind, ProjectReady};
use tokio_postgres::Transaction;
use tokio_postgres::types::Json;

use super::ending::{AttemptSummary, DeploymentEnd};
use super::ledger::{DeploymentHead, LockedDeployment, number};
use super::progress::Boundary;
use super::queue::{self, ClaimOptions};
use super::state::State;
use super::{Result, Store, StoreError, StoreTransaction, commit, deadline};
use crate::failpoint::TransactionKind;

/// The number of a claim, growing for ever: of two that act on one project, the higher one is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub(super) i64);

impl Fence {
    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// The right to act on one project on one server, as long as it's renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// For which deployment.
    pub deployment: DeploymentId,
    /// The project's directory.
    pub slug: Slug,
    /// The server.
    pub server: ServerHandle,
    /// The number of the claim.
    pub fence: Fence,
}

/// A deployment that this process has to carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The right to do so.
    pub lease: Lease,
    /// What to do.
    pub action: Action,
    /// Undeploy: with all data.
    pub remove_volumes: bool,
    /// The request as it was accepted; for a command the one of the version that it acts with.
    pub event: CloudEvent<ProjectReady>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// How often attempts of it were interrupted.
    pub interruptions: u32,
    /// How often an attempt wasn't counted, since its server couldn't be reached.
    pub waits: u32,
    /// Trace context of the request's intake.
    pub traceparent: Option<String>,
    /// Whether it's to be carried out. Otherwise it was claimed so that somebody settles the project, and nothing else.
    pub boundary: Boundary,
}

/// What people want of a running attempt, in the middle of whatever it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewOutcome {
    /// Nothing but its end.
    GoOn,
    /// That it's cancelled.
    Cancel,
}

pub(super) fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

impl Store {
    /// Claims the deployment that has been due for longest, of those whose project nobody acts on and whose server has
    /// room. A bare time stands for a lease under the default limits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim(&self, terms: impl Into<ClaimOptions>) -> Result<Option<Claim>> {
        let terms = terms.into();
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let Some((head, row)) = queue::next(&tx, &terms).await? else { return Ok(None) };
            let mut ledger = LockedDeployment { tx: &tx, head };
            let event = row.try_get::<_, Json<CloudEvent<ProjectReady>>>("request");
            let Some(lease) = self.take(&tx, &ledger.head, terms.lease).await? else { return Ok(None) };
            let attempt = ledger.head.attempt + 1;
            tx.execute(
                "UPDATE deployments SET fence = $2, owner = $3, registry = $4, attempt = attempt + 1,
                     started_at = coalesce(started_at, now()) WHERE id = $1",
                &[&lease.deployment.0, &lease.fence.0, &self.name, &terms.registry],
            )
            .await?;
            (ledger.head.fence, ledger.head.attempt) = (Some(lease.fence.0), attempt);
            ledger.step(State::Running).await?;
            let Ok(Json(event)) = event else {
                // Left where it is, it would be claimed again and again, before all others.
                let message = "the stored request can't be read by this version of the worker";
                let failure = Failure::new(ErrorCode::InternalError, None, message);
                let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" };
                ledger.finish(self, &end, &AttemptSummary::default()).await?;
                commit(tx, TransactionKind::Claim).await?;
                return Ok(None);
            };
            ledger.progress(ProgressKind::AttemptStarted { attempt }).await?;
            let (action, remove_volumes) = (ledger.head.action, ledger.head.remove_volumes);
            let (interruptions, boundary) = (ledger.head.interruptions, ledger.head.boundary());
            let (waits, traceparent) = (number(&row, "waits"), ledger.head.traceparent);
            commit(tx, TransactionKind::Claim).await?;
            let claim =
                Claim { lease, action, remove_volumes, event, attempt, interruptions, waits, traceparent, boundary };
            Ok(Some(claim))
        })
        .await
    }

    /// Takes the project's lease with the next fence; `None` when somebody was faster.
    ///
    /// Servers remember the highest fence that they have seen and refuse lower ones. A database that was restored from
    /// a backup, or begun anew, has forgotten what it gave away since: fences therefore follow the clock as well, so
    /// that its next one is higher than any that a server may remember. Claims of one project come seconds apart.
    async fn take(&self, tx: &Transaction<'_>, head: &DeploymentHead, span: Duration) -> Result<Option<Lease>> {
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

    /// Keeps the lease for `span` from now, and says whether somebody wishes to cancel the deployment. A lease that has
    /// expired or was given back isn't revived, not even by a renewal that began before and met its row only afterwards:
    /// hence the clock as it is then, and not `now()`, which stands still from the beginning.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or when the database fails.
    pub async fn renew(&self, lease: &Lease, span: Duration) -> Result<RenewOutcome> {
        deadline(async {
            let renewed = self
                .client()
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

impl LockedDeployment<'_> {
    /// Gives the project's lease back, if it's still this deployment's.
    pub(super) async fn release(&self) -> Result<(), StoreError> {
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
        self.tx.execute("SELECT pg_notify($1, '')", &[&super::wakeups::DEPLOYMENTS]).await?;
        Ok(())
    }
}
