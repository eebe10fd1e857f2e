//! A service of the world (broker, database, registry) that a test can stop, kill, freeze and start again. Knows no
//! service in particular.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::holder::MountHolder;
use super::process_tree::ProcessTree;
use super::wait;

type Ready = Box<dyn Fn(&MountHolder) -> Result<bool> + Send + Sync>;

/// One service, with its own PID namespace: killing it takes its whole process tree, as a power cut does.
pub struct Service {
    name: &'static str,
    holder: Arc<MountHolder>,
    log: PathBuf,
    command: Vec<String>,
    ready: Ready,
    stop: Signal,
    tree: Mutex<Option<ProcessTree>>,
}

impl Service {
    /// A service that runs `command` and serves once `ready` says so. Not started yet.
    pub(super) fn new(
        name: &'static str,
        holder: &Arc<MountHolder>,
        command: Vec<String>,
        ready: impl Fn(&MountHolder) -> Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let log = holder.folder().join(format!("{name}.log"));
        Self {
            name,
            holder: Arc::clone(holder),
            log,
            command,
            ready: Box::new(ready),
            stop: Signal::TERM,
            tree: Mutex::new(None),
        }
    }

    /// Stopped by another signal than SIGTERM.
    pub(super) fn stopped_by(mut self, signal: Signal) -> Self {
        self.stop = signal;
        self
    }

    /// Starts it, on the data that it has, and waits until it serves.
    ///
    /// # Errors
    /// When it runs already, ends early or does not serve in time; with the tail of its log.
    pub fn start(&self) -> Result<()> {
        let mut slot = self.tree();
        ensure!(slot.is_none(), "{} runs already", self.name);
        let mut program = vec!["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
        program.extend(self.command.iter().map(String::as_str));
        let mut tree = self.holder.tree(&program, &self.log)?;
        wait::until(&format!("{} serves", self.name), wait::START, &self.log, || {
            ensure!(tree.is_running(), "{} has ended", self.name);
            (self.ready)(&self.holder)
        })?;
        *slot = Some(tree);
        Ok(())
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or not stop in time.
    pub fn stop(&self) -> Result<()> {
        let tree = self.take()?;
        tree.signal(self.stop)?;
        tree.wait(&self.log)
    }

    /// Kills it without warning; nothing of it is left when this returns.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.take()?.kill();
        Ok(())
    }

    /// Kills it and starts it again on the data that is left.
    ///
    /// # Errors
    /// As [`Service::kill`] and [`Service::start`].
    pub fn restart(&self) -> Result<()> {
        self.kill()?;
        self.start()
    }

    /// Freezes all its processes: connections stay open and new ones are not refused, but nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal_all(Signal::CONT)
    }

    /// What it has written to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        self.tree().as_ref().with_context(|| format!("{} does not run", self.name))?.signal_all(signal)
    }

    fn take(&self) -> Result<ProcessTree> {
        self.tree().take().with_context(|| format!("{} does not run", self.name))
    }

    fn tree(&self) -> MutexGuard<'_, Option<ProcessTree>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Service").field("name", &self.name).field("log", &self.log).finish_non_exhaustive()
    }
}
