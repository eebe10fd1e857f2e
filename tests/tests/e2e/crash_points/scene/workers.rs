//! The workers of a scene: the first one armed, the ones after it, and what follows a death.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use slipway_tests::scripted_world::was_killed;

use super::{CrashScene, PATIENCE, PAUSE, passings};
use crate::crash_points::matrix::{Actor, Passing};

impl CrashScene<'_> {
    /// Starts the first worker, traced, and armed where it's the one to die.
    pub(super) fn armed(&mut self) -> Result<()> {
        let trace = self.scripted.folder.join("trace-worker").display().to_string();
        let mut environment = vec![("SLIPWAY_CRASH_TRACE", trace.as_str()), ("SLIPWAY_LEASE", "30s")];
        environment.extend(self.scenario.environment);
        let at = self.at.filter(|at| at.actor == Actor::Worker).map(Passing::to_string);
        environment.extend(at.as_deref().map(|at| ("SLIPWAY_CRASH_AT", at)));
        self.start(&environment)
    }

    /// Starts a worker that isn't armed, to go on.
    pub(super) fn next(&mut self) -> Result<()> {
        let mut environment = vec![("SLIPWAY_LEASE", "4s")];
        environment.extend(self.scenario.environment);
        self.start(&environment)
    }

    fn start(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.workers += 1;
        self.worker = Some(self.scripted.worker(&format!("w{}", self.workers), &self.scenario.rules, environment)?);
        Ok(())
    }

    /// Lets a worker die in the middle of the deployment, before the first one starts.
    pub(super) async fn orphan(&mut self, at: &str) -> Result<()> {
        self.start(&[("SLIPWAY_CRASH_AT", at), ("SLIPWAY_LEASE", "30s")])?;
        let begun = Instant::now();
        loop {
            let worker = self.worker.as_mut().context("a worker")?;
            if let Some(status) = worker.ended()? {
                ensure!(was_killed(status), "the orphan's worker ended with {status}");
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "the orphan's worker doesn't die\n{}", worker.tail());
            tokio::time::sleep(PAUSE).await;
        }
        self.expire().await
    }

    /// The worker is dead: was it at its boundary? Then its leases run out and another one takes over.
    pub(super) async fn bury(&mut self) -> Result<()> {
        let worker = self.worker.as_mut().context("a worker")?;
        let status = worker.ended()?.context("it still runs")?;
        let at = self.at.filter(|at| at.actor == Actor::Worker && !self.died);
        let Some(at) = at.filter(|_| was_killed(status)) else {
            bail!("a worker ended with {status} though nobody asked it to\n{}", worker.tail())
        };
        let passed = passings(&self.scripted.folder.join("trace-worker"), Actor::Worker)?;
        ensure!(passed.last() == Some(at), "died after {:?}", passed.last().map(Passing::to_string));
        self.died = true;
        self.expire().await?;
        self.next()
    }

    /// Time passes for the leases of the dead worker, as it would by itself.
    async fn expire(&mut self) -> Result<()> {
        let dead = self.worker.take().context("a worker")?;
        for table in ["project_leases", "relay_lease"] {
            let sql = format!("UPDATE {table} SET expires_at = now() WHERE owner = $1 AND expires_at > now()");
            self.sql.execute(&sql, &[&dead.name]).await?;
        }
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        // One that has just died is found out by whoever waits for it.
        let _ = self.worker.as_ref().context("a worker")?.signal(signal);
        Ok(())
    }
}
