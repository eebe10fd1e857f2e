//! What a running attempt writes: the journal of its stages, progress, and its end. Every call names the lease and
//! writes nothing when that is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::names::VariableName;
use slipway_protocol::{
    Change, DeploymentId, DeploymentResult, EventType, Failure, Outcome, ProgressKind, ProjectId, ServiceReport, Stage,
    StageSummary, topology,
};
use tokio_postgres::types::Json;

use super::claims::seconds;
use super::dead_letters::NewDeadLetter;
use super::ledger::Ledger;
use super::state::State;
use super::{Lease, Result, Store, deadline};
use slipway_protocol::names::ServerHandle;

/// Whether an attempt may go on; asked at every boundary between stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// It may.
    GoOn,
    /// A newer request for the same project waits.
    Superseded(DeploymentId),
    /// An operator asked to cancel it.
    Cancelled,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The project answers. Whether anything was changed for it, the journal knows.
    Succeeded {
        /// Where.
        url: Option<String>,
    },
    /// It failed for good.
    Failed {
        /// Why.
        failure: Failure,
        /// Which secret is missing, for `missing-secret`.
        missing_secret: Option<VariableName>,
        /// The dead letter's reason: `permanent`, `exhausted` or `interrupted`.
        reason: &'static str,
    },
    /// A newer request took its place.
    Superseded {
        /// The newer one.
        by: Option<DeploymentId>,
    },
    /// It was cancelled.
    Cancelled,
}

/// What an attempt saw, for the result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageEnd {
    /// What runs, as seen last.
    pub services: Vec<ServiceReport>,
    /// The stages that ran to their end, in order.
    pub stages: Vec<StageSummary>,
    /// Sequential SSH round trips of the attempt.
    pub round_trips: Option<u32>,
}

impl Store {
    /// Notes the intent to run a stage and tells it, unless the deployment is to stop at this boundary.
    ///
    /// # Errors
    /// [`super::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_started(&self, lease: &Lease, stage: Stage, input_hash: &[u8]) -> Result<Boundary> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            let mut ledger = Ledger::held(&tx, lease).await?;
            let attempt = ledger.head.attempt;
            if ledger.head.cancel_requested {
                return Ok(Boundary::Cancelled);
            }
            if let Some(by) = ledger.head.superseded_by {
                return Ok(Boundary::Superseded(by));
            }
            tx.execute(
                "INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash) VALUES ($1, $2, $3, $4, $5)",
                &[
                    &lease.deployment.0,
                    &lease.fence.0,
                    &i32::try_from(attempt).unwrap_or(i32::MAX),
                    &stage.as_str(),
                    &input_hash,
                ],
            )
            .await?;
            ledger.progress(ProgressKind::StageStarted { stage, attempt }).await?;
            tx.commit().await?;
            Ok(Boundary::GoOn)
        })
        .await
    }

    /// Notes that a stage is done and tells it.
    ///
    /// # Errors
    /// [`super::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_finished(
        &self,
        lease: &Lease,
        summary: &StageSummary,
        facts: &serde_json::Map<String, serde_json::Value>,
        digests: Option<(ProjectId, &BTreeMap<String, String>)>,
    ) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            let mut ledger = Ledger::held(&tx, lease).await?;
            let attempt = ledger.head.attempt;
            let change = match summary.change {
                Change::Changed => "changed",
                Change::Unchanged => "unchanged",
            };
            tx.execute(
                "UPDATE stage_journal SET outcome = 'done', outcome_at = now(), change = $4, facts = $5, duration_ms = $6
                 WHERE deployment_id = $1 AND fence = $2 AND stage = $3",
                &[
                    &lease.deployment.0,
                    &lease.fence.0,
                    &summary.stage.as_str(),
                    &change,
                    &Json(facts),
                    &i64::try_from(summary.duration_ms).unwrap_or(i64::MAX),
                ],
            )
            .await?;
            if let Some((project, digests)) = digests {
                save_digests(&tx, project, &lease.server, digests).await?;
            }
            ledger
                .progress(ProgressKind::StageFinished {
                    stage: summary.stage,
                    attempt,
                    change: summary.change,
                    duration_ms: summary.duration_ms,
                    facts: facts.clone(),
                })
                .await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Notes that a stage failed; what follows from it is told by [`Store::retry`] or [`Store::finish`].
    ///
    /// # Errors
    /// [`super::StoreError::LeaseLost`], or when the database fails.
    pub async fn stage_failed(&self, lease: &Lease, stage: Stage, failure: &Failure, took: Duration) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            Ledger::held(&tx, lease).await?;
            tx.execute(
                "UPDATE stage_journal SET outcome = 'failed', outcome_at = now(), failure = $4, duration_ms = $5
                 WHERE deployment_id = $1 AND fence = $2 AND stage = $3",
                &[
                    &lease.deployment.0,
                    &lease.fence.0,
                    &stage.as_str(),
                    &Json(failure),
                    &i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
                ],
            )
            .await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Tells what happened within an attempt: log lines, in-stage retries.
    ///
    /// # Errors
    /// [`super::StoreError::LeaseLost`], or when the database fails.
    pub async fn tell(&self, lease: &Lease, kinds: Vec<ProgressKind>) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            let mut ledger = Ledger::held(&tx, lease).await?;
            for kind in kinds {
                ledger.progress(kind).await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Schedules the next attempt `delay` from now and gives the lease back. A deployment that is to stop ends here
    /// instead: then there is no moment to give.
    ///
    /// # Errors
    /// [`super::StoreError::LeaseLost`], or when the database fails.
    pub async fn retry(&self, lease: &Lease, failure: Failure, delay: Duration) -> Result<Option<Timestamp>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            let mut ledger = Ledger::held(&tx, lease).await?;
            let stopped = match (ledger.head.cancel_requested, ledger.head.superseded_by) {
                (true, _) => Some(End::Cancelled),
                (false, Some(by)) => Some(End::Superseded { by: Some(by) }),
                (false, None) => None,
            };
            if let Some(end) = stopped {
                ledger.finish(self, &end, &StageEnd::default()).await?;
                tx.commit().await?;
                return Ok(None);
            }
            let run_at: Timestamp = tx
                .query_one(
                    "UPDATE deployments SET run_at = now() + $2 * interval '1 second', failure = $3,
                         first_failed_at = coalesce(first_failed_at, now()), last_failed_at = now()
                     WHERE id = $1 RETURNING run_at",
                    &[&lease.deployment.0, &seconds(delay), &Json(&failure)],
                )
                .await?
                .get(0);
            let attempt = ledger.head.attempt + 1;
            ledger.progress(ProgressKind::AttemptScheduled { attempt, run_at, failure }).await?;
            ledger.release().await?;
            ledger.step(State::Pending).await?;
            tx.commit().await?;
            Ok(Some(run_at))
        })
        .await
    }

    /// Ends a deployment: its terminal state, its one result event and, after a failure, its dead letter.
    ///
    /// # Errors
    /// [`super::StoreError::LeaseLost`], or when the database fails.
    pub async fn finish(&self, lease: &Lease, end: &End, seen: &StageEnd) -> Result<Outcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = client.transaction().await?;
            let mut ledger = Ledger::held(&tx, lease).await?;
            let outcome = ledger.finish(self, end, seen).await?;
            tx.commit().await?;
            Ok(outcome)
        })
        .await
    }

    /// Keyed digests of the GitHub secrets that were written for this project and server, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn github_digests(&self, project: ProjectId, server: &ServerHandle) -> Result<BTreeMap<String, String>> {
        deadline(async {
            let client = self.client().await?;
            let rows = client
                .query(
                    "SELECT name, digest FROM github_digests WHERE project_id = $1 AND server = $2",
                    &[&project.0, &server.as_str()],
                )
                .await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
        })
        .await
    }
}

async fn save_digests(
    tx: &tokio_postgres::Transaction<'_>,
    project: ProjectId,
    server: &ServerHandle,
    digests: &BTreeMap<String, String>,
) -> Result<()> {
    tx.execute("DELETE FROM github_digests WHERE project_id = $1 AND server = $2", &[&project.0, &server.as_str()])
        .await?;
    let names: Vec<&str> = digests.keys().map(String::as_str).collect();
    let values: Vec<&str> = digests.values().map(String::as_str).collect();
    tx.execute(
        "INSERT INTO github_digests (project_id, server, name, digest)
         SELECT $1, $2, * FROM unnest($3::text[], $4::text[])",
        &[&project.0, &server.as_str(), &names, &values],
    )
    .await?;
    Ok(())
}

impl Ledger<'_> {
    /// The one way to a terminal state.
    pub(super) async fn finish(&mut self, store: &Store, end: &End, seen: &StageEnd) -> Result<Outcome> {
        let outcome = match end {
            End::Succeeded { .. } if self.changed_something().await? => Outcome::Succeeded,
            End::Succeeded { .. } => Outcome::AlreadyDeployed,
            End::Failed { missing_secret: Some(_), .. } => Outcome::MissingSecret,
            End::Failed { .. } => Outcome::Failed,
            End::Superseded { .. } => Outcome::Superseded,
            End::Cancelled => Outcome::Cancelled,
        };
        self.step(State::Ended(outcome)).await?;
        let result = self.result(outcome, end, seen);
        let round_trips = seen.round_trips.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
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
                    &matches!(end, End::Failed { .. }),
                ],
            )
            .await?;
        let key = topology::result_key(self.head.project.as_ref().map(|p| &p.slug), outcome);
        self.event(EventType::Result, key, result).await?;
        if let End::Failed { failure, reason, .. } = end {
            NewDeadLetter::of_deployment(self.tx, &self.head, failure, reason).await?.insert(self.tx, store).await?;
        }
        self.release().await?;
        Ok(outcome)
    }

    /// Whether any attempt of this deployment changed anything, or may have in a stage that it didn't finish: the last
    /// one may have found all of it done.
    async fn changed_something(&self) -> Result<bool> {
        let row = self
            .tx
            .query_one(
                "SELECT EXISTS (SELECT 1 FROM stage_journal WHERE deployment_id = $1
                                AND (change = 'changed' OR (outcome IS DISTINCT FROM 'done'
                                                         AND stage NOT IN ('preflight', 'verify'))))",
                &[&self.head.id.0],
            )
            .await?;
        Ok(row.get(0))
    }

    fn result(&self, outcome: Outcome, end: &End, seen: &StageEnd) -> DeploymentResult {
        let head = &self.head;
        let (mut url, mut failure, mut missing_secret, mut superseded_by) = (None, None, None, None);
        match end {
            End::Succeeded { url: at } => url.clone_from(at),
            End::Failed { failure: why, missing_secret: which, .. } => {
                failure = Some(why.clone());
                missing_secret.clone_from(which);
            }
            End::Superseded { by } => superseded_by = *by,
            End::Cancelled => {}
        }
        DeploymentResult {
            deployment_id: head.id,
            outcome,
            project: head.project.clone(),
            repository: head.repository.clone(),
            commit: head.commit.clone(),
            server: head.server.clone(),
            url,
            failure,
            missing_secret,
            superseded_by,
            services: seen.services.clone(),
            stages: seen.stages.clone(),
            attempts: head.attempt,
            accepted_at: head.accepted_at,
            finished_at: Timestamp::now().max(head.accepted_at),
            correlation: head.correlation.clone(),
        }
    }
}
