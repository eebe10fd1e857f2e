//! A process tree that ends as one: the world itself, each of its services, each of its target servers. It has a PID
//! namespace of its own, so killing its first process kills all of it, without looking for leftovers.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdin, Command};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// The tree: `outer` is our own child, the machine's side of it; `init` is its PID 1, as the machine numbers it.
#[derive(Debug)]
pub(super) struct ProcessTree {
    outer: Child,
    init: i32,
}

impl ProcessTree {
    /// Starts `command`, which sooner or later makes a new PID namespace, and finds the first process of it: the first
    /// one that lives in none of the `known` namespaces.
    pub(super) fn spawn(command: &mut Command, known: &[String], log: &Path) -> Result<Self> {
        let outer = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut tree = Self { outer, init: 0 };
        wait::until("a new process tree", wait::START, log, || {
            if let Some(status) = tree.outer.try_wait()? {
                bail!("it ended at once with {status}");
            }
            let outer = i32::try_from(tree.outer.id())?;
            // Our child, at most one wrapper that entered the world, and the first process.
            let mut family = children(outer);
            family.extend(family.clone().into_iter().flat_map(children));
            tree.init = family
                .into_iter()
                .find(|&pid| pid_namespace(pid).is_some_and(|own| !known.contains(&own)))
                .unwrap_or(0);
            Ok(tree.init != 0)
        })?;
        Ok(tree)
    }

    /// PID 1 of the tree as the machine outside numbers it: `/proc/<this>/root` shows its files.
    pub(super) fn init(&self) -> i32 {
        self.init
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.outer.try_wait(), Ok(None))
    }

    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.outer.stdin.take()
    }

    /// Blocks until the tree's first process has said `word` on stdout.
    pub(super) fn hear(&mut self, word: &str) -> Result<()> {
        let mut heard = vec![0; word.len()];
        let stdout = self.outer.stdout.as_mut().context("stdout is not piped")?;
        stdout.read_exact(&mut heard)?;
        anyhow::ensure!(heard == word.as_bytes(), "unexpected: {}", String::from_utf8_lossy(&heard));
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_raw(self.init).context("no process")?, signal)?;
        Ok(())
    }

    /// Sends a signal to every process of the tree.
    pub(super) fn signal_all(&self, signal: Signal) -> Result<()> {
        let own = pid_namespace(self.init).context("the tree is gone")?;
        let mut told = BTreeSet::new();
        // Whoever was about to start another process may have done so meanwhile.
        loop {
            let entries = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            let new: Vec<i32> =
                entries.filter(|pid| !told.contains(pid) && pid_namespace(*pid).as_ref() == Some(&own)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                match kill_process(Pid::from_raw(pid).context("no process")?, signal) {
                    Ok(()) | Err(Errno::SRCH) => told.insert(pid),
                    Err(error) => return Err(error.into()),
                };
            }
        }
    }

    /// Ends the tree at once, as pulling the plug does, and waits until it is gone.
    pub(super) fn kill(mut self) {
        self.end();
    }

    /// Waits until the tree has ended by itself.
    pub(super) fn wait(mut self, log: &Path) -> Result<()> {
        wait::until("a graceful stop", wait::GONE, log, || Ok(self.outer.try_wait()?.is_some()))
    }

    fn end(&mut self) {
        if matches!(self.outer.try_wait(), Ok(Some(_))) {
            return;
        }
        if self.init != 0 {
            let _ = self.signal(Signal::KILL);
        } else {
            let _ = self.outer.kill();
        }
        // The kernel reports the first process's end after that of all others.
        let _ = self.outer.wait();
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        self.end();
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Which PID namespace a process lives in.
pub(super) fn pid_namespace(pid: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    Some(link.to_string_lossy().into_owned())
}
