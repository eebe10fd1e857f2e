//! Who is measured: Slipway's engine with stages that do nothing, or a peer's worker on the same broker and PostgreSQL,
//! with the same guarantees as far as it can give them (`tests/python/peers/`).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use slipway_protocol::{Stage, topology};

use crate::orchestrator::Orchestrator;
use crate::scene::BenchScene;
use crate::usage;

/// The stages of a peer's job, where it isn't to do as much as a deployment.
const PEER_STAGES: usize = 5;
/// The peers' exchange.
const PEER_EVENTS: &str = "peer.events";

/// A worker's program and how much it does at once.
#[derive(Clone)]
pub struct BenchedEngine {
    /// How it's called in tables.
    pub name: String,
    /// Deployments, or jobs, at once in each process.
    pub concurrency: usize,
    /// The peer's program and the Python that runs it; Slipway has none.
    pub peer: Option<(PathBuf, PathBuf)>,
    /// How long each stage takes, in milliseconds.
    pub stage_ms: u64,
    /// Whether a peer's job has as many stages as a deployment.
    pub is_whole: bool,
    /// Whether a peer's job has a lease with a fence, and its events an outbox, as a deployment has.
    pub is_fenced: bool,
    /// Whether only as many run at once on a server as Slipway lets by itself.
    pub is_limited: bool,
}

/// Processes that end with this, with all that they started.
pub struct Processes(Vec<Child>);

impl BenchedEngine {
    /// Slipway.
    pub fn slipway(concurrency: usize) -> Self {
        let name = "slipway".to_owned();
        Self { name, concurrency, peer: None, stage_ms: 0, is_whole: false, is_fenced: false, is_limited: false }
    }

    /// What it does at once; of a peer, too, whether it has as many stages as a deployment, or promises as much.
    pub fn case(&self) -> String {
        let seven = if self.is_whole { "seven stages, " } else { "" };
        let fenced = if self.is_fenced { "fence and outbox, " } else { "" };
        format!("{seven}{fenced}concurrency {}", self.concurrency)
    }

    /// The exchange that it tells its events on.
    pub fn exchange(&self) -> &'static str {
        if self.peer.is_some() { PEER_EVENTS } else { topology::EVENTS }
    }

    /// Makes tables and queues, empty ones.
    pub async fn prepare(&self, scene: &BenchScene, orchestrator: &Orchestrator, database: &str) -> Result<()> {
        if self.peer.is_some() {
            return self.call(scene, database, &["setup"]);
        }
        orchestrator.purge().await?;
        slipway_worker::store::Store::new(&database.to_owned().into(), None, "bench")?.migrate().await?;
        Ok(())
    }

    /// Asks for `count` deployments at once; they wait in the queue.
    pub async fn ask(
        &self,
        scene: &BenchScene,
        orchestrator: &mut Orchestrator,
        database: &str,
        count: usize,
    ) -> Result<()> {
        match self.peer {
            Some(_) => self.call(scene, database, &["enqueue", &count.to_string()]),
            None => orchestrator.ask(count).await.map(drop),
        }
    }

    /// Asks for `rate` deployments a second. A peer's jobs say themselves when they were sent.
    pub async fn ask_evenly(
        &self,
        scene: &BenchScene,
        orchestrator: &mut Orchestrator,
        database: &str,
        rate: f64,
        span: Duration,
    ) -> Result<BTreeMap<String, Instant>> {
        if self.peer.is_none() {
            return orchestrator.ask_evenly(rate, span).await;
        }
        let count = (rate * span.as_secs_f64()).ceil();
        self.call(scene, database, &["enqueue", &count.to_string(), &rate.to_string()])?;
        Ok(BTreeMap::new())
    }

    /// Starts so many processes.
    pub fn start(&self, scene: &BenchScene, database: &str, count: usize) -> Result<Processes> {
        let mut processes = Processes(Vec::new());
        for number in 0..count {
            let mut command = match &self.peer {
                Some(_) => self.python(scene, database)?,
                None => {
                    let name = format!("bench-{number}");
                    let mut command = scene.program("slipway-scripted", &name, database)?;
                    let admin = format!("127.0.2.{}:9090", number + 1);
                    command
                        .env("SLIPWAY_ADMIN_ADDR", admin)
                        .env("SLIPWAY_CONCURRENCY", self.concurrency.to_string())
                        .env("SLIPWAY_REGISTRY_CONCURRENCY", "1000")
                        .env("SLIPWAY_SCRIPT_STAGE_MS", self.stage_ms.to_string());
                    if !self.is_limited {
                        command.env("SLIPWAY_SERVER_CONCURRENCY", "1000");
                    }
                    command
                }
            };
            if self.peer.is_some() {
                command.arg("work");
            }
            processes.0.push(spawn(&mut command, &scene.stack.world.folder().join(format!("bench-{number}.log")))?);
        }
        Ok(processes)
    }

    fn call(&self, scene: &BenchScene, database: &str, arguments: &[&str]) -> Result<()> {
        let output = self.python(scene, database)?.args(arguments).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {}: {}\n{said}", self.name, arguments.join(" "), output.status);
        Ok(())
    }

    fn python(&self, scene: &BenchScene, database: &str) -> Result<Command> {
        let (python, program) = self.peer.as_ref().context("not a peer")?;
        let mut command = scene.stack.world.command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(python).arg(program).env_clear();
        let bin = python.parent().context("a Python in a folder")?.display();
        command.env("PATH", format!("{bin}:/usr/bin:/bin")).env("LANG", "C.UTF-8");
        command.env("PEER_AMQP_URL", scene.stack.world.amqp_url()).env("PEER_DATABASE_URL", database);
        command.env("PEER_CONCURRENCY", self.concurrency.to_string());
        let stages = if self.is_whole { Stage::ALL.len() } else { PEER_STAGES };
        command.env("PEER_STAGES", stages.to_string()).env("PEER_FENCED", if self.is_fenced { "1" } else { "" });
        command.env("PEER_STAGE_MS", self.stage_ms.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }
}

/// Starts a program in a process group of its own.
pub fn spawn(command: &mut Command, log: &std::path::Path) -> Result<Child> {
    let log = File::create(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().with_context(|| format!("starting {command:?}"))
}

impl Processes {
    /// These.
    pub fn of(children: Vec<Child>) -> Self {
        Self(children)
    }

    /// All of them, with what they started.
    pub fn pids(&self) -> Vec<i32> {
        self.0.iter().filter_map(|child| usage::pid(child).ok()).flat_map(usage::tree).collect()
    }

    /// Whether none has ended.
    pub fn all_run(&mut self) -> Result<bool> {
        let mut running = true;
        for child in &mut self.0 {
            running &= child.try_wait()?.is_none();
        }
        Ok(running)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}
