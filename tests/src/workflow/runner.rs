//! Plays a job. The runner has a home and a workspace of its own and nothing of the machine's environment; `ssh` and `scp`
//! are OpenSSH's, kept from the machine's own configuration and known hosts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::expression::Scope;
use super::steps::{Job, Values, Workflow, WorkflowStep};
use crate::world::{Sample, World};

const CLIENTS: [&str; 2] = ["ssh", "scp"];

/// A runner, with the secrets of one repository.
pub struct WorkflowRunner<'a> {
    world: &'a World,
    secrets: BTreeMap<String, String>,
    home: PathBuf,
}

/// A job that came to its end.
#[derive(Debug)]
pub struct JobRun {
    /// Whether it's green.
    pub passed: bool,
    /// What its steps printed.
    pub log: String,
}

/// What the SSH action asks a server for.
#[derive(Debug)]
struct SshRequest {
    place: String,
    port: String,
    key: String,
    command: String,
}

impl<'a> WorkflowRunner<'a> {
    /// A runner whose files are in the world's folder.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn new(world: &'a World, secrets: BTreeMap<String, String>) -> Result<Self> {
        let home = world.folder().join(format!("runner-{}", uuid::Uuid::new_v4()));
        for folder in ["bin", ".ssh", "work"] {
            fs::create_dir_all(home.join(folder))?;
        }
        for client in CLIENTS {
            // OpenSSH looks for `~` in the user's entry in /etc/passwd, which is the runner's home on GitHub's.
            let shim = format!(
                "#!/bin/bash\nexec /usr/bin/{client} -F none -o UserKnownHostsFile={0}/.ssh/known_hosts \
                 \"${{@/#\\~\\//{0}/}}\"\n",
                home.display()
            );
            write(&home.join("bin").join(client), &shim, 0o755)?;
        }
        Ok(Self { world, secrets, home })
    }

    /// Plays one job of a sample's workflow, as it runs for a push to the default branch.
    ///
    /// # Errors
    /// When the workflow has what this runner doesn't know. A step that fails is no error.
    pub fn play(&self, sample: &Sample, file: &str, job: &str) -> Result<JobRun> {
        let workspace = self.home.join("work").join(uuid::Uuid::new_v4().to_string());
        fs::create_dir_all(&workspace)?;
        let workflow = read(sample, file)?;
        let job = workflow.jobs.get(job).with_context(|| format!("{file} has no job {job}"))?;
        let mut run = JobRun { passed: true, log: String::new() };
        if !self.scope(sample, &Values::new(), false).runs(job.condition.as_deref())? {
            run.log.push_str("skipped\n");
            return Ok(run);
        }
        for step in &job.steps {
            let env = self.environment(sample, &workflow, job, step)?;
            let scope = self.scope(sample, &env, !run.passed);
            if !scope.runs(step.condition.as_deref())? {
                continue;
            }
            run.log.push_str(&format!("== {}\n", step.title()));
            if let Some(output) = self.step(sample, step, &scope, &env, &workspace)? {
                run.log.push_str(&String::from_utf8_lossy(&output.stdout));
                run.log.push_str(&String::from_utf8_lossy(&output.stderr));
                run.passed &= output.status.success();
            }
        }
        Ok(run)
    }

    /// The one command that the SSH action of a job sends, for other ways to send it.
    ///
    /// # Errors
    /// When the job has no such step.
    pub fn remote_command(&self, sample: &Sample, file: &str, job: &str) -> Result<String> {
        let workflow = read(sample, file)?;
        let job = workflow.jobs.get(job).with_context(|| format!("{file} has no job {job}"))?;
        let step = job.steps.iter().find(|step| step.uses.as_deref().is_some_and(is_ssh_action));
        let step = step.context("the job has no step over SSH")?;
        let env = self.environment(sample, &workflow, job, step)?;
        Ok(ssh_request(step, &self.scope(sample, &env, false), &env)?.command)
    }

    fn scope(&self, sample: &Sample, env: &Values, failed: bool) -> Scope {
        let contexts = json!({
            "secrets": self.secrets,
            "env": env,
            "inputs": {},
            "github": {
                "event_name": "push",
                "ref": format!("refs/heads/{}", sample.branch()),
                "repository": format!("{}/{}", sample.owner(), sample.repository()),
                "actor": sample.owner(),
            },
        });
        Scope { contexts, failed }
    }

    /// The variables of a step: those of the workflow, then the job's, then its own.
    fn environment(&self, sample: &Sample, workflow: &Workflow, job: &Job, step: &WorkflowStep) -> Result<Values> {
        let mut env = Values::new();
        for values in [&workflow.env, &job.env, &step.env] {
            let scope = self.scope(sample, &env, false);
            for (name, value) in values {
                env.insert(name.clone(), scope.fill(&text_of(value))?.into());
            }
        }
        Ok(env)
    }

    fn step(
        &self,
        sample: &Sample,
        step: &WorkflowStep,
        scope: &Scope,
        env: &Values,
        workspace: &Path,
    ) -> Result<Option<Output>> {
        match (&step.run, step.uses.as_deref()) {
            (Some(script), None) => {
                let file = self.home.join("script.sh");
                write(&file, &scope.fill(script)?, 0o600)?;
                let mut bash = self.command("bash");
                bash.arg("-e").arg(&file).current_dir(workspace);
                bash.envs(env.iter().map(|(name, value)| (name, text_of(value))));
                Ok(Some(bash.output()?))
            }
            (None, Some(uses)) if uses.starts_with("actions/checkout@") => {
                sample.write(workspace)?;
                Ok(None)
            }
            (None, Some(uses)) if is_ssh_action(uses) => self.send(&ssh_request(step, scope, env)?).map(Some),
            _ => bail!("this runner can't play the step {}", step.title()),
        }
    }

    fn send(&self, request: &SshRequest) -> Result<Output> {
        let key = self.home.join(format!("key-{}", uuid::Uuid::new_v4()));
        // Secrets at GitHub lose the line's end that the format needs.
        write(&key, &format!("{}\n", request.key.trim_end()), 0o600)?;
        let mut ssh = self.command("ssh");
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-p", &request.port, "-i"]).arg(key);
        Ok(ssh.arg(&request.place).arg(&request.command).output()?)
    }

    /// A program on the runner, without anything of the machine's environment.
    fn command(&self, program: &str) -> Command {
        let found = if CLIENTS.contains(&program) { self.home.join("bin").join(program) } else { program.into() };
        let mut command = self.world.command(&found.to_string_lossy());
        command.env_clear().stdin(Stdio::null());
        command.env("HOME", &self.home).env("LANG", "C.UTF-8").env("CI", "true");
        command.env("PATH", format!("{}/bin:/usr/local/bin:/usr/bin:/bin", self.home.display()));
        command
    }
}

fn is_ssh_action(uses: &str) -> bool {
    uses.starts_with("appleboy/ssh-action@")
}

/// The variables that `envs` names, exported, and the script behind them: one exec request.
fn ssh_request(step: &WorkflowStep, scope: &Scope, env: &Values) -> Result<SshRequest> {
    let input = |name: &str| scope.fill(&step.inputs.get(name).map(text_of).unwrap_or_default());
    let mut command = String::new();
    for name in input("envs")?.split(',').filter(|name| !name.is_empty()) {
        let value = env.get(name).map(text_of).unwrap_or_default();
        ensure!(!value.contains('\''), "{name} would need quoting");
        command.push_str(&format!("export {name}='{value}'\n"));
    }
    command.push_str(&input("script")?);
    let port = Some(input("port")?).filter(|port| !port.is_empty()).unwrap_or_else(|| "22".to_owned());
    Ok(SshRequest { place: format!("{}@{}", input("username")?, input("host")?), port, key: input("key")?, command })
}

fn read(sample: &Sample, file: &str) -> Result<Workflow> {
    let folder = tempfile::tempdir()?;
    sample.write(folder.path())?;
    let text =
        fs::read_to_string(folder.path().join(".github/workflows").join(file)).with_context(|| file.to_owned())?;
    serde_saphyr::from_str(&text).with_context(|| format!("{file} isn't a workflow"))
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}
