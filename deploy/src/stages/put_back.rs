//! Putting back: after a release that failed or was cancelled, the one that served before serves again, with its
//! checkout, its `.env` and its override. What served is noted by stage clone and forgotten once a release has proven
//! itself; without such a note there is nothing to put back.

use slipway_protocol::{ServiceReport, Serving, Stage};
use tokio_util::sync::CancellationToken;

use super::compose::services;
use crate::lines::ScriptOutput;
use crate::script::Script;
use crate::scripts;
use crate::{Attempt, ErrorDetail, StageError};

/// What came of putting back.
#[derive(Debug, Clone, PartialEq)]
pub enum RestoreOutcome {
    /// There was nothing to put back.
    Nothing,
    /// Nothing served before, and what had been started was stopped.
    Stopped,
    /// This commit was stopped before, and is so again, or still.
    StaysStopped {
        /// The commit.
        commit: String,
        /// What there is of it.
        services: Vec<ServiceReport>,
    },
    /// This commit serves on: only files had been touched, and they are as before.
    Untouched {
        /// The commit.
        commit: String,
        /// What runs.
        services: Vec<ServiceReport>,
        /// What answers from outside; `None`: nobody could look.
        serving: Option<Serving>,
    },
    /// This commit was put back.
    PutBack {
        /// The commit.
        commit: String,
        /// Whether all of it runs and stays.
        stable: bool,
        /// What runs.
        services: Vec<ServiceReport>,
        /// What answers from outside; `None`: nobody could look.
        serving: Option<Serving>,
    },
    /// Nobody knows.
    Unknown(StageError),
}

impl RestoreOutcome {
    /// What serves now, in words that follow the reason; `None` when there's nothing to say.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let answers = match self.serving() {
            Some(serving) if serving.proven => ", and answers",
            Some(_) => ", and doesn't answer",
            None => "",
        };
        Some(match self {
            Self::Nothing => return None,
            Self::Stopped => "nothing served before, and what had been started was stopped".to_owned(),
            Self::StaysStopped { commit, .. } => {
                format!("commit {commit}, which was deployed before, is stopped, as it was")
            }
            Self::Untouched { commit, .. } => format!("commit {commit}, which served before, serves on{answers}"),
            Self::PutBack { commit, stable: true, .. } => {
                format!("commit {commit}, which served before, was put back and is stable{answers}")
            }
            Self::PutBack { commit, stable: false, .. } => {
                format!("commit {commit}, which served before, was put back, but doesn't become stable{answers}")
            }
            Self::Unknown(error) => {
                format!("whether the release before it was put back isn't known: {}", error.message)
            }
        })
    }

    /// What serves now, for the result; `None` where there was nothing to put back or nobody could look.
    #[must_use]
    pub fn serving(&self) -> Option<Serving> {
        match self {
            Self::Untouched { serving, .. } | Self::PutBack { serving, .. } => serving.clone(),
            Self::Stopped | Self::StaysStopped { .. } => Some(Serving { commit: None, proven: false }),
            Self::Nothing | Self::Unknown(_) => None,
        }
    }

    /// Whether there's nothing left to be put back.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Unknown(_) | Self::PutBack { stable: false, .. })
    }

    /// What runs, where that was seen.
    #[must_use]
    pub fn services(&self) -> &[ServiceReport] {
        match self {
            Self::StaysStopped { services, .. } | Self::Untouched { services, .. } | Self::PutBack { services, .. } => {
                services
            }
            Self::Nothing | Self::Stopped | Self::Unknown(_) => &[],
        }
    }

    /// `error`, telling what serves now as well.
    #[must_use]
    pub fn told_in(&self, error: StageError) -> StageError {
        let Some(words) = self.words() else { return error };
        let message = format!("{}; {words}", error.message);
        let seen = self.services();
        let services = if seen.is_empty() { error.services } else { seen.into() };
        let serving = self.serving().or(error.detail.serving);
        StageError { message, services, detail: Box::new(ErrorDetail { serving, ..*error.detail }), ..error }
    }
}

impl Attempt {
    /// Puts back what this deployment has touched, for its end: it failed for good (`keep` what runs where nothing
    /// served before, so that somebody can look at it) or was cancelled. A round trip that changes nothing when
    /// nothing was touched. Whether what was put back answers is tried from outside. May be called again while the
    /// server can't be reached. `cancel` takes the place of the attempt's own, which may be used up.
    pub async fn settle(&mut self, keep: bool, cancel: CancellationToken) -> RestoreOutcome {
        self.cancel = cancel;
        if self.settled {
            return RestoreOutcome::Nothing;
        }
        match self.settle_now(Stage::Compose, keep).await {
            RestoreOutcome::Unknown(error) => {
                if error.code.is_connection_failure() {
                    self.drop_session();
                }
                RestoreOutcome::Unknown(self.redacted_error(error))
            }
            known => known,
        }
    }

    /// Puts the release back that served before, after `error` of one that doesn't, and tells in the error what came of
    /// it. Where nothing served before the error stays as it is.
    pub(crate) async fn put_back(&mut self, stage: Stage, error: StageError) -> StageError {
        self.settle_now(stage, true).await.told_in(error)
    }

    async fn settle_now(&mut self, stage: Stage, keep: bool) -> RestoreOutcome {
        let script = Script::new("put back", scripts::RESTORE_PREVIOUS)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .word("first", &if keep { "keep" } else { "stop" })
            .number("limit", self.limit())
            .number("patience", self.config().health_timeout.as_secs());
        let outcome = self.exec(stage, &script).await;
        // Whatever is in .env now, this attempt hasn't read it.
        self.kept = None;
        match outcome {
            Ok(outcome) => {
                self.settled = true;
                let stable = outcome.is_ok();
                let (Ok(said) | Err(said)) = outcome;
                let mut settled = read(&said, stable);
                if let RestoreOutcome::Untouched { serving, .. } | RestoreOutcome::PutBack { serving, .. } =
                    &mut settled
                {
                    *serving = self.proven(stage).await;
                }
                settled
            }
            Err(error) => RestoreOutcome::Unknown(error),
        }
    }
}

fn read(said: &ScriptOutput, stable: bool) -> RestoreOutcome {
    let services = services(said);
    match said.value("served").map(str::to_owned) {
        Some(commit) if said.value("stopped").is_some() => RestoreOutcome::StaysStopped { commit, services },
        Some(commit) if said.value("untouched").is_some() => {
            RestoreOutcome::Untouched { commit, services, serving: None }
        }
        Some(commit) => RestoreOutcome::PutBack { commit, stable, services, serving: None },
        None if said.value("stopped").is_some() => RestoreOutcome::Stopped,
        None => RestoreOutcome::Nothing,
    }
}
