//! Restoring the previous release: after a release that failed or was cancelled, the one that served before serves
//! again, with its checkout, its `.env` and its override. Stage clone records on the server which one that is, and the
//! record goes once a release has proven itself; without it there is nothing to restore. What is done in which case is
//! decided on the server, in `scripts/restore_previous.sh`; when to restore is decided by the worker, and within an
//! attempt by the stages.

use secrecy::ExposeSecret as _;
use slipway_protocol::{Action, ErrorCode, ServiceReport, Serving, Stage};
use tokio_util::sync::CancellationToken;

use super::compose::parse_services;
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, ErrorDetail, StageError};

const NOT_KNOWN: &str = "whether the release before it was put back isn't known";

/// How restoring ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RestoreOutcome {
    /// There was nothing to restore.
    Nothing,
    /// Nothing served before, and what had been started was stopped.
    Stopped,
    /// What was deployed was stopped before, and is so again, or still.
    StaysStopped {
        /// The commit that it's proven to be.
        commit: Option<String>,
        /// Its stopped services.
        services: Vec<ServiceReport>,
    },
    /// What served before serves on: only files had been touched, and they are as before.
    Untouched {
        /// The commit that it's proven to be.
        commit: Option<String>,
        /// Its services, as seen last.
        services: Vec<ServiceReport>,
        /// What answers from outside; `None`: nobody could look.
        serving: Option<Serving>,
    },
    /// What served before was restored.
    Restored {
        /// The commit that it's proven to be.
        commit: Option<String>,
        /// Whether all of it runs and stays.
        stable: bool,
        /// Its services, as seen last.
        services: Vec<ServiceReport>,
        /// What answers from outside; `None`: nobody could look.
        serving: Option<Serving>,
    },
    /// It isn't known how it ended.
    Unknown(StageError),
}

impl RestoreOutcome {
    /// What serves now, in words that follow the reason; `None` when there's nothing to say.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let answers = match self.serving() {
            Some(serving) if serving.proven => ", and answers",
            Some(_) => ", and doesn't answer",
            None => "",
        };
        let name = |commit: &Option<String>, was: &str| match commit {
            Some(commit) => format!("commit {commit}, which {was} before,"),
            None => format!("what {was} before"),
        };
        Some(match self {
            Self::Nothing => return None,
            Self::Stopped => "nothing served before, and what had been started was stopped".to_owned(),
            Self::StaysStopped { commit, .. } => format!("{} is stopped, as it was", name(commit, "was deployed")),
            Self::Untouched { commit, .. } => format!("{} serves on{answers}", name(commit, "served")),
            Self::Restored { commit, stable: true, .. } => {
                format!("{} was put back and is stable{answers}", name(commit, "served"))
            }
            Self::Restored { commit, stable: false, .. } => {
                format!("{} was put back, but doesn't become stable{answers}", name(commit, "served"))
            }
            Self::Unknown(error) => {
                format!("{NOT_KNOWN}: {}", error.message)
            }
        })
    }

    /// What serves now, for the result; `None` where there was nothing to restore or nobody could look.
    #[must_use]
    pub fn serving(&self) -> Option<Serving> {
        match self {
            Self::Untouched { serving, .. } | Self::Restored { serving, .. } => serving.clone(),
            Self::Stopped | Self::StaysStopped { .. } => Some(Serving { commit: None, proven: false }),
            Self::Nothing | Self::Unknown(_) => None,
        }
    }

    /// Whether nothing is left to be restored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !matches!(self, Self::Unknown(_) | Self::Restored { stable: false, .. })
    }

    /// What runs, where that was seen.
    #[must_use]
    pub fn services(&self) -> &[ServiceReport] {
        match self {
            Self::StaysStopped { services, .. }
            | Self::Untouched { services, .. }
            | Self::Restored { services, .. } => services,
            Self::Nothing | Self::Stopped | Self::Unknown(_) => &[],
        }
    }

    /// `error` with what serves now added to it, unless it says so already.
    #[must_use]
    pub fn add_to(&self, error: StageError) -> StageError {
        let Some(description) = self.describe() else { return error };
        let description = match self {
            Self::Unknown(cause) if error.message.contains(&cause.message) => NOT_KNOWN.to_owned(),
            _ => description,
        };
        let message = match error.message.contains(&description) {
            true => error.message,
            false => format!("{}; {description}", error.message),
        };
        let seen = self.services();
        let services = if seen.is_empty() { error.services } else { seen.into() };
        let serving = self.serving().or(error.detail.serving);
        StageError { message, services, detail: Box::new(ErrorDetail { serving, ..*error.detail }), ..error }
    }
}

impl Attempt {
    /// Restores what this deployment has touched, when it has failed for good or was cancelled. `keep_first`: where
    /// nothing served before, what runs is left running, so that somebody can look at it. One round trip that changes
    /// nothing when nothing was touched. Whether the restored release answers is tried from outside. May be called again
    /// while the server can't be reached. `cancel` replaces the attempt's own token, which may be cancelled already.
    pub async fn restore_previous(&mut self, keep_first: bool, cancel: CancellationToken) -> RestoreOutcome {
        self.cancel = cancel;
        if self.restored {
            return RestoreOutcome::Nothing;
        }
        if self.work.action == Action::Move {
            return self.take_back().await;
        }
        match self.restore_in(Stage::Compose, keep_first).await {
            RestoreOutcome::Unknown(error) => {
                if error.code.is_connection_failure() {
                    self.drop_session();
                }
                RestoreOutcome::Unknown(self.redactor.tell_error(error))
            }
            known => known,
        }
    }

    /// Restores the previous release after `error` of the new one, and adds to the error what serves then. Where nothing
    /// served before, the error stays as it is.
    pub(crate) async fn restore_after(&mut self, stage: Stage, error: StageError) -> StageError {
        self.restore_in(stage, true).await.add_to(error)
    }

    async fn restore_in(&mut self, stage: Stage, keep_first: bool) -> RestoreOutcome {
        let script = Script::new("put back", scripts::RESTORE_PREVIOUS)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .bytes("auth", self.registry_login().expose_secret().as_bytes())
            .word("first", &if keep_first { "keep" } else { "stop" })
            .number("limit", self.script_limit())
            .number("patience", self.config().health_timeout.as_secs())
            .word("door", &self.former_door_image())
            .bytes("acme", self.acme_lines().expose_secret().as_bytes())
            .number("drain", self.drain_seconds());
        let outcome = self.exec(stage, &script).await;
        // The .env may be another one now.
        self.env_on_server = None;
        match outcome {
            Ok(outcome) => {
                self.restored = true;
                let stable = outcome.is_ok();
                let (Ok(output) | Err(output)) = outcome;
                let outcome = match (read_outcome(&output, stable), &self.left.unchanged) {
                    // Nothing was noted that could be restored, since nothing was touched.
                    (RestoreOutcome::Nothing, Some(services)) => {
                        RestoreOutcome::Untouched { commit: None, services: services.clone(), serving: None }
                    }
                    (outcome, _) => outcome,
                };
                self.add_present(stage, outcome).await
            }
            // What is there is another project's.
            Err(error) if error.code == ErrorCode::SlugTaken => RestoreOutcome::Nothing,
            Err(error) => RestoreOutcome::Unknown(error),
        }
    }

    /// Adds what is there now. It may not be the commit that was deployed last: CI's job changes images alone.
    async fn add_present(&mut self, stage: Stage, mut outcome: RestoreOutcome) -> RestoreOutcome {
        let (RestoreOutcome::StaysStopped { commit, .. }
        | RestoreOutcome::Untouched { commit, .. }
        | RestoreOutcome::Restored { commit, .. }) = &mut outcome
        else {
            return outcome;
        };
        let Some(present) = self.find_present(stage).await else { return outcome };
        *commit = present.commit.map(|commit| commit.to_string());
        if let RestoreOutcome::Untouched { serving, .. } | RestoreOutcome::Restored { serving, .. } = &mut outcome {
            *serving = Some(present.serving);
        }
        outcome
    }
}

fn read_outcome(output: &ScriptOutput, stable: bool) -> RestoreOutcome {
    let services = parse_services(output);
    let (served, stopped) = (output.value("served").is_some(), output.value("stopped").is_some());
    match (served, stopped) {
        (true, true) => RestoreOutcome::StaysStopped { commit: None, services },
        (true, false) if output.value("untouched").is_some() => {
            RestoreOutcome::Untouched { commit: None, services, serving: None }
        }
        (true, false) => RestoreOutcome::Restored { commit: None, stable, services, serving: None },
        (false, true) => RestoreOutcome::Stopped,
        (false, false) => RestoreOutcome::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str) -> StageError {
        StageError::new(ErrorCode::DataInVolumes, message)
    }

    #[test]
    fn what_serves_is_said_once_though_it_was_looked_at_twice() {
        let serving = Some(Serving { commit: None, proven: true });
        let outcome = RestoreOutcome::Untouched { commit: None, services: Vec::new(), serving };
        let once = outcome.add_to(failed("shop has data"));
        assert_eq!(once.message, "shop has data; what served before serves on, and answers");
        assert_eq!(outcome.add_to(once.clone()), once);
        assert!(once.detail.serving.is_some_and(|serving| serving.proven));
    }

    #[test]
    fn a_reason_is_not_repeated_where_going_back_failed_for_it_as_well() {
        let outcome = RestoreOutcome::Unknown(failed("no route to host"));
        let once = outcome.add_to(failed("no route to host"));
        assert_eq!(once.message, format!("no route to host; {NOT_KNOWN}"));
        assert_eq!(outcome.add_to(once.clone()), once);
        assert_eq!(outcome.add_to(failed("shop broke")).message, format!("shop broke; {NOT_KNOWN}: no route to host"));
    }
}
