//! What a workflow's file says: when it runs, its jobs and their steps. Values in `${{ … }}` are left as they are, and a
//! key that nobody here knows is an error.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Variables or inputs, by name. YAML's numbers and truth values are texts to whom they are given.
pub(super) type Values = BTreeMap<String, Value>;

/// A workflow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workflow {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    on: Value,
    #[serde(default)]
    pub env: Values,
    pub jobs: BTreeMap<String, Job>,
}

/// One of its jobs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    #[serde(rename = "runs-on")]
    _runs_on: Option<IgnoredAny>,
    #[serde(default)]
    pub permissions: Values,
    #[serde(default)]
    needs: Value,
    #[serde(rename = "if")]
    pub condition: Option<String>,
    #[serde(default)]
    strategy: Value,
    #[serde(default)]
    pub env: Values,
    pub steps: Vec<WorkflowStep>,
}

/// One step: a script, or an action with its inputs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkflowStep {
    pub id: Option<String>,
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

impl Workflow {
    /// Whether a push to `branch` starts it.
    pub fn runs_on_push(&self, branch: &str) -> bool {
        let Some(push) = self.trigger("push") else { return false };
        let branches = push.get("branches").and_then(Value::as_array);
        branches.is_none_or(|branches| branches.iter().any(|name| name == branch))
    }

    /// The inputs of a start by hand that gives none; `None` where it can't be started so.
    pub fn inputs_by_hand(&self) -> Option<Map<String, Value>> {
        let by_hand = self.trigger("workflow_dispatch")?;
        let inputs = by_hand.get("inputs").and_then(Value::as_object);
        let default = |(name, input): (&String, &Value)| Some((name.clone(), input.get("default")?.clone()));
        Some(inputs.into_iter().flatten().filter_map(default).collect())
    }

    /// What `on` says of one event: it may be a name, a list of names, or a map.
    fn trigger(&self, event: &str) -> Option<Value> {
        match &self.on {
            Value::String(name) => (name == event).then_some(Value::Null),
            Value::Array(names) => names.iter().any(|name| name == event).then_some(Value::Null),
            other => other.get(event).cloned(),
        }
    }
}

impl Job {
    /// The jobs that it needs.
    pub fn needs(&self) -> Vec<&str> {
        match &self.needs {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// What `matrix` is in each of its runs; one run without a matrix.
    pub fn legs(&self) -> Result<Vec<Map<String, Value>>> {
        let Some(matrix) = self.strategy.get("matrix") else { return Ok(vec![Map::new()]) };
        let matrix = matrix.as_object().context("a matrix that is an expression isn't known here")?;
        ensure!(!matrix.contains_key("exclude"), "`exclude` of a matrix isn't known here");
        if let Some(include) = matrix.get("include") {
            ensure!(matrix.len() == 1, "`include` beside other keys of a matrix isn't known here");
            let legs = include.as_array().context("`include` is a list")?;
            return legs.iter().map(|leg| leg.as_object().cloned().context("a leg is a map")).collect();
        }
        let mut legs = vec![Map::new()];
        for (key, values) in matrix {
            let values = values.as_array().with_context(|| format!("{key} is a list"))?;
            let with = |leg: &Map<String, Value>, value: &Value| {
                let mut leg = leg.clone();
                leg.insert(key.clone(), value.clone());
                leg
            };
            legs = legs.iter().flat_map(|leg| values.iter().map(move |value| with(leg, value))).collect();
        }
        Ok(legs)
    }
}

impl WorkflowStep {
    /// What the log calls it.
    pub fn title(&self) -> &str {
        let own = self.name.as_deref().or(self.uses.as_deref());
        own.or_else(|| self.run.as_deref()?.lines().next()).unwrap_or_default()
    }
}

/// A value as the text that a program is given.
pub(super) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn workflow(text: &str) -> Workflow {
        serde_saphyr::from_str(text).expect("a workflow")
    }

    #[test]
    fn a_workflow_runs_for_the_events_and_branches_that_it_names() {
        let runs = |on: &str, branch: &str| workflow(&format!("on: {on}\njobs: {{}}\n")).runs_on_push(branch);
        for on in ["push", "[pull_request, push]", "{push: {branches: [main]}}", "{push: }"] {
            assert!(runs(on, "main"), "{on}");
        }
        for on in ["workflow_dispatch", "[pull_request]", "{push: {branches: [next]}}"] {
            assert!(!runs(on, "main"), "{on}");
        }
        let inputs = "{workflow_dispatch: {inputs: {skip: {type: boolean, default: false}, host: {type: string}}}}";
        let by_hand = workflow(&format!("on: {inputs}\njobs: {{}}\n")).inputs_by_hand().expect("it may be started");
        assert_eq!(Value::Object(by_hand), json!({"skip": false}));
        assert_eq!(workflow("on: push\njobs: {}\n").inputs_by_hand(), None);
    }

    #[test]
    fn a_matrix_has_a_leg_for_each_entry_or_for_each_combination() {
        let legs = |matrix: &str| {
            let job = format!("{{steps: [], strategy: {{matrix: {matrix}}}}}");
            let job: Job = serde_saphyr::from_str(&job).expect("a job");
            job.legs().map(|legs| Value::from_iter(legs.into_iter().map(Value::Object))).map_err(|e| e.to_string())
        };
        assert_eq!(legs("{include: [{id: a}, {id: b}]}"), Ok(json!([{"id": "a"}, {"id": "b"}])));
        let product = json!([{"os": "a", "py": 1}, {"os": "a", "py": 2}, {"os": "b", "py": 1}, {"os": "b", "py": 2}]);
        assert_eq!(legs("{os: [a, b], py: [1, 2]}"), Ok(product));
        assert!(legs("{os: [a], exclude: []}").is_err());
        serde_saphyr::from_str::<Job>("{steps: [], concurrency: one}").expect_err("a key that nobody knows");
    }
}
