//! Claims what is due and starts an attempt for each claim, a bounded number at once. Which deployment is due, and in
//! which order, is decided by the store and the scheduler.

use std::sync::Arc;
use std::time::Duration;

use slipway_protocol::Outcome;
use tokio::task::{JoinError, JoinSet};

use super::awake::KeepAwake;
use super::lease_keeper::LeaseKeeper;
use super::{Runner, attempt};
use crate::scheduler::MAX_INTERRUPTIONS;
use crate::store::{ClaimOptions, StoreError};
use crate::telemetry::{Metrics, OutageLog};

/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

impl Runner {
    /// Works until the drain begins, and then until every attempt is at an end or at a boundary.
    pub async fn run(self) {
        let runner = Arc::new(self);
        let wakeups = runner.store.listen();
        let awake = KeepAwake::start();
        let keeper = LeaseKeeper::new(runner.store.clone(), runner.settings.lease);
        // Ends with this.
        let renewals = match keeper.start(wakeups.cancel_requests()) {
            Ok(renewals) => renewals,
            Err(error) => return tracing::error!(%error, "no lease can be renewed: the system gives no thread"),
        };
        let mut attempts = JoinSet::new();
        let mut outages = OutageLog::new("runner");
        let (mut expired, mut claimed_at) = (true, None);
        // So many are claimed one at a time yet, since the database has failed at one of several.
        let mut alone = 0_usize;
        let mut again = false;
        while !runner.drain.has_begun() {
            if renewals.has_ended() {
                // Its panic has been logged. Without it each attempt would lose its lease.
                return;
            }
            let mut failed = false;
            if std::mem::take(&mut expired) {
                let reaped = runner.reap().await;
                (failed, expired) = (reaped.is_err(), reaped.is_err());
                outages.record(reaped);
            }
            let free = runner.settings.concurrency.saturating_sub(attempts.len());
            if free > 0 {
                runner.store.keep_pace(&mut claimed_at).await;
                let most = if alone > 0 { 1 } else { free };
                again = false;
                let claims = match runner.store.claim_many(&runner.claim_options(), most).await {
                    Ok(claims) => {
                        outages.record(Ok::<_, StoreError>(()));
                        // Whoever finds nothing more has been through all of them; what was claimed alone wasn't all that is due.
                        alone = if claims.is_empty() { 0 } else { alone.saturating_sub(1) };
                        again = !claims.is_empty() && most == 1 || claims.iter().any(|claim| claim.was_held);
                        claims
                    }
                    Err(error) => {
                        alone = match alone {
                            _ if error.fails_at_any() => 0,
                            0 if most > 1 => most,
                            left => left.saturating_sub(1),
                        };
                        failed = alone == 0;
                        outages.record(Err(error));
                        Vec::new()
                    }
                };
                for claim in claims {
                    let (runner, keeper) = (runner.clone(), keeper.clone());
                    attempts.spawn(async move {
                        attempt::execute_claim(&runner, claim, &keeper).await;
                    });
                }
            }
            let running = attempts.len();
            runner.store.set_slots(Some((running, runner.settings.concurrency.saturating_sub(running))));
            awake.wake(!attempts.is_empty());
            tokio::select! {
                () = runner.drain.token().cancelled() => {}
                () = wakeups.deployment() => {}
                () = wakeups.expired() => expired = true,
                () = std::future::ready(()), if (again || alone > 0) && running < runner.settings.concurrency => {}
                () = tokio::time::sleep(AFTER_FAILURE), if failed => {}
                Some(ended) = attempts.join_next() => log_panic(ended),
            }
            // All that have ended meanwhile: their slots are filled together.
            while let Some(ended) = attempts.try_join_next() {
                log_panic(ended);
            }
        }
        runner.store.set_slots(None);
        while let Some(ended) = attempts.join_next().await {
            log_panic(ended);
        }
    }

    fn claim_options(&self) -> ClaimOptions {
        let settings = &self.settings;
        ClaimOptions { lease: settings.lease, limits: settings.limits, registry: settings.registry.clone() }
    }

    /// Releases the deployments of workers that died, and fails those whose servers have been unreachable for too long.
    async fn reap(&self) -> Result<(), StoreError> {
        while let Some((id, became)) = self.store.reap(MAX_INTERRUPTIONS).await? {
            Metrics::get().interrupted();
            let ended = became.outcome().map(Outcome::as_str);
            tracing::warn!(deployment.id = %id, ended, "the worker of this deployment let its lease expire");
        }
        while let Some(id) = self.store.give_up_unreachable(&self.settings.limits).await? {
            tracing::warn!(deployment.id = %id, "the deployment is given up: its server couldn't be reached for too long");
        }
        Ok(())
    }
}

/// The panic itself has been logged by its hook; the lease expires and another attempt follows.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an attempt panicked");
    }
}
