//! The end of a deployment: its terminal state, its one result event and, after a failure, its dead letter, together.

use jiff::Timestamp;
use slipway_protocol::names::{ServerHandle, VariableName};
use slipway_protocol::{
    Action, DeploymentId, DeploymentResult, EventType, Exposed, Failure, Outcome, ServiceReport, Serving, StageSummary,
    topology,
};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::deployment::head::DeploymentHead;
use crate::store::deployment::history::LINEAGE;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::places::places;
use crate::store::deployment::state::State;
use crate::store::outbox::github_status::announce_undeployment;
use crate::store::pushes::watch::heed_end;
use crate::store::{Result, Store, StoreError};

/// The outcome of a deployment, with what only its result and its dead letter need.
#[derive(Debug, Clone, PartialEq)]
pub enum DeploymentEnd {
    /// Everything is done. Whether anything was changed for it, the journal knows.
    Succeeded {
        /// Where the project answers, if it's to.
        url: Option<String>,
    },
    /// It failed for good.
    Failed {
        /// The code, class and message, for the result and the dead letter.
        failure: Failure,
        /// For `missing-secret`: the variable that lacks its value.
        missing_secret: Option<VariableName>,
        /// The dead letter's reason: `permanent`, `exhausted`, `overdue` or `interrupted`.
        reason: &'static str,
    },
    /// A newer request took its place.
    Superseded {
        /// The deployment of the newer request, where it's known.
        by: Option<DeploymentId>,
    },
    /// Somebody asked to cancel it.
    Cancelled,
}

/// What an attempt saw, for the result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttemptSummary {
    /// What runs, as seen last.
    pub services: Vec<ServiceReport>,
    /// What serves, after a failure or a start.
    pub serving: Option<Serving>,
    /// The stages that ran to their end, in order.
    pub stages: Vec<StageSummary>,
    /// Sequential SSH round trips of the attempt.
    pub round_trips: Option<u32>,
    /// Whether the previous release serves again, or nothing had to be restored.
    pub restored: bool,
}

impl Store {
    /// Ends a deployment: its terminal state, its one result event and, after a failure, its dead letter. A call that
    /// is repeated since its answer was lost gives the same answer.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn finish(&self, lease: &Lease, end: &DeploymentEnd, summary: &AttemptSummary) -> Result<Outcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let mut locked = match LockedDeployment::lock_leased(&tx, lease).await {
                Err(StoreError::LeaseLost) => return outcome_under_lease(&tx, lease).await,
                held => held?,
            };
            let outcome = locked.finish(self, end, summary).await?;
            commit(tx, TransactionKind::Finish).await?;
            Ok(outcome)
        })
        .await
    }

    /// Ends a deployment for the sake of a newer one; `None` when that was called off meanwhile, and nothing was
    /// written.
    ///
    /// # Errors
    /// As [`Store::finish`].
    pub async fn finish_superseded(&self, lease: &Lease, summary: &AttemptSummary) -> Result<Option<Outcome>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let mut locked = match LockedDeployment::lock_leased(&tx, lease).await {
                Err(StoreError::LeaseLost) => return outcome_under_lease(&tx, lease).await.map(Some),
                held => held?,
            };
            let Some(by) = locked.head.superseded_by else { return Ok(None) };
            let outcome = locked.finish(self, &DeploymentEnd::Superseded { by: Some(by) }, summary).await?;
            commit(tx, TransactionKind::Finish).await?;
            Ok(Some(outcome))
        })
        .await
    }
}

/// How the deployment ended under this very claim, if it did.
async fn outcome_under_lease(tx: &StoreTransaction<'_>, lease: &Lease) -> Result<Outcome> {
    match LockedDeployment::lock(tx, lease.deployment).await? {
        Some(LockedDeployment { head: DeploymentHead { state: State::Ended(outcome), fence, .. }, .. })
            if fence == Some(lease.fence.0) =>
        {
            Ok(outcome)
        }
        _ => Err(StoreError::LeaseLost),
    }
}

impl LockedDeployment<'_> {
    /// The one way to a terminal state.
    pub(in crate::store) async fn finish(
        &mut self,
        store: &Store,
        end: &DeploymentEnd,
        summary: &AttemptSummary,
    ) -> Result<Outcome> {
        // A stage that was cancelled in its midst has no outcome of its own.
        self.tx
            .execute(
                "UPDATE stage_journal SET outcome = 'interrupted', outcome_at = now()
                 WHERE deployment_id = $1 AND fence = $2 AND outcome IS NULL",
                &[&self.head.id.0, &self.head.fence],
            )
            .await?;
        let outcome = match end {
            DeploymentEnd::Succeeded { .. } if self.changed_something().await? => Outcome::Succeeded,
            DeploymentEnd::Succeeded { .. } => Outcome::AlreadyDeployed,
            DeploymentEnd::Failed { missing_secret: Some(_), .. } => Outcome::MissingSecret,
            DeploymentEnd::Failed { .. } => Outcome::Failed,
            DeploymentEnd::Superseded { .. } => Outcome::Superseded,
            DeploymentEnd::Cancelled => Outcome::Cancelled,
        };
        self.step(State::Ended(outcome)).await?;
        let mut result = self.result(outcome, end, summary);
        result.exposed = self.exposed().await?;
        if matches!(end, DeploymentEnd::Succeeded { .. }) && self.head.action.deploys() {
            result.also_on = self.other_servers().await?;
        }
        let round_trips = summary.round_trips.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        self.tx
            .execute(
                "UPDATE deployments SET result = $2, failure = $3, superseded_by = $4, ssh_round_trips = $5,
                     first_failed_at = CASE WHEN $6 THEN coalesce(first_failed_at, now()) ELSE first_failed_at END,
                     last_failed_at = CASE WHEN $6 THEN now() ELSE last_failed_at END
                 WHERE id = $1",
                &[
                    &self.head.id.0,
                    &Json(&result),
                    &result.failure.as_ref().map(Json),
                    &result.superseded_by.map(|id| id.0),
                    &round_trips,
                    &matches!(end, DeploymentEnd::Failed { .. }),
                ],
            )
            .await?;
        let key = topology::result_key(self.head.project.as_ref().map(|p| &p.slug), outcome);
        self.enqueue_event(EventType::Result, key, result).await?;
        if let DeploymentEnd::Failed { failure, reason, .. } = end {
            NewDeadLetter::of_deployment(self.tx, &self.head, failure, reason).await?.insert(self.tx, store).await?;
        }
        // From here on the dead letter has the message, where there is one; kept with each deployment it would fill the
        // disk.
        let forget = "UPDATE deployments SET body = NULL, headers = '{}' WHERE id = $1";
        self.tx.execute(forget, &[&self.head.id.0]).await?;
        let has_succeeded = matches!(outcome, Outcome::Succeeded | Outcome::AlreadyDeployed);
        // Also after a stop or a start: their scripts restore the previous release where that is needed.
        if summary.restored || has_succeeded {
            self.set_unproven(false).await?;
        }
        let failed = if let DeploymentEnd::Failed { failure, .. } = end { Some(failure.code) } else { None };
        self.settle_owned(has_succeeded, failed).await?;
        if let (Some(project), Some(server)) = (&self.head.project, &self.head.server) {
            if has_succeeded && self.head.action == Action::Undeploy {
                announce_undeployment(self.tx, project.id, server).await?;
            }
            heed_end(self.tx, project.id, server, self.head.action, has_succeeded).await?;
        }
        self.release().await?;
        Ok(outcome)
    }

    /// Whether any attempt of this deployment, or of one that it resumes, changed anything, or may have in a stage that
    /// it didn't finish: the last one may have found all of it done.
    async fn changed_something(&self) -> Result<bool> {
        let row = self
            .tx
            .query_one(
                &format!(
                    "SELECT EXISTS (SELECT 1 FROM stage_journal WHERE deployment_id IN ({LINEAGE})
                                    AND (change = 'changed' OR (outcome IS DISTINCT FROM 'done'
                                                             AND stage NOT IN ('preflight', 'verify'))))"
                ),
                &[&self.head.id.0],
            )
            .await?;
        Ok(row.get(0))
    }

    /// What was found to be reachable, by stage verify if it came that far, in this deployment or one that it resumes.
    /// Facts that can't be read are no reason not to end.
    async fn exposed(&self) -> Result<Vec<Exposed>> {
        let found = format!(
            "SELECT facts -> $2 AS exposed FROM stage_journal
             WHERE deployment_id IN ({LINEAGE}) AND stage IN ('firewall', 'verify') AND facts ? $2
             ORDER BY outcome_at DESC LIMIT 1"
        );
        let row = self.tx.query_opt(&found, &[&self.head.id.0, &Exposed::FACT]).await?;
        let read = |row: Row| row.try_get("exposed").map(|Json(exposed)| exposed);
        Ok(row.map(read).transpose().ok().flatten().unwrap_or_default())
    }

    /// The other servers that the project was deployed to and not taken off since.
    async fn other_servers(&self) -> Result<Vec<ServerHandle>> {
        let (Some(project), Some(server)) = (&self.head.project, &self.head.server) else { return Ok(Vec::new()) };
        let places = places(self.tx, &project.slug).await?.into_iter();
        let others = places.filter(|place| place.project == *project && place.server != *server && !place.gone);
        Ok(others.map(|place| place.server).collect())
    }

    fn result(&self, outcome: Outcome, end: &DeploymentEnd, summary: &AttemptSummary) -> DeploymentResult {
        let head = &self.head;
        let (mut url, mut failure, mut missing_secret, mut superseded_by) = (None, None, None, None);
        let mut serving = summary.serving.clone();
        match end {
            DeploymentEnd::Succeeded { url: at } => {
                url.clone_from(at);
                let proven = |commit| Some(Serving { commit, proven: true });
                serving = match head.action {
                    action if action.deploys() => proven(head.commit.clone()),
                    // What is started isn't always what was deployed last: CI may have replaced it.
                    Action::Start => proven(serving.and_then(|serving| serving.commit)),
                    // Stopping and undeploying succeed, and nothing serves.
                    _ => None,
                };
            }
            DeploymentEnd::Failed { failure: why, missing_secret: which, .. } => {
                failure = Some(why.clone());
                missing_secret.clone_from(which);
            }
            DeploymentEnd::Superseded { by } => superseded_by = *by,
            DeploymentEnd::Cancelled => {}
        }
        DeploymentResult {
            deployment_id: head.id,
            action: head.action,
            outcome,
            project: head.project.clone(),
            repository: head.repository.clone(),
            commit: head.commit.clone(),
            server: head.server.clone(),
            url,
            failure,
            missing_secret,
            superseded_by,
            serving,
            also_on: Vec::new(),
            exposed: Vec::new(),
            services: summary.services.clone(),
            stages: summary.stages.clone(),
            attempts: head.attempt,
            accepted_at: head.accepted_at,
            finished_at: Timestamp::now().max(head.accepted_at),
            correlation: head.correlation.clone(),
        }
    }
}
