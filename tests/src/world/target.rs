//! A target server: its own address, sshd, Docker Engine, ufw and disk, over the root file system that all share.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use super::cache::Cache;
use super::holder::{MountHolder, PATH};
use super::process_tree::ProcessTree;
use super::{net, probe, wait};

/// A server that the project's workers deploy to.
#[derive(Debug)]
pub struct TargetServer {
    holder: Arc<MountHolder>,
    cache: Arc<Cache>,
    index: u8,
    folder: PathBuf,
    host_key: String,
    tree: Mutex<Option<ProcessTree>>,
}

impl TargetServer {
    /// The server's disk and keys; it is off.
    pub(super) fn new(holder: &Arc<MountHolder>, cache: &Arc<Cache>, index: u8) -> Result<Self> {
        let folder = holder.folder().join(format!("target-{index}"));
        let ssh = folder.join("upper/etc/ssh");
        fs::create_dir_all(&ssh)?;
        let init = folder.join("upper/usr/sbin");
        fs::create_dir_all(&init)?;
        fs::write(init.join("world-init"), include_str!("guest.sh"))?;
        let key = ssh.join("ssh_host_ed25519_key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key).status();
        ensure!(made.context("starting ssh-keygen")?.success(), "ssh-keygen made no host key");
        let host_key = fs::read_to_string(key.with_extension("pub"))?.trim().to_owned();
        Ok(Self {
            holder: Arc::clone(holder),
            cache: Arc::clone(cache),
            index,
            folder,
            host_key,
            tree: Mutex::new(None),
        })
    }

    /// Its address in the world's network.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        net::target(self.index)
    }

    /// Its other address.
    #[must_use]
    pub fn ip_v6(&self) -> Ipv6Addr {
        net::target_v6(self.index)
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("target-{}", self.index)
    }

    /// Where its sshd listens.
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        22
    }

    /// Its host key, `ssh-ed25519 AAAA…`: known before it starts, the same over reboots.
    #[must_use]
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// Powers it on and waits until sshd and dockerd answer.
    ///
    /// # Errors
    /// When it is on already or does not come up; with the tail of the log that tells why.
    pub fn start(&self) -> Result<()> {
        let mut slot = self.tree();
        ensure!(slot.is_none(), "{} is on already", self.name());
        let console = self.folder.join("console.log");
        let (folder, rootfs) = (self.folder.display().to_string(), self.cache.part("rootfs").display().to_string());
        let group = format!("{}/{}", self.holder.group(), self.name());
        let ip_v6 = self.ip_v6().to_string();
        let (name, ip, gateway) = (self.name(), self.ip().to_string(), net::WORKER.to_string());
        let program = [
            "bash",
            "-c",
            include_str!("power.sh"),
            "power",
            include_str!("boot.sh"),
            &group,
            &folder,
            &rootfs,
            &name,
            &ip,
            &gateway,
            &ip_v6,
        ];
        let mut tree = self.holder.tree(&program, &console)?;
        self.link(&format!(
            "link add {name} type veth peer name eth0 netns {}\nlink set {name} master br0 up\n",
            tree.init()
        ))?;
        wait::until(&format!("{name}: sshd answers"), wait::START, &console, || {
            ensure!(tree.is_running(), "the server went off");
            self.holder.inside(|| Ok(probe::ssh(self.ip())))
        })?;
        let socket = root_of(&tree).join("run/docker.sock");
        wait::until(
            &format!("{name}: dockerd answers"),
            wait::START,
            &self.folder.join("upper/var/log/dockerd.log"),
            || {
                ensure!(tree.is_running(), "the server went off");
                Ok(probe::docker(&socket))
            },
        )?;
        *slot = Some(tree);
        Ok(())
    }

    /// Pulls its plug: every process is gone when this returns, the disk stays.
    ///
    /// # Errors
    /// When it is off already.
    pub fn stop(&self) -> Result<()> {
        let tree = self.tree().take().with_context(|| format!("{} is off", self.name()))?;
        // Before the namespace goes: its links linger for a while, and would hold the name.
        self.link(&format!("link del {}\n", self.name()))?;
        tree.kill();
        Ok(())
    }

    /// Off and on again, as after a power cut.
    ///
    /// # Errors
    /// As [`TargetServer::stop`] and [`TargetServer::start`].
    pub fn reboot(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Kills its Docker daemon in the midst of whatever it does; it's started again a second later.
    ///
    /// # Errors
    /// When the server is off, or no daemon runs.
    pub fn kill_docker(&self) -> Result<()> {
        self.sh("kill -KILL \"$(cat /run/docker.pid)\"").map(drop)
    }

    /// Unplugs its network cable. Connections hang; nothing is refused.
    ///
    /// # Errors
    /// When it is off.
    pub fn cut(&self) -> Result<()> {
        self.link(&format!("link set {} down\n", self.name()))
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// When it is off.
    pub fn heal(&self) -> Result<()> {
        self.link(&format!("link set {} up\n", self.name()))
    }

    /// Makes what is sent to it slow, as an overloaded line does: a script takes seconds, an image tens of them.
    ///
    /// # Errors
    /// When it is off, or slow already.
    pub fn throttle(&self) -> Result<()> {
        self.queue("add", &["tbf", "rate", "128kbit", "burst", "16kb", "latency", "2s"])
    }

    /// Gives it the whole line again.
    ///
    /// # Errors
    /// When it isn't slow.
    pub fn release(&self) -> Result<()> {
        self.queue("del", &[])
    }

    /// A command that runs on the server as root, without SSH, so also while it is cut off.
    ///
    /// # Errors
    /// When it is off.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init()?))
            .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--"])
            .args(["env", "-i", "-C", "/root", "HOME=/root", "LANG=C.UTF-8", PATH, program]);
        Ok(command)
    }

    /// Runs `argv` on the server, see [`TargetServer::command`].
    ///
    /// # Errors
    /// When it is off or the program can't be started; not when the program fails.
    pub fn exec(&self, argv: &[&str]) -> Result<Output> {
        let (program, arguments) = argv.split_first().context("no program")?;
        Ok(self.command(program)?.args(arguments).stdin(Stdio::null()).output()?)
    }

    /// Runs a shell script on the server and returns its stdout.
    ///
    /// # Errors
    /// When the script fails; with its stderr.
    pub fn sh(&self, script: &str) -> Result<String> {
        let output = self.exec(&["bash", "-euo", "pipefail", "-c", script])?;
        if !output.status.success() {
            bail!("{} on {}: {}\n{script}", output.status, self.name(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Its files as seen from outside. Absolute symbolic links in there point outside of it.
    ///
    /// # Errors
    /// When it is off.
    pub fn root(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root", self.init()?)))
    }

    /// The arguments of every process of the server and of its containers, at this moment: what `ps` would show.
    ///
    /// # Errors
    /// When it is off.
    pub fn processes(&self) -> Result<Vec<Vec<String>>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root()?.join("proc"))? {
            // A process may end while we look.
            let Ok(line) = fs::read(entry?.path().join("cmdline")) else {
                continue;
            };
            let arguments: Vec<String> =
                line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
            if line.len() > 1 {
                found.push(arguments[..arguments.len() - 1].to_vec());
            }
        }
        Ok(found)
    }

    /// Adds a user who logs in with the workers' key. Group `sudo` gives root without a password, `docker` the engine.
    ///
    /// # Errors
    /// When the server is off or has such a user.
    pub fn add_user(&self, user: &str, groups: &[&str]) -> Result<()> {
        let script = r#"
            useradd --create-home --shell /bin/bash --groups "$2" "$1"
            install -d -m 700 -o "$1" -g "$1" "/home/$1/.ssh"
            install -m 600 -o "$1" -g "$1" /root/.ssh/authorized_keys "/home/$1/.ssh/authorized_keys""#;
        let output = self.exec(&["bash", "-euc", script, "add-user", user, &groups.join(",")])?;
        ensure!(output.status.success(), "adding {user}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    pub(super) fn init(&self) -> Result<i32> {
        Ok(self.tree().as_ref().with_context(|| format!("{} is off", self.name()))?.init())
    }

    /// Runs `ip` commands on the world's side of the cable.
    fn link(&self, batch: &str) -> Result<()> {
        // Not in the world's PID namespace: `netns` takes a process number of the machine.
        let mut child =
            self.holder.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin is piped")?.write_all(batch.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "ip: {}\n{batch}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Adds or deletes the queue that everything sent to the server goes through.
    fn queue(&self, verb: &str, discipline: &[&str]) -> Result<()> {
        let name = self.name();
        let mut command = self.holder.command("tc");
        let output = command.args(["qdisc", verb, "dev", &name, "root"]).args(discipline).output()?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn tree(&self) -> MutexGuard<'_, Option<ProcessTree>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn root_of(tree: &ProcessTree) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", tree.init()))
}
