//! Plays whole workflows: the jobs in the order in which they need each other. How one job is played is in [`super::job`].

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::expression::JobOutcome;
use super::job::{JobRun, WorkflowEvent, read};
use super::steps::Workflow;
use crate::world::{Commit, Sample, World};

/// A runner, with the secrets of one repository.
pub struct WorkflowRunner<'a> {
    world: &'a World,
    secrets: BTreeMap<String, String>,
    may_push: Vec<[String; 3]>,
}

/// A workflow that came to its end.
#[derive(Debug)]
pub struct WorkflowRun {
    /// Its file.
    pub file: String,
    /// Its jobs' runs, in the order in which they were played.
    pub jobs: Vec<JobRun>,
}

impl WorkflowRun {
    /// Whether no job has failed, which GitHub shows in green.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.jobs.iter().all(|job| job.outcome != JobOutcome::Failed)
    }

    /// How a job has ended; with a matrix, all of its legs together.
    #[must_use]
    pub fn outcome(&self, job: &str) -> Option<JobOutcome> {
        let leg = |name: &str| name.strip_prefix(job).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("));
        let legs: Vec<_> = self.jobs.iter().filter(|run| leg(&run.name)).map(|run| run.outcome).collect();
        together(&legs)
    }

    /// What all of its jobs printed.
    #[must_use]
    pub fn log(&self) -> String {
        let job = |job: &JobRun| format!("# {}: {:?}\n{}", job.name, job.outcome, job.log);
        self.jobs.iter().map(job).collect()
    }
}

impl<'a> WorkflowRunner<'a> {
    /// A runner with these secrets.
    #[must_use]
    pub fn new(world: &'a World, secrets: BTreeMap<String, String>) -> Self {
        Self { world, secrets, may_push: Vec::new() }
    }

    /// With somebody whom a registry lets push images.
    #[must_use]
    pub fn who_may_push(mut self, registry: &str, user: &str, password: &str) -> Self {
        self.may_push.push([registry, user, password].map(str::to_owned));
        self
    }

    /// Plays every workflow that a push of `commit` to the sample's branch starts.
    ///
    /// # Errors
    /// When a workflow has what this runner doesn't know. A job that fails is no error.
    pub fn push(&self, sample: &Sample, commit: &Commit) -> Result<Vec<WorkflowRun>> {
        let workflows = workflows(sample)?;
        let started = workflows.iter().filter(|(_, workflow)| workflow.runs_on_push(sample.branch()));
        started.map(|(file, workflow)| run(file, &self.event(sample, commit, workflow, "push", Map::new()))).collect()
    }

    /// Plays a workflow that somebody starts by hand, without inputs.
    ///
    /// # Errors
    /// As [`Self::push`], and when it can't be started by hand.
    pub fn dispatch(&self, sample: &Sample, commit: &Commit, file: &str) -> Result<WorkflowRun> {
        let workflows = workflows(sample)?;
        let workflow = workflows.get(file).with_context(|| format!("there is no workflow {file}"))?;
        let inputs = workflow.inputs_by_hand().with_context(|| format!("{file} can't be started by hand"))?;
        run(file, &self.event(sample, commit, workflow, "workflow_dispatch", inputs))
    }

    /// The one command that the SSH action of a job sends, for other ways to send it.
    ///
    /// # Errors
    /// When the job has no such step.
    pub fn remote_command(&self, sample: &Sample, file: &str, job: &str) -> Result<String> {
        let workflows = workflows(sample)?;
        let workflow = workflows.get(file).with_context(|| format!("there is no workflow {file}"))?;
        let commit = Commit { sha: "0".repeat(40), branch: sample.branch().to_owned() };
        Ok(self.event(sample, &commit, workflow, "push", Map::new()).ssh_request(job)?.command)
    }

    fn event<'e>(
        &'e self,
        sample: &'e Sample,
        commit: &'e Commit,
        workflow: &'e Workflow,
        name: &'static str,
        inputs: Map<String, Value>,
    ) -> WorkflowEvent<'e> {
        let mut secrets: Map<String, Value> =
            self.secrets.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        secrets.insert("GITHUB_TOKEN".to_owned(), format!("ghs_{}", uuid::Uuid::new_v4().simple()).into());
        WorkflowEvent {
            world: self.world,
            sample,
            commit,
            workflow,
            name,
            inputs,
            secrets,
            may_push: self.may_push.clone(),
        }
    }
}

/// Plays the jobs, each one once those that it needs have ended.
fn run(file: &str, event: &WorkflowEvent<'_>) -> Result<WorkflowRun> {
    let jobs = &event.workflow.jobs;
    let mut ended: BTreeMap<&str, JobOutcome> = BTreeMap::new();
    let mut run = WorkflowRun { file: file.to_owned(), jobs: Vec::new() };
    while ended.len() < jobs.len() {
        let is_next = |name: &str, needs: &[&str]| {
            !ended.contains_key(name) && needs.iter().all(|needed| ended.contains_key(needed))
        };
        let next = jobs.iter().find(|(name, job)| is_next(name, &job.needs()));
        let (name, job) = next.with_context(|| format!("{file}: a job needs one that never ends"))?;
        let needed: Vec<_> = job.needs().into_iter().map(|needed| ended[needed]).collect();
        let runs = event.play(name, together(&needed).unwrap_or(JobOutcome::Passed))?;
        ensure!(!runs.is_empty(), "{file}: the matrix of {name} has no leg");
        let legs: Vec<_> = runs.iter().map(|run| run.outcome).collect();
        ended.insert(name, together(&legs).unwrap_or(JobOutcome::Passed));
        run.jobs.extend(runs);
    }
    Ok(run)
}

/// How several have ended; `None` where there is none.
fn together(outcomes: &[JobOutcome]) -> Option<JobOutcome> {
    let of = |wanted: JobOutcome| outcomes.contains(&wanted).then_some(wanted);
    of(JobOutcome::Failed).or_else(|| of(JobOutcome::Skipped)).or_else(|| of(JobOutcome::Passed))
}

/// The workflows of a sample, by file.
fn workflows(sample: &Sample) -> Result<BTreeMap<String, Workflow>> {
    let folder = tempfile::tempdir()?;
    sample.write(folder.path())?;
    let files = fs::read_dir(folder.path().join(".github/workflows"))?;
    files
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?))
        })
        .collect()
}
