//! What an orchestrator asks for beside a deployment: `slipway.project.{stop,start,rollback,undeploy}.v1` and
//! `slipway.deployment.cancel.v1`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{CommitSha, ServerHandle};
use crate::{Action, Correlation, DeploymentId, MoveData, Project};

/// The longest reason, in characters.
pub const MAX_REASON: usize = 500;

/// The version to roll back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// The one that this deployment made.
    Deployment(DeploymentId),
    /// The latest one of this commit.
    Commit(CommitSha),
}

macro_rules! commands {
    ($($(#[$doc:meta])* $type:ident $action:ident { $($(#[$field_doc:meta])* $field:ident: $of:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct $type {
            /// Which project; as its deployments name it.
            pub project: Project,
            /// The handle of the server; needed only for a project that is on several.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub server: Option<ServerHandle>,
            $($(#[$field_doc])* pub $field: $of,)*
            /// Why, for the record; one line.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 500))]
            pub reason: Option<String>,
            /// The producer's number of this request within the project, counted together with its deployments: the
            /// highest wins. Without it, the event's time decides.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(max = 9007199254740991u64))]
            pub sequence: Option<u64>,
            /// After this moment the request must not be acted on any more.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub expires_at: Option<Timestamp>,
            /// Opaque ids to echo in every event about this request.
            #[serde(default, skip_serializing_if = "Correlation::is_empty")]
            pub correlation: Correlation,
        }

        impl From<$type> for ProjectCommand {
            fn from(event: $type) -> Self {
                let $type { project, server, reason, sequence, expires_at, correlation, $($field,)* } = event;
                let common = Self {
                    action: Action::$action,
                    project,
                    server,
                    to: None,
                    remove_volumes: false,
                    move_to: None,
                    move_data: MoveData::Refuse,
                    reason,
                    sequence,
                    expires_at,
                    correlation,
                };
                Self { $($field,)* ..common }
            }
        }
    )*};
}

commands! {
    /// Stop the project's containers; they stay stopped when the server reboots.
    ProjectStop Stop {}
    /// Start a stopped project; it's done when it answers.
    ProjectStart Start {}
    /// Deploy a recorded version again.
    ProjectRollback Rollback {
        /// Which one; the version before the present one when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Version>,
    }
    /// Take the project off its server: containers, images, firewall rule, deploy key, GitHub secrets, directory.
    ProjectUndeploy Undeploy {
        /// Remove its volumes as well, with all data. Without it, a later deployment finds its database again.
        #[serde(default, skip_serializing_if = "is_false")]
        remove_volumes: bool,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Any of the commands about a project, as the engine reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectCommand {
    /// What to do.
    pub action: Action,
    /// Which project.
    pub project: Project,
    /// On which server; any when it's on one only.
    pub server: Option<ServerHandle>,
    /// Rollback: which version; the one before the present one when absent.
    pub to: Option<Version>,
    /// Undeploy: with all data.
    pub remove_volumes: bool,
    /// Move: where to; Slipway chooses when absent.
    pub move_to: Option<ServerHandle>,
    /// Move: what becomes of its data.
    pub move_data: MoveData,
    /// Why.
    pub reason: Option<String>,
    /// The producer's number of this request within the project.
    pub sequence: Option<u64>,
    /// After this moment it must not be acted on any more.
    pub expires_at: Option<Timestamp>,
    /// Opaque ids to echo.
    pub correlation: Correlation,
}

impl ProjectCommand {
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        if self.sequence.is_some_and(|s| s > 9_007_199_254_740_991) {
            let rule = "must be at most 2^53 - 1, so that every JSON reader agrees on it";
            return Err(("/data/sequence".to_owned(), rule.to_owned()));
        }
        check_reason(self.reason.as_deref())
    }
}

/// Call a deployment off: at once while it waits; while it runs, the running command is ended and the version that
/// served before goes on serving. One that has ended stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = [
    { "properties": { "deployment_id": true }, "required": ["deployment_id"] },
    { "properties": { "request": true }, "required": ["request"] },
]))]
pub struct DeploymentCancel {
    /// Which one, by its id. Either this or `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
    /// Which one, by the event that asked for it. Either this or `deployment_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<EventReference>,
    /// Why, for the record; one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
    /// Opaque ids to echo in the result of a cancel event that is refused.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

/// An event, by what makes it unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventReference {
    /// CloudEvents `source`.
    #[schemars(length(min = 1, max = 200))]
    pub source: String,
    /// CloudEvents `id`.
    #[schemars(length(min = 1, max = 200))]
    pub id: String,
}

impl DeploymentCancel {
    /// The deployment to cancel; `None` for an event that names none or two, which is never read.
    #[must_use]
    pub fn deployment(&self) -> Option<DeploymentId> {
        match (&self.deployment_id, &self.request) {
            (Some(id), None) => Some(*id),
            (None, Some(request)) => Some(DeploymentId::of(&request.source, &request.id, None)),
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        if self.deployment().is_none() {
            let rule = "must name either deployment_id or request, and not both";
            return Err(("/data".to_owned(), rule.to_owned()));
        }
        let printable = |text: &str| !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
        if let Some(request) = &self.request
            && !(printable(&request.source) && printable(&request.id))
        {
            let rule = "must hold a source and an id of 1 to 200 printable characters";
            return Err(("/data/request".to_owned(), rule.to_owned()));
        }
        check_reason(self.reason.as_deref())
    }
}

pub(crate) fn check_reason(reason: Option<&str>) -> Result<(), (String, String)> {
    let fine =
        |text: &str| !text.is_empty() && text.chars().count() <= MAX_REASON && !text.chars().any(char::is_control);
    if reason.is_none_or(fine) {
        return Ok(());
    }
    Err(("/data/reason".to_owned(), "must be one line of 1 to 500 printable characters".to_owned()))
}
