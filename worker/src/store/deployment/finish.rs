//! The end of a deployment: its terminal state, its one result event and, after a failure, its dead letter, together.

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, DeploymentResult, ErrorCode, Outcome};

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd, result};
use crate::store::deployment::head::DeploymentHead;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::moving::undeployment_of;
use crate::store::deployment::places::places;
use crate::store::deployment::project_lock::lock_project;
use crate::store::deployment::state::State;
use crate::store::deployment::write_end::{WrittenEnd, write_ends};
use crate::store::outbox::github_status::announce_undeployment;
use crate::store::pushes::watch::heed_end;
use crate::store::{Result, Store, StoreError};

impl Store {
    /// Ends a deployment: its terminal state, its one result event and, after a failure, its dead letter. A call that
    /// is repeated since its answer was lost gives the same answer.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], [`crate::store::StoreError::GivesWay`], or when the database fails.
    pub async fn finish(&self, lease: &Lease, end: &DeploymentEnd, summary: &AttemptSummary) -> Result<Outcome> {
        deadline(async {
            let mut client = self.alone_client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            if let Some(project) = summary.moves {
                // Before the deployment's row, as whoever stores a request.
                lock_project(&tx, project).await?;
            }
            let mut locked = match LockedDeployment::lock_leased(&tx, lease).await {
                Err(StoreError::LeaseLost) => return outcome_under_lease(&tx, lease).await,
                held => held?,
            };
            // What came after a move's last stage is for the server that the move would have left.
            if let (Action::Move, DeploymentEnd::Succeeded { .. }, Some(by)) =
                (locked.head.action, end, locked.head.superseded_by)
            {
                return Err(StoreError::GivesWay(by));
            }
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
            let mut client = self.alone_client().await?;
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
        let mut result = result(&self.head, end, summary, &seen);
        let outcome = result.outcome;
        if matches!(end, DeploymentEnd::Succeeded { .. }) && self.head.action.deploys() && seen.was_elsewhere {
            result.also_on = self.other_servers().await?;
        }
        let undeploys = match (&mut result.moved, &self.head.project) {
            (Some(moved), Some(project)) if outcome.is_success() => {
                let undeploys = !Box::pin(self.is_wanted_there(project, &moved.from)).await?;
                if undeploys {
                    moved.undeployment = Some(undeployment_of(self.head.id));
                    result.also_on.retain(|server| *server != moved.from);
                }
                Some(undeploys)
            }
            _ => None,
        };
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
        let refused = matches!(end, DeploymentEnd::Failed { failure, .. } if failure.code == ErrorCode::SlugTaken);
        // Nor has the project anything where a move was to bring it, once that was taken back.
        let has_nothing = refused || (self.head.moves.is_some() && (summary.restored || self.head.fence.is_none()));
        self.settle_owned(has_succeeded, has_nothing, &seen).await?;
        if self.head.moves.is_some() && !has_succeeded && !has_nothing {
            Box::pin(self.note_arrival()).await?;
        }
        if let (Some(project), Some(server)) = (&self.head.project, &self.head.server) {
            if has_succeeded && self.head.action == Action::Undeploy {
                announce_undeployment(self.tx, project.id, server).await?;
            }
            if let Some(undeploys) = undeploys {
                // Only moves have this, and every deployment's end has it within it: on the heap, it makes none of them large.
                Box::pin(self.leave_former_server(undeploys)).await?;
            }
            if seen.is_watched {
                heed_end(self.tx, project.id, server, self.head.action, has_succeeded).await?;
            }
        }
        Ok(outcome)
    }

    /// Writes the end and its event; see [`write_ends`].
    async fn write_end(&mut self, result: &DeploymentResult, summary: &AttemptSummary, is_proven: bool) -> Result<()> {
        self.head.state = self.head.state.step(State::Ended(result.outcome))?;
        let traceparent = self.head.own_traceparent();
        write_ends(self.tx, &[WrittenEnd { head: &self.head, result, summary, traceparent, is_proven }]).await?;
        self.head.next_sequence += 1;
        Ok(())
    }

    /// The other servers that the project was deployed to and not taken off since.
    async fn other_servers(&self) -> Result<Vec<ServerHandle>> {
        let (Some(project), Some(server)) = (&self.head.project, &self.head.server) else { return Ok(Vec::new()) };
        let places = places(self.tx, &project.slug).await?.into_iter();
        let others = places.filter(|place| place.project == *project && place.server != *server && !place.gone);
        Ok(others.map(|place| place.server).collect())
    }
}
