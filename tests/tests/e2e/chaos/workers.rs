//! Carries a plan out: workers as processes, services and servers of the world. What is broken by a plan
//! is mended by it, and at its end everything is.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use slipway_tests::github;
use slipway_tests::model::Model;
use slipway_tests::stack::Stack;
use slipway_tests::world::Service;

use crate::chaos::plan::{ChaosService, Disturbance};

/// A worker's post: the processes that hold it, one after the other.
struct WorkerPost {
    child: Option<Child>,
    incarnation: u32,
    /// Whether its end was asked for.
    ending: bool,
}

/// Everybody at work.
pub struct ChaosWorkers<'a> {
    stack: &'a Stack,
    program: &'static str,
    environment: Vec<(String, String)>,
    posts: Vec<WorkerPost>,
    publisher: Sender<usize>,
    /// Where deaths are noted, for plays on a model.
    model: Option<Model>,
    /// Workers that ended though nobody asked them to.
    pub deserters: Vec<String>,
}

impl<'a> ChaosWorkers<'a> {
    /// Nobody works yet.
    pub fn new(
        stack: &'a Stack,
        program: &'static str,
        environment: Vec<(String, String)>,
        workers: usize,
        publisher: Sender<usize>,
        model: Option<Model>,
    ) -> Self {
        let post = || WorkerPost { child: None, incarnation: 0, ending: false };
        let posts = (0..workers).map(|_| post()).collect();
        Self { stack, program, environment, posts, publisher, model, deserters: Vec::new() }
    }

    /// Does one thing.
    pub fn act(&mut self, act: Disturbance) -> Result<()> {
        self.muster()?;
        match act {
            Disturbance::Publish(number) => Ok(self.publisher.send(number)?),
            Disturbance::Kill(number) => self.kill(number),
            Disturbance::Pause(number) => self.signal(number, Signal::STOP),
            Disturbance::Resume(number) => self.signal(number, Signal::CONT),
            Disturbance::Stop(number) => {
                self.posts[number].ending = true;
                self.signal(number, Signal::TERM)
            }
            Disturbance::Start(number) => {
                self.wait(number)?;
                self.start(number)
            }
            Disturbance::Down(ChaosService::Git) => self.git(github::FaultEffect::Cut),
            Disturbance::Freeze(ChaosService::Git) => {
                self.git(github::FaultEffect::Slow(std::time::Duration::from_secs(30)))
            }
            Disturbance::Up(ChaosService::Git) | Disturbance::Thaw(ChaosService::Git) => {
                self.stack.github.clear_faults();
                Ok(())
            }
            Disturbance::Down(ChaosService::Broker) => self.stack.world.broker()?.kill(),
            Disturbance::Up(ChaosService::Broker) => self.stack.world.broker()?.start(),
            Disturbance::Freeze(ChaosService::Broker) => self.stack.world.broker()?.pause(),
            Disturbance::Thaw(ChaosService::Broker) => self.stack.world.broker()?.resume(),
            Disturbance::Down(part) => self.service(part)?.kill(),
            Disturbance::Up(part) => self.service(part)?.start(),
            Disturbance::Freeze(part) => self.service(part)?.pause(),
            Disturbance::Thaw(part) => self.service(part)?.resume(),
            Disturbance::Cut(number) => self.stack.world.target(number).cut(),
            Disturbance::Heal(number) => self.stack.world.target(number).heal(),
            Disturbance::Throttle(number) => self.stack.world.target(number).throttle(),
            Disturbance::Release(number) => self.stack.world.target(number).release(),
            Disturbance::Reboot(number) => self.stack.world.target(number).reboot(),
            Disturbance::Sever(number) => self.sever(number),
        }
    }

    /// Starts whoever isn't there.
    pub fn start_all(&mut self) -> Result<()> {
        self.muster()?;
        (0..self.posts.len())
            .filter(|n| self.posts[*n].child.is_none())
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|number| self.start(number))
    }

    /// Asks everybody to stop, and waits.
    pub fn stop_all(&mut self) -> Result<()> {
        for number in 0..self.posts.len() {
            self.posts[number].ending = true;
            self.signal(number, Signal::TERM)?;
        }
        (0..self.posts.len()).try_for_each(|number| self.wait(number))
    }

    /// The end of each worker's last log.
    pub fn logs(&self) -> String {
        let tail = |number: usize| {
            let text = fs::read_to_string(self.log(number)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- worker {number}:\n{}\n", lines[lines.len().saturating_sub(30)..].join("\n"))
        };
        (0..self.posts.len()).map(tail).collect()
    }

    fn log(&self, number: usize) -> PathBuf {
        self.stack.world.folder().join(format!("chaos-{number}-{}.log", self.posts[number].incarnation))
    }

    fn start(&mut self, number: usize) -> Result<()> {
        self.posts[number].incarnation += 1;
        let name = format!("worker-{number}.{}", self.posts[number].incarnation);
        let child = self
            .stack
            .program(self.program)?
            .env("SLIPWAY_WORKER_NAME", name)
            .env("SLIPWAY_ADMIN_ADDR", format!("127.0.1.{}:9090", number + 1))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.log(number))?)
            .spawn()?;
        (self.posts[number].child, self.posts[number].ending) = (Some(child), false);
        Ok(())
    }

    fn kill(&mut self, number: usize) -> Result<()> {
        if let Some(child) = self.posts[number].child.as_mut() {
            child.kill()?;
        }
        self.posts[number].ending = true;
        self.wait(number)
    }

    /// Waits for the end of a worker's process, if there is one.
    fn wait(&mut self, number: usize) -> Result<()> {
        let Some(mut child) = self.posts[number].child.take() else { return Ok(()) };
        child.wait()?;
        self.bury(&child)
    }

    fn bury(&self, child: &Child) -> Result<()> {
        self.model.as_ref().map_or(Ok(()), |model| model.died(child.id()))
    }

    /// Replaces whoever has ended unasked, as a supervisor would, and remembers it.
    fn muster(&mut self) -> Result<()> {
        for number in 0..self.posts.len() {
            let Some(child) = self.posts[number].child.as_mut() else { continue };
            let Some(status) = child.try_wait()? else { continue };
            self.wait(number)?;
            if !self.posts[number].ending {
                self.deserters.push(format!("worker {number} ended with {status}\n{}", self.logs()));
                self.start(number)?;
            }
        }
        Ok(())
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        match &self.posts[number].child {
            Some(child) => Ok(kill_process(Pid::from_child(child), signal)?),
            None => Ok(()),
        }
    }

    fn service(&self, part: ChaosService) -> Result<&Service> {
        match part {
            ChaosService::Database => self.stack.world.database(),
            ChaosService::Node(index) => Ok(self.stack.world.broker()?.node(index)),
            ChaosService::Registry => Ok(self.stack.world.ghcr().service()),
            ChaosService::Broker | ChaosService::Git => anyhow::bail!("{part:?} is no process"),
        }
    }

    fn git(&self, effect: github::FaultEffect) -> Result<()> {
        for server in [github::StandInServer::Git, github::StandInServer::Api] {
            self.stack.github.plant(github::PlantedFault::next(server, "/", effect.clone()).times(usize::MAX));
        }
        Ok(())
    }

    /// Kills the server's ends of all SSH connections, in the server's own process tree.
    fn sever(&self, number: usize) -> Result<()> {
        let script = r#"for p in /proc/[0-9]*; do
            case $(tr '\0' ' ' <"$p/cmdline" 2>/dev/null) in "sshd: "*@*) kill -9 "${p#/proc/}" ;; esac
        done; true"#;
        self.stack.world.target(number).sh(script).context("killing SSH connections")?;
        Ok(())
    }
}
