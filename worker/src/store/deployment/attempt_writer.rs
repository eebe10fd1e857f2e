//! What running attempts write, together with what others of this process write at the same time. Whatever can't go
//! together goes alone, by the very same statement: so a group changes how often something is asked, and nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use slipway_protocol::{DeploymentId, Outcome, Stage};

use crate::store::connection::deadline::deadline;
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::finish_together::AttemptFinish;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::stage::{StageEnd, StageIntent};
use crate::store::deployment::state::Boundary;
use crate::store::deployment::step::AttemptStep;
use crate::store::deployment::step_statement::Locked;
use crate::store::grouped::GroupedWrites;
use crate::store::{Result, Store, StoreError};

/// Writes for the attempts of a process; cheap to clone.
#[derive(Clone)]
pub struct AttemptWriter {
    store: Store,
    steps: Arc<GroupedWrites<Arc<AttemptStep>, Boundary>>,
    ends: Arc<GroupedWrites<Arc<AttemptFinish>, Outcome>>,
    /// Deployments at which the database has failed: they'd spoil each group that they are in.
    apart: Arc<Mutex<BTreeSet<DeploymentId>>>,
}

/// More deployments than these aren't kept apart: those that came first have ended most likely.
const MOST_APART: usize = 1000;

impl AttemptWriter {
    /// A writer to `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, steps: Arc::default(), ends: Arc::default(), apart: Arc::default() }
    }

    /// As [`Store::stage_started`].
    ///
    /// # Errors
    /// As there.
    pub async fn stage_started(&self, lease: &Lease, stage: Stage, input_hash: &[u8]) -> Result<Boundary> {
        self.step(AttemptStep::of_stage(lease, None, Some(StageIntent { stage, input_hash }))?).await
    }

    /// As [`Store::stage_finished`].
    ///
    /// # Errors
    /// As there.
    pub async fn stage_finished(
        &self,
        lease: &Lease,
        end: StageEnd<'_>,
        next: Option<StageIntent<'_>>,
    ) -> Result<Boundary> {
        let boundary = self.step(AttemptStep::of_stage(lease, Some(end), next)?).await?;
        self.store.heed_facts(&lease.server, end.facts).await;
        Ok(boundary)
    }

    async fn step(&self, step: AttemptStep) -> Result<Boundary> {
        let (id, step) = (step.deployment(), Arc::new(step));
        if step.may_be_grouped() && !self.is_apart(id) {
            let store = self.store.clone();
            let together = move |steps: Vec<Arc<AttemptStep>>| {
                let store = store.clone();
                async move { deadline(store.write_steps(&steps, Locked::Skip)).await.unwrap_or_default() }
            };
            if let Some(boundary) = self.steps.write(step.clone(), self.store.running(), together).await {
                return Ok(boundary);
            }
        }
        self.noted(id, self.store.write_step_alone(&step).await)
    }

    fn is_apart(&self, id: DeploymentId) -> bool {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    fn noted<T>(&self, id: DeploymentId, written: Result<T>) -> Result<T> {
        if let Err(StoreError::Database(_) | StoreError::TimedOut(_)) = &written {
            let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
            if apart.len() >= MOST_APART {
                apart.clear();
            }
            apart.insert(id);
        }
        written
    }

    /// As [`Store::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(&self, lease: &Lease, end: &DeploymentEnd, summary: &AttemptSummary) -> Result<Outcome> {
        if matches!(end, DeploymentEnd::Succeeded { .. }) && !self.is_apart(lease.deployment) {
            let finish = Arc::new(AttemptFinish {
                lease: lease.clone(),
                end: end.clone(),
                summary: summary.clone(),
                traceparent: crate::telemetry::current_traceparent(),
            });
            let store = self.store.clone();
            let together = move |finishes: Vec<Arc<AttemptFinish>>| {
                let store = store.clone();
                async move { deadline(store.finish_together(&finishes)).await.unwrap_or_default() }
            };
            if let Some(outcome) = self.ends.write(finish, self.store.running(), together).await {
                return Ok(outcome);
            }
        }
        self.noted(lease.deployment, self.store.finish(lease, end, summary).await)
    }
}
