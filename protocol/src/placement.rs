//! What a request asks of a server that Slipway is to choose, and what a result tells of the choice. Choosing isn't done
//! here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::names::{InvalidName, Port, ServerHandle, ServiceName, name};

/// The longest that a request may wait for room, in seconds: one that's older isn't begun.
const MAX_WAIT_SECONDS: u32 = 24 * 3600;
/// The most memory or disk that a request may ask for, in MiB.
const MAX_MIB: u32 = 16 * 1024 * 1024;

name!(
    /// A word that operators give a server, such as `ssd`; regions are such words, too.
    ServerLabel, "label", "match ^[a-z0-9][a-z0-9._-]{0,62}$", r"^[a-z0-9][a-z0-9._-]{0,62}$", 63,
    |v| v.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
);

/// What is asked of a server that Slipway is to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementWish {
    /// What the server must have.
    #[serde(default, skip_serializing_if = "ServerTraits::is_empty")]
    pub required: ServerTraits,
    /// What counts in favour of a server: of those with room, the ones that have most of it come first.
    #[serde(default, skip_serializing_if = "ServerTraits::is_empty")]
    pub preferred: ServerTraits,
    /// How long to wait for room before the deployment fails as `no-capacity`, in seconds; as the workers are configured
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 86400))]
    pub wait_seconds: Option<u32>,
}

/// What operators say of a server: its region, and its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerTraits {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<ServerLabel>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = 16))]
    pub labels: BTreeSet<ServerLabel>,
}

impl ServerTraits {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.region.is_none() && self.labels.is_empty()
    }
}

impl PlacementWish {
    /// The pointer of the field that breaks its rule, below the wish itself, and the rule.
    pub(crate) fn defect(&self) -> Option<(&'static str, &'static str)> {
        let rule = "must hold at most 16 labels";
        match self {
            Self { required, .. } if required.labels.len() > 16 => Some(("/required/labels", rule)),
            Self { preferred, .. } if preferred.labels.len() > 16 => Some(("/preferred/labels", rule)),
            Self { wait_seconds: Some(wait), .. } if *wait > MAX_WAIT_SECONDS => {
                Some(("/wait_seconds", "must be at most 86400, a day"))
            }
            _ => None,
        }
    }
}

/// What a project needs of its server. It's set aside while the project is deployed; nothing holds it to that later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// Memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16777216))]
    pub ram_mb: Option<u32>,
    /// Disk, in MiB: images, volumes and files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16777216))]
    pub disk_mb: Option<u32>,
}

impl Resources {
    /// The field that breaks its rule, and the rule.
    pub(crate) fn defect(&self) -> Option<(&'static str, &'static str)> {
        let wrong = |mib: Option<u32>| mib.is_some_and(|mib| !(1..=MAX_MIB).contains(&mib));
        let named = [("ram_mb", self.ram_mb), ("disk_mb", self.disk_mb)];
        named.into_iter().find(|(_, mib)| wrong(*mib)).map(|(field, _)| (field, "must be 1 to 16777216"))
    }
}

/// How Slipway chose a deployment's server, or why it found none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Placement {
    /// Why this server, or why none.
    pub reason: PlacementReason,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// What was needed.
    pub needed: NeededRoom,
    /// The ports that the services got, the ones that the request gave included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<ServiceName, Port>,
    /// Ports that were chosen before and left, since the server showed that a stranger holds them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_ports: BTreeSet<Port>,
    /// The servers that there were, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerScore>,
    /// How many more there were, behind those that are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_servers: u32,
}

/// Why a server was chosen, or none was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlacementReason {
    /// The project lives there.
    LivesThere,
    /// The request names it: a move does, and gets its ports there.
    Named,
    /// Of all servers with room it has most of what is preferred, and then the best score.
    BestScore,
    /// No server had room.
    NoRoom,
}

impl PlacementReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::LivesThere, Self::Named, Self::BestScore, Self::NoRoom];
}

/// What a project needs of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NeededRoom {
    /// Memory, in MiB.
    pub ram_mb: u32,
    /// Disk, in MiB.
    pub disk_mb: u32,
    /// How many ports.
    pub ports: u32,
}

/// A server in view of what was needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerScore {
    /// Which server.
    pub server: ServerHandle,
    /// Free memory × 0.7 + projects that it may still get × 0.3, each as a part of all that it may have; 0 to 1. Absent where
    /// nothing is known of its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// How much of what was preferred it has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub preferred: u32,
    /// What it lacks; empty for one that has room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
}

/// Something that a server lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lack {
    /// What; others may be added.
    pub what: LackKind,
    /// In words, with what there is and what it takes.
    pub message: String,
}

macro_rules! lacks {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// What a server may lack.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum LackKind { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl LackKind {
            /// The name, as in events.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

lacks! {
    /// It's cordoned: it gets no new projects.
    Cordoned "cordoned",
    /// It's being maintained.
    Maintenance "maintenance",
    /// It can't be reached.
    Unreachable "unreachable",
    /// Nothing is known of it, or nothing that is young enough.
    Facts "facts",
    /// It isn't fit for any project.
    Unfit "unfit",
    /// It's in another region, or in none.
    Region "region",
    /// It lacks a label.
    Labels "labels",
    /// The rules about sources don't allow it.
    NotAllowed "not_allowed",
    /// Another project has the slug there.
    Slug "slug",
    /// Memory.
    Ram "ram",
    /// Disk.
    Disk "disk",
    /// Inodes.
    Inodes "inodes",
    /// It's too busy.
    Load "load",
    /// It has as many projects as it may have.
    Projects "projects",
    /// It has no free port, or not the one that was asked for.
    Ports "ports",
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain_words_in_lower_case() {
        for good in ["eu", "eu-central-1", "ssd", "2", "a.b_c"] {
            assert!(ServerLabel::new(good).is_ok(), "{good}");
        }
        for bad in ["", "EU", "-eu", "a b", "a/b", "höf", "a\n", &"a".repeat(64)] {
            assert!(ServerLabel::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_lacks_are_those_of_the_wire() {
        for kind in [LackKind::Ram, LackKind::NotAllowed, LackKind::Cordoned] {
            assert_eq!(serde_json::to_value(kind).ok(), Some(kind.as_str().into()));
        }
    }
}
