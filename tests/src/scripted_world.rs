//! Scripted workers as processes, on any database and broker: started, killed, stopped, and buried so that the model's
//! log knows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use slipway_deploy::secrets::keys::DeployKey;

use crate::model::Model;
use crate::script::{MODEL, Rule, SCRIPT};

/// Where scripted workers work, and with what.
#[derive(Debug, Clone)]
pub struct ScriptedWorld {
    /// Logs, credentials and the model.
    pub folder: PathBuf,
    /// The program, `slipway-scripted`.
    pub program: PathBuf,
    /// PostgreSQL.
    pub database: String,
    /// RabbitMQ.
    pub amqp: String,
}

/// A scripted worker's process. Killed when dropped.
#[derive(Debug)]
pub struct ScriptedWorker {
    /// Its name in leases and logs.
    pub name: String,
    /// Where it logs to.
    pub log: PathBuf,
    child: Child,
    model: Model,
    buried: bool,
}

impl ScriptedWorld {
    /// A scripted world in an empty folder.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn new(folder: &Path, program: &Path, database: &str, amqp: &str) -> Result<Self> {
        fs::create_dir_all(folder.join("model"))?;
        let key = DeployKey::generate("model")?.private;
        for (name, content) in
            [("ssh", key.expose_secret()), ("github", "token"), ("digest", "a key of a model, 32 characters or more")]
        {
            fs::write(folder.join(name), content)?;
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o400))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            program: program.to_owned(),
            database: database.to_owned(),
            amqp: amqp.to_owned(),
        })
    }

    /// The servers that its workers act on.
    #[must_use]
    pub fn model(&self) -> Model {
        Model::new(&self.folder.join("model"))
    }

    /// Starts a worker under `name` with more environment on top. It doesn't outlive the thread that starts it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn worker(&self, name: &str, rules: &[Rule], environment: &[(&str, &str)]) -> Result<ScriptedWorker> {
        let log = self.folder.join(format!("{name}.log"));
        let file = |name: &str| self.folder.join(name);
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .env_clear()
            .env("SLIPWAY_AMQP_URL", &self.amqp)
            .env("SLIPWAY_DATABASE_URL", &self.database)
            .env("SLIPWAY_SSH_KEY_FILE", file("ssh"))
            .env("SLIPWAY_GITHUB_TOKEN_FILE", file("github"))
            .env("SLIPWAY_DIGEST_KEY_FILE", file("digest"))
            .env("SLIPWAY_WORKER_NAME", name)
            .env("SLIPWAY_LOG_FORMAT", "text")
            .env("SLIPWAY_RETRY_INITIAL", "50ms")
            .env("SLIPWAY_RETRY_MAX", "200ms")
            .env(MODEL, file("model"))
            .env(SCRIPT, serde_json::to_string(rules)?)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        Ok(ScriptedWorker { name: name.to_owned(), log, child, model: self.model(), buried: false })
    }
}

impl ScriptedWorker {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how; the model's log learns of it.
    ///
    /// # Errors
    /// When the log can't be written.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            self.bury()?;
        }
        Ok(ended)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Kills it, as a power cut would; it's gone when this returns.
    ///
    /// # Errors
    /// When the log can't be written.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.bury()
    }

    /// Whether it hasn't logged anything.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        fs::metadata(&self.log).map_or(true, |log| log.len() == 0)
    }

    /// The last lines of its log, for an error message.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {}:\n{}", self.name, lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    fn bury(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.buried, true) {
            self.model.died(self.child.id())?;
        }
        Ok(())
    }
}

impl Drop for ScriptedWorker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process was killed without a chance to say anything.
#[must_use]
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}
