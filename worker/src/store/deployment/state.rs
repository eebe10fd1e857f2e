//! The states of a deployment and the table of legal transitions between them.

use slipway_protocol::{DeploymentId, Outcome};

/// A deployment's state, from its request to its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for its turn or for its next attempt.
    Pending,
    /// A worker holds its lease.
    Running,
    /// It has ended with this outcome, and nothing follows.
    Ended(Outcome),
    /// It's in a state of a later version's, as operators may see one. Nothing here leads there or away.
    Unknown,
}

impl State {
    /// Every state that this version knows: the two of a deployment under way, then each outcome.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Ended(Outcome::Succeeded),
        Self::Ended(Outcome::AlreadyDeployed),
        Self::Ended(Outcome::Failed),
        Self::Ended(Outcome::MissingSecret),
        Self::Ended(Outcome::Cancelled),
        Self::Ended(Outcome::Superseded),
    ];

    /// The name, as in the table and in what operators read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Ended(outcome) => outcome.as_str(),
            Self::Unknown => "unknown",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// Checks the step from this state to `to` against the table.
    ///
    /// # Errors
    /// [`IllegalTransition`] for every step that isn't in it.
    pub fn step(self, to: Self) -> Result<Self, IllegalTransition> {
        use Outcome::{Cancelled, Failed, Superseded};
        match (self, to) {
            (Self::Pending, Self::Running | Self::Ended(Failed | Superseded | Cancelled))
            | (Self::Running, Self::Pending | Self::Ended(_)) => Ok(to),
            (from, to) => Err(IllegalTransition { from, to }),
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for State {
    type Err = UnknownState;
    fn from_str(value: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|s| s.as_str() == value).ok_or(UnknownState)
    }
}

/// A word that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "state must be one of pending, running, succeeded, already_deployed, failed, missing_secret, cancelled, superseded"
)]
pub struct UnknownState;

/// A step that the table of transitions doesn't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {from} deployment can't become {to}")]
pub struct IllegalTransition {
    /// The state that the row has.
    pub from: State,
    /// The state that was asked for.
    pub to: State,
}

/// Whether an attempt may go on; asked at every boundary between stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Yes: nothing asks it to stop.
    GoOn,
    /// A newer request for the same project waits.
    Superseded(DeploymentId),
    /// An operator asked to cancel it.
    Cancelled,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_a_terminal_state() {
        for from in State::ALL.into_iter().filter(|s| s.is_terminal()) {
            for to in State::ALL {
                assert_eq!(from.step(to), Err(IllegalTransition { from, to }));
            }
        }
    }

    #[test]
    fn a_deployment_that_waits_can_only_run_or_be_given_up_or_called_off() {
        let legal: Vec<_> = State::ALL.into_iter().filter(|to| State::Pending.step(*to).is_ok()).collect();
        let ends = [Outcome::Failed, Outcome::Cancelled, Outcome::Superseded].map(State::Ended);
        assert_eq!(legal, [&[State::Running][..], &ends].concat());
        assert!(State::Running.step(State::Running).is_err());
    }

    #[test]
    fn names_are_read_back() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>().unwrap(), state);
        }
        assert!("done".parse::<State>().is_err());
    }
}
