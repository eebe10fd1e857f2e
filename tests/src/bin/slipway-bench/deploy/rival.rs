//! What a deployment is compared with: the floor (`tests/bench.d/floor.sh`), with and without a gate, and Ansible
//! (`tests/bench.d/playbook.yml`), with pipelining and as it comes.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_tests::stack::{BOT_TOKEN, Stack};
use slipway_tests::world::{Commit, Module, Sample};

/// Who deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// One script.
    Floor,
    /// One script that waits until all is stable.
    FloorAndGate,
    /// A playbook; modules go over the connection that is there.
    AnsiblePipelining,
    /// A playbook, by Ansible's defaults.
    Ansible,
}

/// One deployment.
pub struct RivalTask<'a> {
    /// The project's files and images.
    pub sample: &'a Sample,
    /// What of it.
    pub commit: &'a Commit,
    /// Its directory.
    pub slug: &'a str,
    /// The backend's port.
    pub port: u16,
    /// The server.
    pub address: Ipv4Addr,
}

impl Rival {
    /// How it's called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorAndGate => "floor + gate",
            Self::AnsiblePipelining => "Ansible (pipelining)",
            Self::Ansible => "Ansible (as it comes)",
        }
    }

    /// Deploys; gives how long it took.
    pub fn deploy(self, stack: &Stack, python: &Path, task: &RivalTask<'_>) -> Result<Duration> {
        match self {
            Self::Floor => floor(stack, task, "no"),
            Self::FloorAndGate => floor(stack, task, "yes"),
            Self::AnsiblePipelining => ansible(stack, python, task, true),
            Self::Ansible => ansible(stack, python, task, false),
        }
    }
}

/// What the script and the playbook are given.
fn values(stack: &Stack, task: &RivalTask<'_>) -> Value {
    let image = |module| format!("ghcr.io/{}:{}", task.sample.image(module), task.commit.tag());
    let (backend, bot) = (image(Module::Backend), image(Module::TgBot));
    let (slug, port) = (task.slug, task.port);
    let env = format!(
        "COMPOSE_PROJECT_NAME={slug}\nBACKEND_IMAGE={backend}\nTG_BOT_IMAGE={bot}\nBACKEND_PORT={port}\n\
         APP_NAME={slug}\nAPP_ENV=production\nAPP_SECRET_KEY=0123456789abcdef\nPOSTGRES_DB=service\nPOSTGRES_USER=postgres\n\
         POSTGRES_PASSWORD=fedcba9876543210\nPOSTGRES_HOST=db\nPOSTGRES_PORT=5432\nREDIS_URL=redis://redis:6379\n\
         BACKEND_API_URL=http://backend:8000\nTELEGRAM_BOT_TOKEN={BOT_TOKEN}\n"
    );
    let login = stack.world.registry_credential();
    json!({
        "slug": slug, "url": format!("https://github.com/{}/{}", task.sample.owner(), task.sample.repository()),
        "commit": task.commit.sha, "env": env, "registry": "ghcr.io", "user": login.username,
        "password": login.password, "port": port.to_string(),
    })
}

fn floor(stack: &Stack, task: &RivalTask<'_>, gate: &str) -> Result<Duration> {
    let mut script = format!("gate={gate}\n");
    for (name, value) in values(stack, task).as_object().into_iter().flatten() {
        // No value holds a quotation mark.
        script.push_str(&format!("{name}='{}'\n", value.as_str().unwrap_or_default()));
    }
    script.push_str(include_str!("../../../../bench.d/floor.sh"));
    let mut command = stack.world.command("ssh");
    command.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
    command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i"]).arg(stack.world.ssh_key());
    command.arg(format!("root@{}", task.address)).args(["bash", "-s"]);
    timed(&mut command, &script)
}

fn ansible(stack: &Stack, python: &Path, task: &RivalTask<'_>, pipelining: bool) -> Result<Duration> {
    // Gone afterwards, with the connection that Ansible leaves open.
    let home = tempfile::tempdir()?;
    let file = home.path().join("values.json");
    std::fs::write(&file, values(stack, task).to_string())?;
    let bin = python.parent().context("a Python in a folder")?;
    let mut command = stack.world.command("env");
    let path = format!("PATH={}:/usr/bin:/bin", bin.display());
    command.args(["-i", "LANG=C.UTF-8", "ANSIBLE_HOST_KEY_CHECKING=False", &path]);
    command.arg(format!("HOME={}", home.path().display()));
    command.arg(format!("ANSIBLE_PIPELINING={pipelining}"));
    command.arg(bin.join("ansible-playbook")).args(["-i", &format!("{},", task.address), "-u", "root"]);
    command.arg("--private-key").arg(stack.world.ssh_key());
    command.arg("-e").arg(format!("@{}", file.display()));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/bench.d/playbook.yml"));
    let took = timed(&mut command, "");
    let sockets = std::fs::read_dir(home.path().join(".ansible/cp")).into_iter().flatten().flatten();
    for socket in sockets {
        let mut end = Command::new("ssh");
        end.args(["-O", "exit", "-o"]).arg(format!("ControlPath={}", socket.path().display())).arg("server");
        let _ = end.stderr(Stdio::null()).stdout(Stdio::null()).status();
    }
    took
}

/// Runs a program to its end with `input`.
fn timed(command: &mut Command, input: &str) -> Result<Duration> {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let took = begun.elapsed();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{:?}: {}\n{said}", command.get_program(), output.status);
    Ok(took)
}
