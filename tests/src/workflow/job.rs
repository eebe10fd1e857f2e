//! Plays a job: each leg of its matrix on a machine of its own, step by step.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::actions::{Inputs, Place, ssh_request};
use super::expression::{JobOutcome, Scope};
use super::machine::{Machine, SshRequest, StepEnd};
use super::steps::{Job, Values, Workflow, WorkflowStep, text_of};
use crate::world::{Commit, Sample, World};

/// A run of a job that came to its end; a job with a matrix has several.
#[derive(Debug)]
pub struct JobRun {
    /// The job's name, with the leg of its matrix: `build-and-push (backend)`.
    pub name: String,
    /// How it ended.
    pub outcome: JobOutcome,
    /// What its steps printed.
    pub log: String,
}

/// A push or a start by hand, with what all of its jobs share.
pub(super) struct WorkflowEvent<'a> {
    pub world: &'a World,
    pub sample: &'a Sample,
    pub commit: &'a Commit,
    pub workflow: &'a Workflow,
    /// `push` or `workflow_dispatch`.
    pub name: &'static str,
    pub inputs: Map<String, Value>,
    pub secrets: Map<String, Value>,
    /// Registry, user and password of those that may push images, beside the job's own token.
    pub may_push: Vec<[String; 3]>,
}

impl WorkflowEvent<'_> {
    /// Plays all legs of a job, unless its `if` says no. After one that fails, the rest is cancelled.
    pub fn play(&self, name: &str, needed: JobOutcome) -> Result<Vec<JobRun>> {
        let job = self.workflow.jobs.get(name).with_context(|| format!("there is no job {name}"))?;
        let skipped = |name: String| JobRun { name, outcome: JobOutcome::Skipped, log: String::new() };
        if !self.scope(&Map::new(), &Values::new(), &Map::new(), needed).runs(job.condition.as_deref())? {
            return Ok(vec![skipped(name.to_owned())]);
        }
        let mut runs: Vec<JobRun> = Vec::new();
        for matrix in job.legs()? {
            let values: Vec<_> = matrix.values().map(text_of).collect();
            let name = if values.is_empty() { name.to_owned() } else { format!("{name} ({})", values.join(", ")) };
            if runs.iter().any(|run| run.outcome == JobOutcome::Failed) {
                runs.push(skipped(name));
            } else {
                let (outcome, log) = self.leg(job, &matrix).with_context(|| name.clone())?;
                runs.push(JobRun { name, outcome, log });
            }
        }
        Ok(runs)
    }

    fn leg(&self, job: &Job, matrix: &Map<String, Value>) -> Result<(JobOutcome, String)> {
        let machine = Machine::new(self.world, &self.logins(job))?;
        let place = Place { machine: &machine, sample: self.sample, commit: self.commit };
        let (mut outcome, mut log) = (JobOutcome::Passed, String::new());
        let (mut steps, mut exported) = (Map::new(), Values::new());
        for step in &job.steps {
            let env = self.environment(job, matrix, &exported, step)?;
            let scope = self.scope(matrix, &env, &steps, outcome);
            if !scope.runs(step.condition.as_deref())? {
                continue;
            }
            log.push_str(&format!("== {}\n", scope.fill(step.title())?));
            let end = act(&place, step, &scope, &env)?;
            log.push_str(&end.log);
            if end.failed {
                outcome = JobOutcome::Failed;
            }
            exported.extend(end.env);
            if let Some(id) = &step.id {
                steps.insert(id.clone(), json!({ "outputs": end.outputs }));
            }
        }
        Ok((outcome, log))
    }

    /// The job's own token may push to GitHub's registry where its permissions say so.
    fn logins(&self, job: &Job) -> Vec<[String; 3]> {
        let mut logins = self.may_push.clone();
        if job.permissions.get("packages").is_some_and(|may| may == "write") {
            let token = self.secrets.get("GITHUB_TOKEN").map(text_of).unwrap_or_default();
            logins.push(["ghcr.io".to_owned(), self.sample.owner().to_owned(), token]);
        }
        logins
    }

    /// The variables of a step: those of the workflow, then the job's, then its own.
    fn environment(
        &self,
        job: &Job,
        matrix: &Map<String, Value>,
        exported: &Values,
        step: &WorkflowStep,
    ) -> Result<Values> {
        let mut env = Values::new();
        for values in [&self.workflow.env, &job.env, exported, &step.env] {
            let scope = self.scope(matrix, &env, &Map::new(), JobOutcome::Passed);
            for (name, value) in values {
                env.insert(name.clone(), scope.fill(&text_of(value))?.into());
            }
        }
        Ok(env)
    }

    fn scope(
        &self,
        matrix: &Map<String, Value>,
        env: &Values,
        steps: &Map<String, Value>,
        so_far: JobOutcome,
    ) -> Scope {
        let contexts = json!({
            "secrets": self.secrets,
            "env": env,
            "inputs": self.inputs,
            "matrix": matrix,
            "steps": steps,
            "github": {
                "event_name": self.name,
                "ref": format!("refs/heads/{}", self.sample.branch()),
                "sha": self.commit.sha,
                "repository": format!("{}/{}", self.sample.owner(), self.sample.repository()),
                "actor": self.sample.owner(),
            },
        });
        Scope { contexts, so_far }
    }

    /// What the first SSH action of a job asks its server for.
    pub fn ssh_request(&self, name: &str) -> Result<SshRequest> {
        let job = self.workflow.jobs.get(name).with_context(|| format!("there is no job {name}"))?;
        let is_ssh = |uses: &str| uses.starts_with("appleboy/ssh-action@");
        let step = job.steps.iter().find(|step| step.uses.as_deref().is_some_and(is_ssh));
        let step = step.context("the job has no step over SSH")?;
        let env = self.environment(job, &Map::new(), &Values::new(), step)?;
        let scope = self.scope(&Map::new(), &env, &Map::new(), JobOutcome::Passed);
        ssh_request(&inputs(step, &scope)?, &texts(&env))
    }
}

fn act(place: &Place<'_>, step: &WorkflowStep, scope: &Scope, env: &Values) -> Result<StepEnd> {
    match (&step.run, step.uses.as_deref()) {
        (Some(script), None) => place.machine.run(&scope.fill(script)?, env),
        (None, Some(uses)) => place.act(uses, &inputs(step, scope)?, &texts(env)),
        _ => bail!("the step {} is neither a script nor an action", step.title()),
    }
}

fn inputs(step: &WorkflowStep, scope: &Scope) -> Result<Inputs> {
    step.inputs.iter().map(|(name, value)| Ok((name.clone(), scope.fill(&text_of(value))?))).collect()
}

fn texts(values: &Values) -> Inputs {
    values.iter().map(|(name, value)| (name.clone(), text_of(value))).collect()
}

/// Reads one workflow.
pub(super) fn read(path: &Path) -> Result<Workflow> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} isn't a workflow", path.display()))
}
