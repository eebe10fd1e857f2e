//! The holder: the process whose namespaces are the world. It lives while its stdin is open, that is, no longer than
//! the test process, however that ends; with it ends everything that runs inside. Knows no service.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::process_tree::{self, ProcessTree};
use super::{net, wait};

/// The PATH of everything that runs inside.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug)]
pub(super) struct MountHolder {
    folder: PathBuf,
    tree: Mutex<Option<(ProcessTree, Option<ChildStdin>)>>,
    init: i32,
    /// PID namespaces in which a cell's first process does not live: the machine's and the holder's.
    known: Vec<String>,
}

impl MountHolder {
    /// Starts the holder in `folder`, its network up and its names in place.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        fs::write(folder.join("hosts"), net::hosts())?;
        fs::write(folder.join("resolv.conf"), "# no resolver: names come from the hosts file\n")?;
        fs::write(folder.join("addresses"), net::addresses())?;
        let log = folder.join("holder.log");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private"])
            // /proc stays the machine's: programs started with `command` are processes of the machine.
            .args(["bash", "-c", include_str!("holder.sh"), "holder"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let machine =
            process_tree::pid_namespace(i32::try_from(std::process::id())?).context("reading our PID namespace")?;
        let mut tree = ProcessTree::spawn(&mut command, std::slice::from_ref(&machine), &log)?;
        tree.hear("ready").map_err(|error| anyhow!("the world does not hold: {error}\n{}", wait::tail(&log)))?;
        let stdin = tree.take_stdin();
        let init = tree.init();
        let own = process_tree::pid_namespace(init).context("reading the world's PID namespace")?;
        Ok(Self { folder: folder.to_owned(), tree: Mutex::new(Some((tree, stdin))), init, known: vec![machine, own] })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The world's control group, named after its folder.
    pub(super) fn group(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A program in the world's network and with its names, as a process of the machine: its PID is the child's.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.init))
            .arg(format!("--mount=/proc/{}/ns/mnt", self.init))
            .args(["--wd=.", "--", program]);
        command
    }

    /// Starts a cell: `program` runs inside the world and makes the new PID namespace. Its output goes to `log`.
    pub(super) fn tree(&self, program: &[&str], log: &Path) -> Result<ProcessTree> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args(["--net", "--mount", "--pid", "--ipc", "--uts", "--"])
            // Nothing of the machine's environment: it may name proxies, certificates, other homes.
            .args(["setsid", "env", "-i", "HOME=/root", "LANG=C.UTF-8", PATH])
            .args(program)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        ProcessTree::spawn(&mut command, &self.known, log)
    }

    /// Moves the current thread, and all that it starts from now on, into the world's network.
    pub(super) fn enter(&self) -> Result<()> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.init)).context("the world is gone")?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Has the current thread, and all that it starts from now on, find the world's names as well. It's in the root folder then.
    #[expect(deprecated, reason = "the one in its place is unsafe for the sake of other flags")]
    fn enter_names(&self) -> Result<()> {
        let namespace = File::open(format!("/proc/{}/ns/mnt", self.init)).context("the world is gone")?;
        // A thread that shares its folder with others can't leave.
        rustix::thread::unshare(UnshareFlags::FS)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(())
    }

    /// Runs `work` on a thread of its own inside the world's network, with its names.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                self.enter_names()?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Ends the world: every process in it is gone when this returns.
    pub(super) fn end(&self) {
        let held = self.tree.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((tree, _stdin)) = held {
            tree.kill();
        }
    }
}

impl Drop for MountHolder {
    fn drop(&mut self) {
        self.end();
    }
}
