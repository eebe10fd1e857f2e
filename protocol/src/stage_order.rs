//! The seven stages of the pipeline, and their order in each action.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Action;

/// A stage of the pipeline. Every stage converges: run twice, it ends in the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Is the server fit, and is the port free or ours?
    Preflight,
    /// The exact commit into the project's directory.
    Clone,
    /// `.env` and the override file, checked before anything runs.
    Env,
    /// Images pulled, containers started, health proven.
    Compose,
    /// The ufw rule of the port.
    Firewall,
    /// `http://IP:PORT` answers, seen from the worker.
    Verify,
    /// GitHub Actions secrets, so that the next push deploys itself.
    Secrets,
}

impl Stage {
    /// All stages, in the order in which they run.
    pub const ALL: [Self; 7] =
        [Self::Preflight, Self::Clone, Self::Env, Self::Compose, Self::Firewall, Self::Verify, Self::Secrets];

    /// The name, as in events, routing keys and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Clone => "clone",
            Self::Env => "env",
            Self::Compose => "compose",
            Self::Firewall => "firewall",
            Self::Verify => "verify",
            Self::Secrets => "secrets",
        }
    }
}

impl Action {
    /// The stages that it takes, in the order in which they run. Undeploying is deploying backwards: first nobody else
    /// can start the project any more, last its directory goes, which holds the lock.
    #[must_use]
    pub fn stages(self) -> &'static [Stage] {
        match self {
            Self::Deploy | Self::Rollback | Self::Move => &Stage::ALL,
            Self::Stop => &[Stage::Compose],
            Self::Start => &[Stage::Compose, Stage::Verify],
            Self::Undeploy => &[Stage::Secrets, Stage::Firewall, Stage::Compose, Stage::Clone],
            Self::Cancel | Self::Cordon => &[],
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Stage {
    type Err = crate::names::InvalidName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == value)
            .ok_or(crate::names::InvalidName { what: "stage", rule: "be one of the seven stages" })
    }
}

/// Whether a stage had something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The stage changed something.
    Changed,
    /// Everything was as asked already.
    Unchanged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undeploying_removes_what_deploying_did_in_the_opposite_order() {
        let place = |stage: &Stage| Stage::ALL.iter().position(|s| s == stage);
        assert!(Action::Undeploy.stages().windows(2).all(|pair| place(&pair[0]) > place(&pair[1])));
    }
}
