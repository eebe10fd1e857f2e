//! How a service's new release took the place of the one before, for results.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a release took its predecessor's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replacement {
    /// In which way.
    pub how: ReplacementWay,
    /// Why the two couldn't run side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// For how long nothing answered in between, in milliseconds; absent where there was no gap, or nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
}

/// The ways in which a release may take its predecessor's place. Others may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplacementWay {
    /// The new one ran and answered beside the old one before it got the traffic.
    Overlapped,
    /// The old one was stopped before the new one was started.
    StopFirst,
    /// There was none before.
    Created,
    /// Nothing was to be changed, and the one before serves on.
    Kept,
}

impl ReplacementWay {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Overlapped, Self::StopFirst, Self::Created, Self::Kept];

    /// The name, as in events and as scripts tell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlapped => "overlapped",
            Self::StopFirst => "stop_first",
            Self::Created => "created",
            Self::Kept => "kept",
        }
    }

    /// The way of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.as_str() == name)
    }
}

impl std::fmt::Display for ReplacementWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn each_way_has_the_name_that_events_have() {
        for way in ReplacementWay::ALL {
            assert_eq!(serde_json::to_value(way).unwrap(), serde_json::json!(way.as_str()));
            assert_eq!(ReplacementWay::named(way.as_str()), Some(way));
        }
        assert_eq!(ReplacementWay::named("replaced"), None);
    }
}
