//! What the stages of a deployment have reported, as it's kept for the next one that asks for the same, and what an
//! unchanged stage reports of that. Whether it's unchanged is decided in `left`. No I/O.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use slipway_protocol::names::Port;
use slipway_protocol::{ServiceReport, Stage};

use crate::{FrontDoorFacts, StageReport};

/// The fact of a stage that needn't run, since all is as it was left.
pub(super) const AS_LEFT: &str = "as_left";
/// More than the reports of a deployment take.
const MAX_REPORTS: usize = 128 * 1024;

/// An image that the registry gave for a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftImage {
    /// Its name in the registry.
    pub name: String,
    /// The reference in `.env`.
    pub reference: String,
    /// The manifest's digest; none where the registry didn't answer.
    pub digest: Option<String>,
}

/// What an attempt knows of what it leaves.
#[derive(Default)]
pub(crate) struct KnownState {
    /// Reports of stages that needn't run, since the server has shown that they would change nothing.
    pub proven: BTreeMap<Stage, StageReport>,
    /// The services, where the server has shown that the release is as it was left.
    pub unchanged: Option<Vec<ServiceReport>>,
    /// What stage verify reports of the services that have answered while this was shown, by port.
    pub answers: BTreeMap<Port, Value>,
    /// The facts of the stages that are done.
    pub finished: BTreeMap<Stage, Map<String, Value>>,
    /// The images of the release, where none of them can become another one without a new request.
    pub images: Option<BTreeMap<String, LeftImage>>,
    /// What stage secrets has told beside its facts.
    pub warnings: Mutex<Vec<String>>,
}

/// What is kept on the server beside its own state, for the next deployment that asks for the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LeftReports {
    /// What the stages have reported.
    pub facts: BTreeMap<Stage, Map<String, Value>>,
    /// The images of the release.
    pub images: BTreeMap<String, LeftImage>,
    /// A digest of what GitHub is known to hold.
    pub github: String,
    /// What stage secrets has told beside its facts.
    pub warnings: Vec<String>,
}

impl LeftReports {
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// `None` when they are more than is kept.
    pub(super) fn to_json(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok().filter(|json| json.len() <= MAX_REPORTS)
    }

    /// A fact of then; null where there is none.
    pub(super) fn fact(&self, stage: Stage, name: &str) -> Value {
        self.facts.get(&stage).and_then(|facts| facts.get(name)).cloned().unwrap_or(Value::Null)
    }

    /// A stage's report where nothing had to be changed.
    pub(super) fn of_unchanged(&self, stage: Stage) -> StageReport {
        let mut report = StageReport::of(false);
        report.facts = self.facts.get(&stage).cloned().unwrap_or_default();
        // What a stage that changes something reports of that, and what was only looked at then.
        for name in [
            "ssh_round_trips",
            "previous_commit",
            "not_as_left",
            "removed",
            "resumed",
            "leaks",
            "leaks_sought_everywhere",
            "images_removed",
            FrontDoorFacts::FACT,
        ] {
            report.facts.remove(name);
        }
        if stage == Stage::Secrets {
            let written = self.fact(stage, "written").as_array().map_or(0, Vec::len);
            if let Some(unchanged) = self.fact(stage, "unchanged").as_u64() {
                report = report.fact("unchanged", unchanged.saturating_add(written as u64));
            }
        }
        for (name, nothing) in [
            ("rehearsed", json!([])),
            ("opened", json!([])),
            ("closed", json!([])),
            ("written", json!([])),
            ("deleted", json!([])),
            ("taken_back", json!([])),
            ("new_deploy_key", json!(false)),
        ] {
            if let Some(fact) = report.facts.get_mut(name) {
                *fact = nothing;
            }
        }
        report.fact(AS_LEFT, true)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_unchanged_stage_reports_what_it_found_then_and_nothing_that_it_did() {
        let facts = json!({
            "clone": { "commit": "0123", "previous_commit": "4567", "ssh_round_trips": 10 },
            "secrets": { "written": ["A", "B"], "unchanged": 3, "new_deploy_key": true, "leaks": [], "taken_back": ["C"] },
        });
        let reports = LeftReports {
            facts: serde_json::from_value(facts).expect("facts"),
            images: BTreeMap::new(),
            github: "ab".to_owned(),
            warnings: Vec::new(),
        };
        let json = reports.to_json().expect("small");
        assert_eq!(LeftReports::read(&json).expect("whole"), reports);
        assert_eq!(LeftReports::read(b"nonsense"), None);
        let told = |stage| Value::Object(reports.of_unchanged(stage).facts);
        assert_eq!(told(Stage::Clone), json!({ "commit": "0123", "as_left": true }));
        let expected =
            json!({ "written": [], "unchanged": 5, "new_deploy_key": false, "taken_back": [], "as_left": true });
        assert_eq!(told(Stage::Secrets), expected);
    }
}
