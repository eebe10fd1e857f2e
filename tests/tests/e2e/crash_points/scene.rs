//! One scenario played once: workers one after the other on a database and a virtual host of their own, the first one
//! armed to die at a boundary, and at the end the checker's verdict.

mod workers;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use slipway_protocol::topology;
use slipway_tests::checker::{self, HistoryVerdict, RunHistory, SentRequest};
use slipway_tests::model::EffectKind;
use slipway_tests::observer::{self, Observer};
use slipway_tests::scripted_world::{ScriptedWorker, ScriptedWorld, was_killed};

use crate::crash_points::matrix::{Actor, Passing};
use crate::crash_points::scenario::{Scenario, ScenarioStep};

/// Codes that the scenarios' own rules call for.
const EXPLAINED: &[&str] =
    &["crash-loop", "expired-in-queue", "invalid-field", "missing-half", "no-capacity", "server-unreachable"];
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it's looked at.
const PAUSE: Duration = Duration::from_millis(40);

/// What came of it.
pub struct Played {
    pub verdict: HistoryVerdict,
    /// What the first worker and the command line passed, in order.
    pub passed: Vec<Passing>,
    /// Whether somebody died at the boundary.
    pub died: bool,
}

/// A play under way.
pub struct CrashScene<'a> {
    scenario: &'a Scenario,
    at: Option<&'a Passing>,
    scripted: ScriptedWorld,
    sql: tokio_postgres::Client,
    observer: &'a Observer,
    requests: Vec<SentRequest>,
    worker: Option<ScriptedWorker>,
    workers: u32,
    died: bool,
}

impl<'a> CrashScene<'a> {
    pub async fn new(
        scripted: ScriptedWorld,
        observer: &'a Observer,
        scenario: &'a Scenario,
        at: Option<&'a Passing>,
    ) -> Result<Self> {
        let (sql, connection) = tokio_postgres::connect(&scripted.database, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { scenario, at, scripted, sql, observer, requests: vec![], worker: None, workers: 0, died: false })
    }

    /// Plays it to the end.
    pub async fn play(mut self) -> Result<Played> {
        let played = self.steps().await;
        let tail = self.worker.as_ref().map(ScriptedWorker::tail).unwrap_or_default();
        played.with_context(|| tail)?;
        let mut history = RunHistory::of_database(&self.sql).await?;
        self.observer.read(&mut history).await?;
        history.requests = self.requests;
        history.effects = Some(self.scripted.model().effects()?);
        // Whoever ended last has settled what was left before.
        let unsettled = "SELECT format('an unproven release of %s on %s', project_slug, server)
                         FROM project_leases WHERE unsettled
                         UNION ALL SELECT format('%s MiB set aside on %s', ram_mb, server)
                         FROM reservations WHERE succeeded_at IS NULL
                         UNION ALL SELECT format('port %s set aside on %s', port, server) FROM reserved_ports";
        history.left.extend(self.sql.query(unsettled, &[]).await?.iter().map(|row| row.get::<_, String>(0)));
        let mut passed = passings(&self.scripted.folder.join("trace-worker"), Actor::Worker)?;
        passed.extend(passings(&self.scripted.folder.join("trace-cli"), Actor::Cli)?);
        Ok(Played { verdict: checker::check(&history, EXPLAINED), passed, died: self.died })
    }

    async fn steps(&mut self) -> Result<()> {
        for step in &self.scenario.before {
            self.step(step).await?;
        }
        self.armed()?;
        for step in &self.scenario.steps {
            self.step(step).await?;
        }
        self.settle().await
    }

    async fn step(&mut self, step: &ScenarioStep) -> Result<()> {
        match step {
            ScenarioStep::Publish(body) => {
                self.observer.publish(body).await?;
                self.asked(body)
            }
            ScenarioStep::Expire(body) => {
                self.observer.publish_expiring(body).await?;
                self.asked(body)?;
                let begun = Instant::now();
                while self.observer.waiting(topology::DEAD_LETTERS_INGEST_QUEUE).await? == 0 {
                    ensure!(begun.elapsed() < PATIENCE, "the broker doesn't give the message up");
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            }
            ScenarioStep::Wish(body) => self.observer.publish(body).await,
            ScenarioStep::Joined(body) => self.asked(body),
            ScenarioStep::Orphan(at) => self.orphan(at).await,
            ScenarioStep::Begun(commit, stage) => {
                let model = self.scripted.model();
                let begun = || {
                    let begun =
                        |e: &slipway_tests::model::Effect| e.what == EffectKind::Begun && e.stage == Some(*stage);
                    model.effects().is_ok_and(|effects| effects.iter().any(begun))
                };
                self.until("a stage that has begun", Some((commit, "false")), &begun).await
            }
            ScenarioStep::Becomes(commit, condition) => {
                self.until(condition, Some((commit, condition)), &|| false).await
            }
            ScenarioStep::Open => self.scripted.model().open("go"),
            ScenarioStep::Drain => {
                self.signal(Signal::TERM)?;
                while let Some(worker) = self.worker.as_mut() {
                    match worker.ended()? {
                        Some(status) if status.success() => self.worker = None,
                        Some(_) => break,
                        None => tokio::time::sleep(PAUSE).await,
                    }
                }
                if self.worker.is_none() { self.next() } else { self.bury().await }
            }
            ScenarioStep::Sql(sql) => Ok(self.sql.batch_execute(sql).await?),
            ScenarioStep::Cli(words) => self.cli(words).await,
        }
    }

    /// The broker has confirmed it.
    fn asked(&mut self, body: &[u8]) -> Result<()> {
        self.requests.push(SentRequest { confirmed: true, ..observer::request(body)? });
        Ok(())
    }

    /// Everything has ended and was told; then the last worker ends, and nothing is left in the queue.
    async fn settle(&mut self) -> Result<()> {
        for _ in 0..4 {
            let settled = format!(
                "SELECT (SELECT count(*) FROM deployments) = {} AND
                     (SELECT count(*) FROM dead_letters WHERE deployment_id IS NULL) = {} AND
                     NOT EXISTS (SELECT 1 FROM deployments WHERE state IN ('pending', 'running')) AND
                     NOT EXISTS (SELECT 1 FROM outbox WHERE published_at IS NULL)",
                self.scenario.deployments, self.scenario.strays
            );
            self.until_sql("all has ended", &settled).await?;
            self.taken_in().await?;
            self.signal(Signal::TERM)?;
            let mut worker = self.worker.take().context("a worker")?;
            let begun = Instant::now();
            let status = loop {
                if let Some(status) = worker.ended()? {
                    break status;
                }
                ensure!(begun.elapsed() < PATIENCE, "the drain doesn't end\n{}", worker.tail());
                tokio::time::sleep(PAUSE).await;
            };
            let killed = was_killed(status);
            if killed {
                self.worker = Some(worker);
                self.bury().await?;
                continue;
            }
            ensure!(status.success(), "the drain ended with {status}\n{}", worker.tail());
            // A message that wasn't acknowledged any more is back in its queue.
            if self.waiting().await? == 0 {
                return Ok(());
            }
            self.next()?;
        }
        bail!("the queue doesn't become empty")
    }

    /// Waits until a worker listens that has taken everything from the broker.
    async fn taken_in(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let worker = self.worker.as_mut().context("a worker")?;
            let listens = !worker.is_silent();
            if worker.ended()?.is_some() {
                self.bury().await?;
            } else if listens && self.waiting().await? == 0 {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "messages stay in the broker");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Messages that nobody has taken yet.
    async fn waiting(&self) -> Result<u32> {
        let ingest = self.observer.waiting(topology::DEAD_LETTERS_INGEST_QUEUE).await?;
        Ok(ingest + self.observer.waiting(topology::DEPLOYMENTS_QUEUE).await?)
    }

    async fn cli(&mut self, words: &[String]) -> Result<()> {
        let trace = self.scripted.folder.join("trace-cli");
        let program = slipway_tests::stack::binaries()?.join("slipway");
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .env("USER", "ada")
            .env("SLIPWAY_DATABASE_URL", &self.scripted.database)
            .env("SLIPWAY_AMQP_URL", &self.scripted.amqp)
            .env("SLIPWAY_CRASH_TRACE", &trace)
            .stdin(Stdio::null());
        let at = self.at.filter(|at| at.actor == Actor::Cli && !self.died);
        if let Some(at) = at {
            command.env("SLIPWAY_CRASH_AT", at.to_string());
        }
        let output = command.output()?;
        if at.is_some() && was_killed(output.status) {
            self.died = true;
            // The operator tries again; what was done already is refused, and that's well.
            command.env_remove("SLIPWAY_CRASH_AT").env_remove("SLIPWAY_CRASH_TRACE").output()?;
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "slipway {}: {}\n{said}", words.join(" "), output.status);
        Ok(())
    }

    async fn until(&mut self, what: &str, row: Option<(&str, &str)>, other: &dyn Fn() -> bool) -> Result<()> {
        let (commit, condition) = row.unwrap_or(("", "false"));
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM deployments WHERE commit_sha = '{commit}'
                 AND ({condition} OR finished_at IS NOT NULL))"
        );
        self.wait(what, &sql, other).await
    }

    async fn until_sql(&mut self, what: &str, sql: &str) -> Result<()> {
        self.wait(what, sql, &|| false).await
    }

    /// Waits for a query to say yes, or for `other`; meanwhile whoever dies is buried and replaced.
    async fn wait(&mut self, what: &str, sql: &str, other: &dyn Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            if self.worker.as_mut().context("a worker")?.ended()?.is_some() {
                self.bury().await?;
            }
            if other() {
                return Ok(());
            }
            // The first worker makes the tables.
            if let Ok(row) = self.sql.query_one(sql, &[]).await
                && row.get::<_, bool>(0)
            {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The passings in a trace; none when there is no trace.
fn passings(trace: &Path, actor: Actor) -> Result<Vec<Passing>> {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    text.lines().map(|line| Passing::read(actor, line)).collect()
}
