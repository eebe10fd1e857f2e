//! What an attempt does beside its stages: keeping its lease, hearing what people wish, repeating writes while the
//! database is away, and putting together what the pipeline is given.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_deploy::{DeploymentWork, LeaseGuard, StageError, Target};
use slipway_protocol::Action;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Runner;
use super::brake::{Canceller, StopReason};
use crate::store::{Claim, Lease, RenewOutcome, ServerRecord, StoreError};
use crate::trouble::OutageLog;

/// Until when a lease that was asked for at `asked` is certain: the database's clock starts no earlier.
pub(super) fn sure_until(asked: Instant, span: Duration) -> Instant {
    asked + span * 4 / 5
}

/// Renews the lease and pulls the brake when somebody wishes so; returns when the lease is lost, or when it may have
/// expired unseen. `sure` always holds until when it's certain.
pub(super) async fn keep(
    runner: &Runner,
    lease: &Lease,
    sure: &watch::Sender<Instant>,
    brake: &Canceller,
    mut wishes: watch::Receiver<()>,
) {
    let span = runner.settings.lease;
    loop {
        let (asked, safe_until) = (Instant::now(), *sure.borrow());
        let renewal = tokio::time::timeout_at(safe_until, runner.store.renew(lease, span)).await;
        match renewal {
            Ok(Ok(wish)) => {
                sure.send_replace(sure_until(asked, span));
                if wish == RenewOutcome::Cancel {
                    brake.pull(StopReason::Cancelled);
                }
            }
            Ok(Err(StoreError::LeaseLost)) => break,
            Ok(Err(error)) if Instant::now() < safe_until => {
                tracing::warn!(%error, "the lease couldn't be renewed yet")
            }
            Ok(Err(_)) | Err(_) => break,
        }
        // No later than the end of what's certain: the running command shall be dead before the lease expires.
        let next = (Instant::now() + span / 5).min(*sure.borrow());
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            Ok(()) = wishes.changed() => {}
        }
    }
    // No alarm: the attempt may just have ended, and its lease with it. If not, its end says what became of it.
    tracing::info!(deployment.id = %lease.deployment, "the lease can't be renewed any more: what still runs is cancelled");
}

/// Repeats a write while the database is away, as long as the lease is kept by [`keep`] beside it.
pub(super) async fn persist<T, F>(write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut database = OutageLog::of("attempt");
    loop {
        match write().await {
            Err(error) if error.is_transient() => {
                database.note(Err(error));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            outcome => {
                database.note(Ok(()));
                return outcome;
            }
        }
    }
}

/// What the pipeline is given.
pub(super) struct PreparedWork {
    pub work: DeploymentWork,
    /// The server as it enters the inventory when its key is learned.
    pub server: ServerRecord,
    /// Why no stage can be run with it. It's enough to put something back.
    pub refused: Option<StageError>,
}

/// Puts together what the pipeline is given. The outer error is the database's, the inner one the deployment's.
pub(super) async fn prepare(
    runner: &Runner,
    claim: &Claim,
    hold: LeaseGuard,
) -> Result<Result<PreparedWork, StageError>, StoreError> {
    let request = &claim.event.data;
    let known = persist(|| runner.store.server(&request.server.handle)).await?;
    let digests = persist(|| runner.store.github_digests(request.project.id, &claim.lease.server)).await?;
    let shares_repository = claim.action == Action::Undeploy
        && persist(|| runner.store.shares_repository(request.project.id, &claim.lease.server)).await?;
    let ready = || -> Result<PreparedWork, StageError> {
        let work = runner.credentials.work(claim.lease.deployment, request, known, digests, hold)?;
        let server = record(&work.target);
        // Whoever only stops a project must not need the key that its secrets were sealed to years ago.
        let (secrets, refused) = match runner.credentials.secrets(request) {
            Ok(secrets) => (secrets, None),
            Err(error) => (BTreeMap::new(), Some(error).filter(|_| claim.action.deploys())),
        };
        let (action, remove_volumes) = (claim.action, claim.remove_volumes);
        let work = DeploymentWork { action, remove_volumes, shares_repository, secrets, ..work };
        Ok(PreparedWork { work, server, refused })
    };
    Ok(ready())
}

fn record(target: &Target) -> ServerRecord {
    ServerRecord {
        handle: target.handle.clone(),
        address: target.address.clone(),
        ssh_port: target.ssh_port,
        ssh_user: target.ssh_user.clone(),
        host_key: None,
        trust_on_first_use: false,
        ssh_key_enc: None,
        notes: None,
    }
}
