//! What a scripted worker does in its stages: rules that match stages, and acts that follow. Given as JSON in its
//! environment; carried out by the program `slipway-scripted` on [`crate::model`].

use serde::{Deserialize, Serialize};
use slipway_protocol::{ErrorCode, Stage};

/// The variable that holds the script.
pub const SCRIPT: &str = "SLIPWAY_SCRIPT";
/// The variable that names the model's folder.
pub const MODEL: &str = "SLIPWAY_SCRIPT_MODEL";
/// The variable that says how many milliseconds a stage takes that does nothing else: it comes before a model.
pub const STAGE_MS: &str = "SLIPWAY_SCRIPT_STAGE_MS";

/// A rule; a stage carries out the acts of all that match it, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The project's slug; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The commit; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The stage; every one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// How many failures of this stage of a deployment it takes until the rule is spent, over all workers; never when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// What to do.
    pub act: StageAct,
}

/// What a stage does beside its effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageAct {
    /// Nothing.
    #[default]
    Nothing,
    /// Fails with this code.
    Fail(ErrorCode),
    /// Takes this many milliseconds.
    Delay(u64),
    /// Waits until this gate of the model is opened.
    Hold(String),
    /// Says this many lines.
    Say(u32),
}

impl Rule {
    /// A rule for one stage of every project.
    #[must_use]
    pub fn at(stage: Stage, act: StageAct) -> Self {
        Self { stage: Some(stage), act, ..Self::default() }
    }

    /// The rule for one project only.
    #[must_use]
    pub fn of(self, project: &str) -> Self {
        Self { project: Some(project.to_owned()), ..self }
    }

    /// The rule for one commit only.
    #[must_use]
    pub fn for_commit(self, commit: &str) -> Self {
        Self { commit: Some(commit.to_owned()), ..self }
    }

    /// The rule until its stage has failed `failures` times.
    #[must_use]
    pub fn until(self, failures: u32) -> Self {
        Self { failures: Some(failures), ..self }
    }

    /// Whether it's for this stage of this project and commit, `failed` times after it failed.
    #[must_use]
    pub fn matches(&self, project: &str, commit: &str, stage: Stage, failed: u32) -> bool {
        self.project.as_deref().is_none_or(|own| own == project)
            && self.commit.as_deref().is_none_or(|own| own == commit)
            && self.stage.is_none_or(|own| own == stage)
            && self.failures.is_none_or(|until| failed < until)
    }
}
