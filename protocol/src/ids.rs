//! Identifiers that are derived, so that a duplicate is recognisable wherever it turns up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of every UUIDv5 that Slipway derives (a random UUID, fixed for ever).
const NAMESPACE: Uuid = Uuid::from_u128(0x8d6c_3b0e_5f7a_4c1d_9e42_71a5_c0de_5117);

/// The orchestrator's id of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ProjectId(pub Uuid);

/// One run of the pipeline for one request. Derived from the request, so that whoever sent it can compute it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeploymentId(pub Uuid);

impl DeploymentId {
    /// The deployment that the event `(source, id)` asks for; with `replay`, the one that this replay of it asks for.
    #[must_use]
    pub fn of(source: &str, id: &str, replay: Option<Uuid>) -> Self {
        let replay = replay.map(|r| r.to_string()).unwrap_or_default();
        Self(derive(&["deployment", source, id, &replay]))
    }

    /// The id of the event that tells step `sequence` of this deployment.
    #[must_use]
    pub fn event_id(&self, sequence: u64) -> Uuid {
        derive(&["event", &self.0.to_string(), &sequence.to_string()])
    }
}

/// The `id` of the request to deploy that two halves make.
pub(crate) fn joined(source: &str, id: &str, other_source: &str, other_id: &str) -> String {
    format!("joined-{}", derive(&["joined", source, id, other_source, other_id]))
}

/// UUIDv5 of `parts`, each preceded by its length so that no two lists collide.
fn derive(parts: &[&str]) -> Uuid {
    let name: String = parts.iter().map(|p| format!("{}:{p}", p.len())).collect();
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

macro_rules! shown {
    ($($type:ident),*) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $type {
            type Err = uuid::Error;
            fn from_str(value: &str) -> Result<Self, uuid::Error> {
                value.parse().map(Self)
            }
        }
    )*};
}

shown!(ProjectId, DeploymentId);
