//! What becomes of a project's data when it's moved, and what a result tells of how a move went.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::DeploymentId;
use crate::names::{InvalidName, ServerHandle, name};

name!(
    /// A volume of Docker's that somebody has named.
    VolumeName, "volume", "match ^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$", r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$", 100,
    |v| v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && v.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
);

/// What becomes of a project's data when it's moved: of the volumes that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoveData {
    /// A project that has data isn't moved.
    #[default]
    Refuse,
    /// They are copied while the project is stopped.
    Copy,
}

impl MoveData {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Refuse, Self::Copy];

    /// The name, as in events and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Copy => "copy",
        }
    }

    /// The way of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|data| data.as_str() == name)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(crate) fn is_refuse(&self) -> bool {
        *self == Self::Refuse
    }
}

impl std::fmt::Display for MoveData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for MoveData {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        Self::named(value).ok_or(InvalidName { what: "what becomes of data", rule: "be refuse or copy" })
    }
}

/// How a move went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveReport {
    /// The server that the project was on.
    pub from: ServerHandle,
    /// The server that it was to go to; absent where none was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ServerHandle>,
    /// What was to become of its data.
    pub data: MoveData,
    /// For how long services didn't run on either server, in milliseconds; 0 where none had to be stopped. Absent after a
    /// move that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
    /// How many bytes of data were copied, as they travelled; absent after a move that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The volumes that were copied. They stay on the server that the project was on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeName>,
    /// What stays on that server for good, since it's in volumes without a name, as `service:path`; absent after a move that
    /// failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_volumes: Vec<String>,
    /// The deployment that takes the project off the server that it was on; absent after a move that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undeployment: Option<DeploymentId>,
}

impl MoveReport {
    /// The key of the stages' fact that holds what was measured: `gap_ms`, `bytes` and `volumes`.
    pub const FACT: &'static str = "moved";
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn each_way_with_data_has_the_name_that_events_have() {
        for data in MoveData::ALL {
            assert_eq!(serde_json::to_value(data).unwrap(), serde_json::json!(data.as_str()));
            assert_eq!(MoveData::named(data.as_str()), Some(data));
        }
        assert_eq!(MoveData::named("leave"), None);
    }
}
