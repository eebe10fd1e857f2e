//! What is done to a project. Which stages that takes, in which order, is in `stage`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a request asks for. All but [`Action::Cancel`] and [`Action::Cordon`] are carried out by the same engine, under the same lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A commit is deployed.
    #[default]
    Deploy,
    /// The containers are stopped and stay stopped, whatever restarts.
    Stop,
    /// Stopped containers are started, and the project answers.
    Start,
    /// A recorded version is deployed again.
    Rollback,
    /// The project is taken off its server.
    Undeploy,
    /// The version that it has is deployed on another server, and it's taken off the one where it was.
    Move,
    /// Another request is called off. Only the result of a cancel event that was refused names it: one that is heeded
    /// is told by the result of what it cancels.
    Cancel,
    /// A server is cordoned or uncordoned. It's done when the event is taken in, and isn't about any project.
    Cordon,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 8] =
        [Self::Deploy, Self::Stop, Self::Start, Self::Rollback, Self::Undeploy, Self::Move, Self::Cancel, Self::Cordon];

    /// The name, as in events and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Rollback => "rollback",
            Self::Undeploy => "undeploy",
            Self::Move => "move",
            Self::Cancel => "cancel",
            Self::Cordon => "cordon",
        }
    }

    /// Whether it ends with a version of the project that serves: these make the versions to roll back to.
    #[must_use]
    pub fn deploys(self) -> bool {
        matches!(self, Self::Deploy | Self::Rollback | Self::Move)
    }

    /// Whether it's the one that events without an action are about.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(crate) fn is_deploy(&self) -> bool {
        *self == Self::Deploy
    }

    /// Whether a running attempt of this action is stopped for the sake of a newer request of the same project. Only
    /// what makes a project whole again, or takes it off altogether, may leave an undeployment unfinished.
    #[must_use]
    pub fn gives_way_to(self, newer: Self) -> bool {
        !(self == Self::Undeploy && matches!(newer, Self::Stop | Self::Start))
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Action {
    type Err = crate::names::InvalidName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|a| a.as_str() == value)
            .ok_or(crate::names::InvalidName { what: "action", rule: "be one of the table of actions" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_are_those_of_the_wire() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
            assert_eq!(serde_json::to_value(action).ok(), Some(action.as_str().into()));
        }
        assert!("restart".parse::<Action>().is_err());
    }
}
