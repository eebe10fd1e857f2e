//! What an attempt says of its stages at their boundaries.

use std::collections::BTreeMap;

use slipway_protocol::{ProjectId, Stage, StageSummary};

/// A stage that is done.
#[derive(Debug, Clone, Copy)]
pub struct StageEnd<'a> {
    /// Which stage, whether it changed anything, and how long it took.
    pub summary: &'a StageSummary,
    /// What it found or did.
    pub facts: &'a serde_json::Map<String, serde_json::Value>,
    /// What GitHub holds of the project's secrets now, where the stage is about them.
    pub digests: Option<(ProjectId, &'a BTreeMap<String, String>)>,
}

/// A stage that is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageIntent<'a> {
    /// Which stage.
    pub stage: Stage,
    /// Of all that its work depends on.
    pub input_hash: &'a [u8],
}
