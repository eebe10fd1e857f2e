//! Claims what is due and carries it out, a bounded number at once. Each attempt runs under a lease that it renews; an
//! attempt whose lease is lost is cancelled and writes nothing more.

mod age;
mod attempt;
mod brake;
mod conclude;
mod keep;
mod pipeline;
mod reporter;
mod settle;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::retry::{Deadlines, RetryPolicy};
use slipway_protocol::Outcome;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use brake::WIND_UP;
pub use pipeline::{Pipeline, PipelineAttempt};

use crate::credentials::Credentials;
use crate::lifecycle::Drain;
use crate::metrics::Metrics;
use crate::scheduler::{Limits, MAX_INTERRUPTIONS};
use crate::store::{Claim, ClaimOptions, Store, StoreError};
use crate::trouble::OutageLog;

/// How often due deployments are looked for without a wake-up.
pub(crate) const POLL: Duration = Duration::from_secs(1);

/// How the runner runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerSettings {
    /// Deployments at once.
    pub concurrency: usize,
    /// How long a lease lasts without a renewal.
    pub lease: Duration,
    /// How often and how far apart whole attempts are made.
    pub attempts: RetryPolicy,
    /// What is never exceeded by all workers together.
    pub limits: Limits,
    /// Where images are pulled from.
    pub registry: String,
    /// How long everything may take.
    pub deadlines: Deadlines,
}

impl RunnerSettings {
    fn terms(&self) -> ClaimOptions {
        ClaimOptions { lease: self.lease, limits: self.limits, registry: self.registry.clone() }
    }
}

/// Carries out deployments until the drain has ended them.
pub struct Runner {
    /// What is due, and what came of it.
    pub store: Store,
    /// What an attempt is.
    pub pipeline: Arc<dyn Pipeline>,
    /// Keys of servers and secrets.
    pub credentials: Arc<Credentials>,
    /// Limits.
    pub settings: RunnerSettings,
    /// When to stop.
    pub drain: Drain,
}

impl Runner {
    /// Works until the drain begins, and then until every attempt is at an end or at a boundary.
    pub async fn run(self) {
        let runner = Arc::new(self);
        let wakeups = runner.store.listen();
        let mut attempts = JoinSet::new();
        let mut reaped = Instant::now();
        let mut database = OutageLog::of("runner");
        while !runner.drain.has_begun() {
            if reaped.elapsed() >= runner.settings.lease / 4 {
                reaped = Instant::now();
                database.note(runner.reap().await);
            }
            if attempts.len() < runner.settings.concurrency {
                let asked = Instant::now();
                match runner.store.claim(runner.settings.terms()).await {
                    Ok(Some(claim)) => {
                        database.note(Ok(()));
                        attempts.spawn(runner.clone().carry_out(claim, asked, wakeups.cancel_requests()));
                        continue;
                    }
                    none_due => database.note(none_due.map(drop)),
                }
            }
            tokio::select! {
                () = runner.drain.token().cancelled() => {}
                () = wakeups.deployment(POLL) => {}
                Some(ended) = attempts.join_next() => note(ended),
            }
        }
        while let Some(ended) = attempts.join_next().await {
            note(ended);
        }
    }

    /// Takes back what crashed workers left, and gives up what waits for dead servers.
    async fn reap(&self) -> Result<(), StoreError> {
        while let Some((id, became)) = self.store.reap(MAX_INTERRUPTIONS).await? {
            Metrics::get().interrupted();
            let ended = became.outcome().map(Outcome::as_str);
            tracing::warn!(deployment.id = %id, ended, "its worker let the lease expire");
        }
        while let Some(id) = self.store.give_up_unreachable(&self.settings.limits).await? {
            tracing::warn!(deployment.id = %id, "its server couldn't be reached for too long");
        }
        Ok(())
    }

    async fn carry_out(self: Arc<Self>, claim: Claim, asked: Instant, wishes: watch::Receiver<()>) {
        attempt::carry_out(&self, claim, asked, wishes).await;
    }
}

/// A panic has been logged by its hook; the lease expires and another attempt follows.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an attempt broke off");
    }
}
