//! Taking a move back: what it has brought goes, and what it has stopped serves again where it was. When that's done is decided by
//! the worker, and within an attempt by its failure.

use slipway_protocol::{Action, ErrorCode, ServiceReport, Serving, Stage};

use crate::remote::script::Script;
use crate::{Attempt, RestoreOutcome, StageError, scripts};

impl Attempt {
    /// Takes the move back after `error`, and adds what serves then.
    pub(super) async fn take_back_after(&mut self, stage: Stage, error: StageError) -> StageError {
        if self.cancel.is_cancelled() {
            return error;
        }
        // Nothing of this attempt is on the new server yet; what an earlier one has left there, the worker knows of.
        let outcome = match stage {
            Stage::Preflight => match self.serve_again().await {
                // What couldn't be seen for the stage can't be seen now, and this attempt hasn't touched it.
                Err(again) if again.code == error.code => return error,
                outcome => outcome.unwrap_or_else(RestoreOutcome::Unknown),
            },
            _ => self.take_back().await,
        };
        outcome.add_to(error)
    }

    /// What was brought goes, and what was stopped serves again where it was.
    pub(super) async fn take_back(&mut self) -> RestoreOutcome {
        // Bots that run twice get nothing done. What isn't here needn't be stopped.
        let quieted = self.stop().await;
        let restored = self.serve_again().await;
        let removed = match quieted {
            Err(error) if error.code.is_connection_failure() => Err(error),
            _ => self.remove_arrived().await,
        };
        match (restored, removed) {
            (Ok(outcome), Ok(())) => {
                self.restored = true;
                outcome
            }
            (Err(error), _) | (_, Err(error)) => RestoreOutcome::Unknown(self.redactor.tell_error(error)),
        }
    }

    async fn serve_again(&mut self) -> Result<RestoreOutcome, StageError> {
        let told = self.departure("stay", &[], 0).await?;
        let since = told.value("stood").and_then(|stood| stood.split(' ').next()?.parse().ok()).unwrap_or(0_u64);
        let was_quieted = since != 0 && !self.moving.was_stopped;
        let services: Vec<ServiceReport> = match was_quieted {
            true => self.on_former(|former| Box::pin(former.start())).await?.services,
            false => Vec::new(),
        };
        self.moving.since = 0;
        self.write_secrets_again().await;
        let present =
            self.on_former(|former| Box::pin(async move { Ok(former.find_present(Stage::Compose).await) })).await?;
        let commit = present.as_ref().and_then(|present| present.commit.as_ref().map(ToString::to_string));
        let serving: Option<Serving> = present.map(|present| present.serving);
        Ok(match was_quieted {
            true => RestoreOutcome::Restored { commit, stable: true, services, serving },
            false => RestoreOutcome::Untouched { commit, services, serving },
        })
    }

    /// GitHub's secrets lead to the server again where the project is.
    async fn write_secrets_again(&mut self) {
        let Some(departure) = &self.work.moving else { return };
        let known = &departure.github_digests;
        let doubtful = self.moving.wrote_secrets || known.is_empty() || known.values().any(String::is_empty);
        if !doubtful || !self.work.request.repository.pushes_deployed_by.uses_ci() || self.work.ci_taken.is_some() {
            return;
        }
        let written = self
            .on_former(|former| {
                former.work.github_digests.clear();
                Box::pin(former.secrets())
            })
            .await;
        self.moving.former_digests = match written {
            Ok(report) => report.github_digests,
            // The project serves where it was, and its next deployment writes them.
            Err(error) => {
                let line = format!(
                    "warning: the secrets at GitHub don't lead back to the server where the project is: {error}"
                );
                self.report_line(Stage::Secrets, &line);
                Some(std::collections::BTreeMap::new())
            }
        };
    }

    /// What GitHub holds again of the server that the project stays on, once a move was taken back.
    pub fn take_former_digests(&mut self) -> Option<std::collections::BTreeMap<String, String>> {
        self.moving.former_digests.take()
    }

    /// Undoes on the new server what the move did there, with the data that it has copied.
    async fn remove_arrived(&mut self) -> Result<(), StageError> {
        let copying = self.leave_arrival().await?;
        self.work.remove_volumes = copying;
        let shares = std::mem::replace(&mut self.work.shares_repository, true);
        let mut removed = Ok(());
        for stage in Action::Undeploy.stages() {
            removed = self.undeploy(*stage).await.map(drop);
            if removed.is_err() {
                break;
            }
        }
        self.work.shares_repository = shares;
        (self.env_on_server, self.judged, self.env_seen) = (None, None, None);
        removed
    }

    /// Whether a move has begun to copy data.
    async fn leave_arrival(&mut self) -> Result<bool, StageError> {
        let script = Script::new("move away", scripts::MOVE_AWAY)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug);
        let message = "what the move has brought couldn't be removed";
        let told = self.exec_or(Stage::Compose, &script, ErrorCode::UndeployFailed, message).await?;
        Ok(told.value("copying").is_some())
    }
}
