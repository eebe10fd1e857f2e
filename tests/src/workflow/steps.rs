//! What a workflow's file says: its jobs and their steps. Values in `${{ … }}` are left as they are.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Variables or inputs, by name. YAML's numbers and truth values are texts to whom they are given.
pub(super) type Values = BTreeMap<String, Value>;

/// A workflow.
#[derive(Debug, Deserialize)]
pub(super) struct Workflow {
    #[serde(default)]
    pub env: Values,
    pub jobs: BTreeMap<String, Job>,
}

/// One of its jobs.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    #[serde(rename = "if")]
    pub condition: Option<String>,
    #[serde(default)]
    pub env: Values,
    pub steps: Vec<WorkflowStep>,
}

/// One step: a script, or an action with its inputs.
#[derive(Debug, Deserialize)]
pub(super) struct WorkflowStep {
    pub name: Option<String>,
    #[serde(rename = "if")]
    pub condition: Option<String>,
    #[serde(default)]
    pub env: Values,
    pub run: Option<String>,
    pub uses: Option<String>,
    #[serde(default, rename = "with")]
    pub inputs: Values,
}

impl WorkflowStep {
    /// What the log calls it.
    pub fn title(&self) -> &str {
        let own = self.name.as_deref().or(self.uses.as_deref());
        own.or_else(|| self.run.as_deref()?.lines().next()).unwrap_or_default()
    }
}
