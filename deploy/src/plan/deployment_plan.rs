//! What a plan says. How it's found out is in `rehearsal` and `services`.

use serde::Serialize;

/// What a deployment would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentPlan {
    /// The commit that is there now, running or stopped; none where nothing is, or where nothing proves which one.
    pub from: Option<String>,
    /// The commit whose files are there; none where nothing is deployed. CI's job changes images alone.
    pub checkout: Option<String>,
    /// The commit that would be deployed.
    pub to: String,
    /// Git's summary of the difference between the files.
    pub files: Option<String>,
    /// The variables of `.env` that would differ, without values.
    pub variables: Vec<VariableDifference>,
    /// Lines of the override file, as a difference: `-` goes, `+` comes.
    pub overrides: Vec<String>,
    /// Every service, by name.
    pub services: Vec<ServicePlan>,
    /// Ports whose ufw rule would be added.
    pub open: Vec<u16>,
    /// Ports whose ufw rule would be removed.
    pub close: Vec<u16>,
    /// GitHub Actions secrets that would be written.
    pub secrets: Vec<String>,
    /// Whose credential images are read with: `request`, `owner` or `fleet`; none where nobody has given one.
    pub registry_credential: Option<String>,
    /// Whether the project would get a new deploy key.
    pub new_deploy_key: bool,
}

impl DeploymentPlan {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.checkout.as_ref() == Some(&self.to)
            && self.from.as_ref().is_none_or(|from| *from == self.to)
            && self.variables.is_empty()
            && self.overrides.is_empty()
            && self.services.iter().all(|s| s.action == ContainerAction::Keep)
            && self.open.is_empty()
            && self.close.is_empty()
            && self.secrets.is_empty()
            && !self.new_deploy_key
    }
}

/// A variable that would differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VariableDifference {
    /// The variable's name.
    pub name: String,
    /// How it would differ.
    pub change: VariableChange,
}

/// How something would differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableChange {
    /// It isn't there yet.
    Added,
    /// It's there with another value.
    Changed,
    /// It's there, and would be removed.
    Removed,
}

/// What would become of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePlan {
    /// The service's name.
    pub service: String,
    /// What would be done.
    pub action: ContainerAction,
    /// The image of its container now.
    pub from: Option<String>,
    /// The image that it would have.
    pub to: Option<String>,
    /// Whether that image would be pulled first.
    pub pull: bool,
    /// How its new container would take the running one's place, of a service behind the server's front door.
    pub replacement: Option<PlannedReplacement>,
    /// What its container would be held to.
    pub bounds: ServiceBounds,
}

/// How a new release would take the running one's place behind a front door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum PlannedReplacement {
    /// Both run side by side until the new one is proven: nobody misses an answer.
    WithoutGap,
    /// The old one stops before the new one starts.
    WithGap {
        /// Why there can't be two of it.
        why: String,
    },
    /// This time somebody may miss an answer, and from then on nobody.
    WithOneGap {
        /// Why this time is another one.
        why: String,
    },
}

/// What a container is held to, by its compose files or by Slipway's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServiceBounds {
    /// How much of its log is kept, as `10m x 3`; none where no bound is declared.
    pub log: Option<String>,
    /// How many processes it may have; none: any number.
    pub processes: Option<i64>,
    /// Whether its programs can't get more rights than what started them.
    pub no_new_privileges: bool,
}

/// What would be done with a service's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerAction {
    /// It stays as it is.
    Keep,
    /// There is none, and one would be made.
    Create,
    /// It would be replaced: its configuration or its image differs.
    Recreate,
    /// It's there and would be started.
    Start,
    /// It would go: the project doesn't have this service any more.
    Remove,
}
