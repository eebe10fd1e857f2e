//! The end of a deployment: its terminal state, its one result event and, after a failure, its dead letter, together.

use jiff::Timestamp;
use slipway_protocol::names::{ServerHandle, VariableName};
use slipway_protocol::{
    Action, DeploymentId, DeploymentResult, EventType, Failure, Outcome, ServiceReport, Serving, StageSummary,
};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::wakeups;
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::deployment::head::DeploymentHead;
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
        let seen = self.seen().await?;
        let outcome = match end {
            DeploymentEnd::Succeeded { .. } if seen.changed => Outcome::Succeeded,
            DeploymentEnd::Succeeded { .. } => Outcome::AlreadyDeployed,
            DeploymentEnd::Failed { missing_secret: Some(_), .. } => Outcome::MissingSecret,
            DeploymentEnd::Failed { .. } => Outcome::Failed,
            DeploymentEnd::Superseded { .. } => Outcome::Superseded,
            DeploymentEnd::Cancelled => Outcome::Cancelled,
        };
        let mut result = self.result(outcome, end, summary);
        result.exposed.clone_from(&seen.exposed);
        if matches!(end, DeploymentEnd::Succeeded { .. }) && self.head.action.deploys() && seen.was_elsewhere {
            result.also_on = self.other_servers().await?;
        }
        // Read before it's forgotten with the end: from then on the dead letter has the message.
        let dead_letter = match end {
            DeploymentEnd::Failed { failure, reason, .. } => {
                Some(NewDeadLetter::of_deployment(self.tx, &self.head, failure, reason).await?)
            }
            _ => None,
        };
        let has_succeeded = matches!(outcome, Outcome::Succeeded | Outcome::AlreadyDeployed);
        // Also after a stop or a start: their scripts restore the previous release where that is needed.
        self.write_end(&result, summary, summary.restored || has_succeeded).await?;
        if let Some(dead_letter) = dead_letter {
            dead_letter.insert(self.tx, store).await?;
        }
        let failed = if let DeploymentEnd::Failed { failure, .. } = end { Some(failure.code) } else { None };
        self.settle_owned(has_succeeded, failed, &seen).await?;
        if let (Some(project), Some(server)) = (&self.head.project, &self.head.server) {
            if has_succeeded && self.head.action == Action::Undeploy {
                announce_undeployment(self.tx, project.id, server).await?;
            }
            if seen.is_watched {
                heed_end(self.tx, project.id, server, self.head.action, has_succeeded).await?;
            }
        }
        Ok(outcome)
    }

    /// Writes the end and its event, and gives the project's lease back if it's still this deployment's; a stage that was
    /// cancelled in its midst has no outcome of its own. Who may have waited for the lease or for a free place is woken.
    async fn write_end(&mut self, result: &DeploymentResult, summary: &AttemptSummary, is_proven: bool) -> Result<()> {
        const SQL: &str = "
            WITH cut AS (
                UPDATE stage_journal SET outcome = 'interrupted', outcome_at = now()
                WHERE deployment_id = $1 AND fence = $2 AND outcome IS NULL),
            ended AS (
                UPDATE deployments SET state = $3, finished_at = now(), result = $4, failure = $5, superseded_by = $6,
                    ssh_round_trips = $7, body = NULL, headers = '{}', next_sequence = $8::bigint + 1,
                    first_failed_at = CASE WHEN $9 THEN coalesce(first_failed_at, now()) ELSE first_failed_at END,
                    last_failed_at = CASE WHEN $9 THEN now() ELSE last_failed_at END
                WHERE id = $1),
            told AS (
                INSERT INTO outbox (deployment_id, sequence, type, traceparent, must_route)
                VALUES ($1, $8, $10, $11, true)),
            given_back AS (
                UPDATE project_leases SET expires_at = CASE WHEN fence = $2 THEN now() ELSE expires_at END,
                    unsettled = unsettled AND NOT $14
                WHERE project_slug = $12 AND server = $13 AND (fence = $2 OR (unsettled AND $14))),
            proven AS (
                UPDATE slug_owners SET proven = true
                WHERE $17 AND server = $13 AND project_slug = $12 AND project_id = $18 AND NOT proven)
            SELECT pg_notify($15, ''), CASE WHEN $16::text IS NOT NULL THEN pg_notify($16, '') END";
        let to = State::Ended(result.outcome);
        let has_succeeded = matches!(result.outcome, Outcome::Succeeded | Outcome::AlreadyDeployed);
        // Once a deployment of it has succeeded there, the slug is the project's whatever fails later.
        let proves_slug = has_succeeded && self.head.action != Action::Undeploy;
        self.head.state = self.head.state.step(to)?;
        // Another deployment of this project may have waited for the lease.
        let others = self.head.fence.and_then(|_| self.tx.others_to_wake_after_attempt());
        let round_trips = summary.round_trips.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        let sequence = i64::try_from(self.head.next_sequence).unwrap_or(i64::MAX);
        self.tx
            .execute(
                SQL,
                &[
                    &self.head.id.0,
                    &self.head.fence,
                    &to.as_str(),
                    &Json(result),
                    &result.failure.as_ref().map(Json),
                    &result.superseded_by.map(|id| id.0),
                    &round_trips,
                    &sequence,
                    &result.failure.is_some(),
                    &EventType::Result.as_str(),
                    &self.own_traceparent(),
                    &self.head.project.as_ref().map(|project| project.slug.as_str()),
                    &self.head.server.as_ref().map(ServerHandle::as_str),
                    &is_proven,
                    &wakeups::OUTBOX,
                    &others,
                    &proves_slug,
                    &self.head.project.as_ref().map(|project| project.id.0),
                ],
            )
            .await?;
        self.head.next_sequence += 1;
        self.tx.count_end(result.outcome);
        Ok(())
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
