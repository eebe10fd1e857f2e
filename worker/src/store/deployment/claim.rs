//! Claiming a deployment: it becomes running under a new lease. Whose turn it is, is in `queue`.

use slipway_protocol::{Action, CloudEvent, ErrorCode, Failure, ProgressKind, ProjectReady};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::number;
use crate::store::deployment::finish::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::queue::{ClaimOptions, lock_next_due};
use crate::store::deployment::skipped::Picked;
use crate::store::deployment::state::{Boundary, State};
use crate::store::owners::claim::{OwnedBasis, claim_owned};
use crate::store::{Result, Store};

/// A deployment that this process has to carry out.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The right to do so.
    pub lease: Lease,
    /// What is to be done; it decides which stages are run.
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
    /// What the project has for itself.
    pub owned: OwnedBasis,
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
        let (options, picked) = (options.into(), Picked::default());
        let claimed = deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let Some((head, row)) = lock_next_due(&tx, &options).await? else { return Ok(None) };
            picked.is(head.id);
            let mut locked = LockedDeployment { tx: &tx, head };
            let event = row.try_get::<_, Json<CloudEvent<ProjectReady>>>("request");
            let Some(lease) = self.acquire(&tx, &locked.head, options.lease).await? else { return Ok(None) };
            let attempt = locked.head.attempt + 1;
            tx.execute(
                "UPDATE deployments SET fence = $2, owner = $3, registry = $4, attempt = attempt + 1,
                     started_at = coalesce(started_at, now()) WHERE id = $1",
                &[&lease.deployment.0, &lease.fence.0, &self.name, &options.registry],
            )
            .await?;
            (locked.head.fence, locked.head.attempt) = (Some(lease.fence.0), attempt);
            locked.step(State::Running).await?;
            let Ok(Json(event)) = event else {
                // Left where it is, it would be claimed again and again, before all others.
                let message = "the stored request can't be read by this version of the worker";
                let failure = Failure::new(ErrorCode::InternalError, None, message);
                let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" };
                locked.finish(self, &end, &AttemptSummary::default()).await?;
                commit(tx, TransactionKind::Claim).await?;
                return Ok(None);
            };
            let owned = match locked.claim_owned(&event.data).await? {
                Ok(owned) => owned,
                Err(failure) => {
                    // It was handed over since the request was accepted. What serves is the other project's.
                    let end = match locked.head.boundary() {
                        Boundary::GoOn => DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" },
                        Boundary::Superseded(by) => DeploymentEnd::Superseded { by: Some(by) },
                        Boundary::Cancelled => DeploymentEnd::Cancelled,
                    };
                    locked.finish(self, &end, &AttemptSummary::default()).await?;
                    commit(tx, TransactionKind::Claim).await?;
                    return Ok(None);
                }
            };
            locked.enqueue_progress(ProgressKind::AttemptStarted { attempt }).await?;
            let (action, remove_volumes) = (locked.head.action, locked.head.remove_volumes);
            let (interruptions, boundary) = (locked.head.interruptions, locked.head.boundary());
            let (waits, traceparent) = (number(&row, "waits"), locked.head.traceparent);
            commit(tx, TransactionKind::Claim).await?;
            Ok(Some(Claim {
                lease,
                action,
                remove_volumes,
                event,
                attempt,
                interruptions,
                waits,
                owned,
                traceparent,
                boundary,
            }))
        })
        .await;
        picked.skip_failing(claimed)
    }
}

impl LockedDeployment<'_> {
    /// As [`claim_owned`], for this deployment.
    async fn claim_owned(&self, request: &ProjectReady) -> Result<Result<OwnedBasis, Failure>> {
        let head = &self.head;
        let (Some(project), Some(server)) = (&head.project, &head.server) else { return Ok(Ok(OwnedBasis::default())) };
        claim_owned(self.tx, head.action, project, server, request).await
    }
}
