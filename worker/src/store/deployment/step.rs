//! A step of an attempt: what it ends, what it begins, and what it tells. It's decided beforehand and written by one
//! statement, alone or together with the steps of other attempts.

use std::collections::BTreeMap;
use std::sync::Arc;

use slipway_protocol::{Action, Change, DeploymentId, EventType, ProgressKind, ProjectId, Stage};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::wakeups;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::stage::{StageEnd, StageIntent};
use crate::store::deployment::state::Boundary;
use crate::store::deployment::step_statement::{self, Locked};
use crate::store::deployment::unproven::leaves_unproven;
use crate::store::outbox::event_sequence::told;
use crate::store::{Result, Store};

/// A step, decided.
#[derive(Debug, Clone)]
pub(in crate::store) struct AttemptStep {
    lease: Lease,
    write: TransactionKind,
    ended: Option<EndedStage>,
    begun: Option<(Stage, Vec<u8>)>,
    /// What GitHub holds of a project's secrets now.
    digests: Option<(ProjectId, BTreeMap<String, String>)>,
    /// What it tells, in order, and what has to be new for that.
    news: Vec<(Novelty, Vec<u8>)>,
    traceparent: Option<String>,
}

#[derive(Debug, Clone)]
struct EndedStage {
    stage: Stage,
    change: &'static str,
    facts: serde_json::Map<String, serde_json::Value>,
    duration_ms: i64,
}

/// What is told only if it's new: an outcome or an intent that is there already belongs to a call that is repeated since
/// its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Novelty {
    End = 0,
    Begin = 1,
    Always = 2,
}

impl AttemptStep {
    /// A stage that is done, the intent to run the next one, or both.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub(in crate::store) fn of_stage(
        lease: &Lease,
        end: Option<StageEnd<'_>>,
        next: Option<StageIntent<'_>>,
    ) -> Result<Self> {
        let write = match end {
            Some(_) => TransactionKind::StageFinished,
            None => TransactionKind::StageStarted,
        };
        let mut step = Self::of_progress(lease, &[])?;
        step.write = write;
        if let Some(StageEnd { summary, facts, digests }) = end {
            let change = match summary.change {
                Change::Changed => "changed",
                Change::Unchanged => "unchanged",
            };
            let duration_ms = i64::try_from(summary.duration_ms).unwrap_or(i64::MAX);
            step.ended = Some(EndedStage { stage: summary.stage, change, facts: facts.clone(), duration_ms });
            step.digests = digests.map(|(project, digests)| (project, digests.clone()));
            let finished = ProgressKind::StageFinished {
                stage: summary.stage,
                attempt: lease.attempt,
                change: summary.change,
                duration_ms: summary.duration_ms,
                facts: facts.clone(),
            };
            step.news.push((Novelty::End, told(&finished)?));
        }
        if let Some(StageIntent { stage, input_hash }) = next {
            step.begun = Some((stage, input_hash.to_vec()));
            step.news.push((Novelty::Begin, told(&ProgressKind::StageStarted { stage, attempt: lease.attempt })?));
        }
        Ok(step)
    }

    /// Progress within a stage.
    ///
    /// # Errors
    /// As [`Self::of_stage`].
    pub(in crate::store) fn of_progress(lease: &Lease, kinds: &[ProgressKind]) -> Result<Self> {
        let news = kinds.iter().map(|kind| Ok((Novelty::Always, told(kind)?))).collect::<Result<_>>()?;
        Ok(Self {
            lease: lease.clone(),
            write: TransactionKind::RecordProgress,
            ended: None,
            begun: None,
            digests: None,
            news,
            traceparent: crate::telemetry::current_traceparent(),
        })
    }

    /// Whose step it is.
    pub(in crate::store) fn deployment(&self) -> DeploymentId {
        self.lease.deployment
    }

    /// Whether a stage's step may be written together with others: it says nothing new of what belongs to more than its
    /// deployment. Progress never is: it would be told twice where a group's answer was lost.
    pub(in crate::store) fn may_be_grouped(&self) -> bool {
        self.digests.is_none()
    }

    fn is_about_secrets(&self) -> bool {
        self.digests.is_some() || self.begun.as_ref().is_some_and(|(stage, _)| *stage == Stage::Secrets)
    }

    /// The actions of which the release is unproven from here on.
    fn touching(&self) -> Option<String> {
        let (stage, _) = self.begun.as_ref()?;
        let actions = Action::ALL.into_iter().filter(|action| leaves_unproven(*action, *stage));
        Some(actions.map(Action::as_str).collect::<Vec<_>>().join(","))
    }
}

impl Store {
    /// Writes steps of different attempts by one statement; gives for each at which boundary it is, or nothing if its
    /// lease is lost or, with [`Locked::Skip`], somebody has locked it.
    ///
    /// # Errors
    /// When the database fails; then none was written.
    pub(in crate::store) async fn write_steps(
        &self,
        steps: &[Arc<AttemptStep>],
        locked: Locked,
    ) -> Result<Vec<Option<Boundary>>> {
        let each = |value: fn(&AttemptStep) -> &str| -> Vec<&str> { steps.iter().map(|step| value(step)).collect() };
        let ended = |value: fn(&EndedStage) -> &str| -> Vec<Option<&str>> {
            steps.iter().map(|step| step.ended.as_ref().map(value)).collect()
        };
        let (mut news, mut known) =
            ((Vec::new(), Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new()));
        for (number, step) in (1_i64..).zip(steps) {
            for (place, (novelty, told)) in (0_i32..).zip(&step.news) {
                news.0.push(number);
                news.1.push(place);
                news.2.push(*novelty as i32);
                news.3.push(told.as_slice());
            }
            for (name, digest) in step.digests.iter().flat_map(|(_, digests)| digests) {
                known.0.push(number);
                known.1.push(name.as_str());
                known.2.push(digest.as_str());
            }
        }
        let sql = step_statement::of(locked, steps.iter().any(|step| step.is_about_secrets()));
        let writes: Vec<TransactionKind> = steps.iter().map(|step| step.write).collect();
        let client = match locked {
            Locked::Skip => self.groups_client().await?,
            Locked::Wait => self.alone_client().await?,
        };
        let relay = client.relay_to_wake();
        let told = client.wakes(relay);
        let rows = self
            .write_shortly(
                client,
                &writes,
                sql,
                &[
                    &steps.iter().map(|step| step.lease.deployment.0).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.lease.fence.0).collect::<Vec<_>>(),
                    &each(|step| step.lease.slug.as_str()),
                    &each(|step| step.lease.server.as_str()),
                    &ended(|ended| ended.stage.as_str()),
                    &ended(|ended| ended.change),
                    &steps.iter().map(|step| step.ended.as_ref().map(|ended| Json(&ended.facts))).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.ended.as_ref().map(|ended| ended.duration_ms)).collect::<Vec<_>>(),
                    &steps.iter().map(|s| i32::try_from(s.lease.attempt).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
                    &steps.iter().map(|s| s.begun.as_ref().map(|(stage, _)| stage.as_str())).collect::<Vec<_>>(),
                    &steps.iter().map(|s| s.begun.as_ref().map(|(_, hash)| hash.as_slice())).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.touching()).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.traceparent.as_deref()).collect::<Vec<_>>(),
                    &steps.iter().map(|s| s.digests.as_ref().map(|(project, _)| project.0)).collect::<Vec<_>>(),
                    &news.0,
                    &news.1,
                    &news.2,
                    &news.3,
                    &EventType::Progress.as_str(),
                    &known.0,
                    &known.1,
                    &known.2,
                    &relay,
                    &wakeups::DEPLOYMENTS,
                ],
                told,
            )
            .await?;
        let mut boundaries = vec![None; steps.len()];
        for row in &rows {
            let number = row.get::<_, i64>("number");
            let Some(at) = usize::try_from(number - 1).ok().filter(|at| *at < steps.len()) else { continue };
            boundaries[at] = Some(boundary(row));
            if row.get("reached_again") {
                tracing::info!(server.handle = %steps[at].lease.server, "the server's circuit is closed");
            }
        }
        Ok(boundaries)
    }
}

fn boundary(row: &Row) -> Boundary {
    match row.get::<_, Option<Uuid>>("superseded_by") {
        _ if row.get("cancelled") => Boundary::Cancelled,
        Some(by) => Boundary::Superseded(DeploymentId(by)),
        None => Boundary::GoOn,
    }
}
