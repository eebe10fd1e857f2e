//! Where secrets could be left: processes while a deployment runs, files on the server afterwards, events and logs.
//!
//! What Docker itself keeps of a container's environment (`/var/lib/docker`, `/run/containerd`) isn't looked at.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_tests::stack::BOT_TOKEN;
use slipway_tests::world::{TargetServer, World};

use crate::deployments::scene::{DIRECTORY, ProjectScene, SLUG};

/// Where people, tools and Slipway write.
const PLACES: [&str; 9] = ["/root", "/home", "/opt", "/etc", "/tmp", "/var/tmp", "/var/log", "/run", "/dev/shm"];

/// A value that must not be where it doesn't belong.
pub struct Secret {
    name: String,
    value: String,
    /// The one file that may hold it.
    file: Option<String>,
    /// Whether containers get it from there.
    in_containers: bool,
}

/// Everything secret that the deployments of `scene` have had to do with so far.
pub fn secrets(scene: &ProjectScene, password: &str) -> Result<Vec<Secret>> {
    let secret = |name: &str, value: &str| Secret {
        name: name.to_owned(),
        value: value.to_owned(),
        file: None,
        in_containers: false,
    };
    let env = || Some(format!("{DIRECTORY}/.env"));
    let login = scene.stack.world.registry_credential();
    let auth = STANDARD.encode(format!("{}:{}", login.username, login.password));
    let github = &scene.stack.github;
    let mut all = vec![
        Secret { file: env(), in_containers: true, ..secret("the bot's token", BOT_TOKEN) },
        Secret { file: env(), in_containers: true, ..secret("POSTGRES_PASSWORD", password) },
        // For CI's job, and for root alone.
        Secret { file: Some(format!("/etc/slipway/registry/{SLUG}")), ..secret("the registry's credential", &auth) },
        secret("the registry's password", &login.password),
        secret("the fleet's key", middle(&fs::read_to_string(scene.stack.world.ssh_key())?)?),
        secret("the App's key", middle(github.app_private_key_pem())?),
    ];
    let tokens = github.installation_tokens();
    ensure!(!tokens.is_empty(), "no token was used");
    all.extend(tokens.iter().map(|token| secret("an installation token", token)));
    if let Some(key) = github.secrets(&scene.repository()).get("DEPLOY_SSH_KEY") {
        all.push(secret("the project's private deploy key", middle(key)?));
    }
    Ok(all)
}

/// A line of a key's file that no other key has. The first ones of OpenSSH's format are the same for all.
fn middle(key: &str) -> Result<&str> {
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-') && line.len() > 20).collect();
    lines.get(lines.len() / 2).copied().context("a key has several lines")
}

/// Checks that each secret is in no file but its own: the project's `.env`, for most, and the copy that its compose files
/// were judged with. `complete`: whether the deployment came to its end, so that it's there.
pub fn on_disk(server: &TargetServer, secrets: &[Secret], complete: bool) -> Result<()> {
    let (env, judged) = (format!("{DIRECTORY}/.env"), format!("{DIRECTORY}/.slipway/judged_env"));
    for secret in secrets {
        let mut found = search(server, &secret.value)?;
        if secret.file.as_ref() == Some(&env) {
            found.retain(|file| *file != judged);
        }
        let own = found.iter().all(|file| Some(file) == secret.file.as_ref());
        let missing = complete && found.is_empty() && secret.file.is_some();
        ensure!(own && !missing, "{} is in {found:?}", secret.name);
    }
    let find = format!("find /etc/slipway {judged} -printf '%p %m %u\\n' 2>/dev/null || :");
    let files = server.sh(&find)?;
    let open = |line: &&str| !line.ends_with(" 700 root") && !line.ends_with(" 600 root");
    ensure!(files.lines().find(open).is_none(), "{files}");
    Ok(())
}

fn search(server: &TargetServer, value: &str) -> Result<Vec<String>> {
    // What is sought comes over stdin, or else the search would find itself.
    let mut grep = server
        .command("grep")?
        .args(["-rlF", "-D", "skip", "--exclude-dir=containerd", "--exclude-dir=docker"])
        // With it Docker hands a container its environment, for a moment and at each health check.
        .args(["--exclude=runc-process*", "-f", "-", "--"])
        .args(PLACES)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    grep.stdin.take().context("stdin is piped")?.write_all(value.as_bytes())?;
    let output = grep.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(matches!(output.status.code(), Some(0 | 1)), "grep: {said}");
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

/// Checks that none of them is in the database, whose columns of bytes a dump shows as hexadecimal digits.
pub fn in_database(world: &World, secrets: &[Secret]) -> Result<()> {
    let mut dump = world.command("/usr/lib/postgresql/15/bin/pg_dump");
    let output = dump.args(["--inserts", "--dbname", world.database_url()]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("INSERT INTO public.stage_journal"), "the dump holds what happened");
    for secret in secrets {
        let bytes: String = secret.value.bytes().map(|byte| format!("{byte:02x}")).collect();
        ensure!(!text.contains(&bytes), "the database holds {} in bytes", secret.name);
    }
    in_text("the database", &text, secrets)
}

/// Checks that none of them is in `text`, as it is or in base64.
pub fn in_text(what: &str, text: &str, secrets: &[Secret]) -> Result<()> {
    let holds = |value: &str| text.contains(value) || text.contains(STANDARD.encode(value).trim_end_matches('='));
    match secrets.iter().find(|secret| holds(&secret.value)) {
        None => Ok(()),
        Some(secret) => anyhow::bail!("{what} hold {}", secret.name),
    }
}

/// What `ps` and `/proc/PID/environ` show, taken again and again.
#[derive(Default)]
pub struct Seen {
    arguments: BTreeSet<String>,
    /// Which process showed which arguments: its environment has been read.
    processes: BTreeSet<(PathBuf, String)>,
    /// Of processes outside of containers.
    environment: BTreeSet<String>,
    container_environment: BTreeSet<String>,
}

impl Seen {
    /// Checks that no process showed a secret but the containers, and those only the project's own.
    pub fn check(&self, secrets: &[Secret]) -> Result<()> {
        // The sample is worth something only if it caught those that have to do with secrets.
        for program in ["git", "docker", "sshd", "sh"] {
            ensure!(self.arguments.iter().any(|line| line.contains(program)), "no {program} was seen");
        }
        for secret in secrets {
            let shown = |lines: &BTreeSet<String>| lines.iter().find(|line| line.contains(&secret.value)).cloned();
            ensure!(shown(&self.arguments).is_none(), "arguments show {}: {:?}", secret.name, shown(&self.arguments));
            ensure!(shown(&self.environment).is_none(), "an environment has {}", secret.name);
            let containers = shown(&self.container_environment).is_some();
            ensure!(!containers || secret.in_containers, "a container's environment has {}", secret.name);
        }
        Ok(())
    }
}

/// Samples a server's processes until it's asked for what it saw.
pub struct Sampler {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<Seen>>,
}

impl Sampler {
    pub fn start(server: &TargetServer) -> Result<Self> {
        let proc = server.root()?.join("proc");
        let own = fs::read_link(proc.join("1/ns/pid"))?;
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while stopped.recv_timeout(Duration::from_millis(2)) == Err(mpsc::RecvTimeoutError::Timeout) {
                for process in fs::read_dir(&proc)? {
                    look(&process?.path(), &own, &mut seen);
                }
            }
            Ok(seen)
        });
        Ok(Self { stop, thread })
    }

    pub fn stop(self) -> Result<Seen> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A process may end while it's looked at: then it shows less, or nothing.
fn look(process: &Path, own: &PathBuf, seen: &mut Seen) {
    let read = |name: &str| fs::read(process.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let Ok(arguments) = read("cmdline") else { return };
    let known = (process.to_owned(), arguments);
    if seen.processes.contains(&known) {
        return;
    }
    seen.arguments.insert(known.1.clone());
    let Ok(namespace) = fs::read_link(process.join("ns/pid")) else { return };
    let Ok(environment) = read("environ") else { return };
    let of = if namespace == *own { &mut seen.environment } else { &mut seen.container_environment };
    of.insert(environment);
    seen.processes.insert(known);
}
