//! `slipway.server.cordon.v1`: whether a server gets new projects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Correlation;
use crate::command::check_reason;
use crate::names::ServerHandle;

/// Keep new projects off a server, or let it have them again: those whose request leaves the server to Slipway. The projects
/// that live there go on being deployed. Of several the latest `time` counts, an older one ends as `superseded`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerCordon {
    /// The server's name in the inventory.
    pub server: ServerHandle,
    /// True: it gets no new projects, but for those whose request names it. False: it gets them again.
    pub cordoned: bool,
    /// Why, for the record; one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
    /// Opaque ids to echo in the result.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

impl ServerCordon {
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        check_reason(self.reason.as_deref())
    }
}
