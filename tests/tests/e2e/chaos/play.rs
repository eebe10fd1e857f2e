//! A seed played from the first request to the verdict.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use slipway_protocol::{ErrorCode, topology};
use slipway_tests::checker::{self, HistoryVerdict, RunHistory, SentRequest};
use slipway_tests::model::Model;
use slipway_tests::observer::Observer;
use slipway_tests::stack::Stack;

use crate::chaos::plan::{ChaosPlan, ChaosSettings};
use crate::chaos::requests::{self, ChaosRequest};
use crate::chaos::workers::ChaosWorkers;

/// How long the end may take once nothing breaks any more: less than the runner's patience, so that the verdict is told.
const PATIENCE: Duration = Duration::from_secs(420);

/// A stack, and what is going to happen to it.
pub struct ChaosRun {
    pub stack: Stack,
    plan: ChaosPlan,
    settings: ChaosSettings,
}

/// A line for whoever watches.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

impl ChaosRun {
    /// Starts the world. The seed is said before anything can go wrong.
    pub fn start(seed: u64, settings: &ChaosSettings) -> Result<Self> {
        let plan = ChaosPlan::new(seed, settings);
        let faults = plan.acts.len() - settings.deployments;
        say(&format!("SLIPWAY_SEED={seed}: {} requests, {faults} acts of chaos", settings.deployments));
        let stack = Stack::with_nodes(settings.nodes, u8::try_from(settings.targets)?)?;
        Ok(Self { stack, plan, settings: *settings })
    }

    /// Plays it with scripted workers on a model.
    pub fn on_a_model(self, environment: &[(&str, String)], folder: &Path, explained: &[&str]) -> Result<()> {
        let orders = requests::imagined(&self.settings);
        let model = Model::new(folder);
        let mut history = self.play("slipway-scripted", environment, &orders, Some(&model))?;
        history.effects = Some(model.effects()?);
        let verdict = self.judge(&history, explained)?;
        for order in newest(&history, &orders) {
            let handle = serde_json::from_slice::<serde_json::Value>(&order.body)?;
            let handle = handle["data"]["server"]["handle"].as_str().context("a handle")?.to_owned();
            let serves = model.serves(&handle, &order.slug);
            ensure!(serves.as_deref() == Some(&order.commit), "{} serves {serves:?}\n{verdict}", order.slug);
        }
        Ok(())
    }

    /// Plays it with real workers on real servers.
    pub fn on_real_servers(self, environment: &[(&str, String)]) -> Result<()> {
        let orders = requests::real(&self.stack, &self.settings)?;
        // The tables first: the inventory is in there.
        let database = self.stack.world.database_url().to_owned();
        self.stack.world.block_on(async move {
            slipway_worker::store::Store::new(&database.into(), None, "chaos")?.migrate().await?;
            anyhow::Ok(())
        })??;
        (0..self.settings.targets).try_for_each(|index| self.stack.enlist(index))?;
        let history = self.play("slipway-worker", environment, &orders, None)?;
        // What may come of servers and services that are gone for a while: never a fault of the project.
        let passing = |code: &&ErrorCode| {
            code.class().retries()
                || matches!(
                    code,
                    ErrorCode::DockerNotRunning | ErrorCode::NotReachable | ErrorCode::InterruptedTooOften
                )
        };
        let explained: Vec<&str> = ErrorCode::ALL.iter().filter(passing).map(|code| code.as_str()).collect();
        let verdict = self.judge(&history, &explained)?;
        for order in newest(&history, &orders) {
            let url = format!("http://{}:{}/health", self.stack.world.target(order.target).ip(), order.port);
            let answer = self.stack.world.get(&url).with_context(|| format!("{}\n{verdict}", order.slug))?;
            ensure!(
                answer.body.contains(&order.commit),
                "{}: {} {}\n{verdict}",
                order.slug,
                answer.status,
                answer.body
            );
        }
        for target in self.stack.world.targets() {
            let locked = "for l in /opt/services/*/.slipway/lock; do flock -n \"$l\" true || echo \"$l\"; done";
            let locked = target.sh(locked)?;
            ensure!(locked.is_empty(), "{}: still locked: {locked}", target.name());
        }
        Ok(())
    }

    /// From the first request until everything has ended and every worker has gone.
    fn play(
        &self,
        program: &'static str,
        environment: &[(&str, String)],
        orders: &[ChaosRequest],
        model: Option<&Model>,
    ) -> Result<RunHistory> {
        let world = &self.stack.world;
        world.block_on(Observer::connect(world.amqp_url()))??;
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let (publisher, numbers) = mpsc::channel();
        let mut workers =
            ChaosWorkers::new(&self.stack, program, environment, self.settings.workers, publisher, model.cloned());
        let published = thread::scope(|scope| {
            let publishing = scope.spawn(|| world.block_on(requests::publish(world.amqp_url(), orders, numbers)));
            let acted = self.act(&mut workers);
            let deserters = std::mem::take(&mut workers.deserters);
            let ended = acted.and_then(|()| self.settle(&mut workers, orders.len(), &|| publishing.is_finished()));
            let logs = workers.logs();
            let stopped = ended.and_then(|()| workers.stop_all());
            // The publisher ends when there is nobody left to give it numbers.
            drop(workers);
            let published = publishing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            stopped.with_context(|| logs)?;
            ensure!(deserters.is_empty(), "workers ended by themselves:\n{}", deserters.join("\n"));
            published?
        })?;
        world.block_on(self.history(published))?
    }

    fn act(&self, workers: &mut ChaosWorkers<'_>) -> Result<()> {
        let begun = Instant::now();
        // A reboot takes its time: what follows is put off, so that faults don't come all at once.
        let mut late = Duration::ZERO;
        workers.start_all()?;
        for (at, act) in &self.plan.acts {
            thread::sleep((*at + late).saturating_sub(begun.elapsed()));
            say(&format!("{:7.1} s  {act:?}", begun.elapsed().as_secs_f64()));
            workers.act(*act).with_context(|| format!("{act:?}"))?;
            late = late.max(begun.elapsed().saturating_sub(*at));
        }
        workers.start_all()
    }

    /// Waits until everything that was asked for has ended and was told.
    fn settle(&self, workers: &mut ChaosWorkers<'_>, requests: usize, publisher_gone: &dyn Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            ensure!(!publisher_gone(), "the publisher ended before everything was published");
            workers.start_all()?;
            let open = self.stack.world.block_on(open(self.stack.world.database_url(), requests))?;
            match open {
                Ok(open) if open.is_empty() => {
                    say(&format!("settled {:?} after the last fault", begun.elapsed()));
                    return Ok(());
                }
                Ok(open) => ensure!(begun.elapsed() < PATIENCE, "not settled within {PATIENCE:?}: {open}"),
                Err(error) => ensure!(begun.elapsed() < PATIENCE, "not settled within {PATIENCE:?}: {error:#}"),
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    async fn history(&self, published: Vec<SentRequest>) -> Result<RunHistory> {
        let (sql, connection) = tokio_postgres::connect(self.stack.world.database_url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let observer = Observer::connect(self.stack.world.amqp_url()).await?;
        let mut history = RunHistory::of_database(&sql).await?;
        observer.read(&mut history).await?;
        history.requests = published;
        let waiting = observer.waiting(topology::DEPLOYMENTS_QUEUE).await?;
        if waiting > 0 {
            history.left.push(format!("{waiting} messages in {}", topology::DEPLOYMENTS_QUEUE));
        }
        Ok(history)
    }

    fn judge(&self, history: &RunHistory, explained: &[&str]) -> Result<HistoryVerdict> {
        let verdict = checker::check(history, explained);
        say(&format!("SLIPWAY_SEED={}\n{verdict}", self.plan.seed));
        verdict.pass()
    }
}

/// What is still open, in words; nothing when all is done.
async fn open(database: &str, requests: usize) -> Result<String> {
    let (sql, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let row = sql
        .query_one(
            "SELECT (SELECT count(*) FROM deployments), (SELECT count(*) FROM deployments WHERE finished_at IS NULL),
                 (SELECT count(*) FROM outbox WHERE published_at IS NULL)",
            &[],
        )
        .await?;
    let (all, unended, untold): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let done = usize::try_from(all)? == requests && unended == 0 && untold == 0;
    Ok(if done { String::new() } else { format!("{all} of {requests} taken in, {unended} not ended, {untold} untold") })
}

/// The latest success of each project: what it has to serve.
fn newest<'o>(history: &RunHistory, orders: &'o [ChaosRequest]) -> Vec<&'o ChaosRequest> {
    let succeeded = history.deployments.iter().filter(|r| matches!(r.state.as_str(), "succeeded" | "already_deployed"));
    let succeeded: Vec<_> = succeeded.map(|row| row.id).collect();
    let mut newest = BTreeMap::new();
    for order in orders {
        let request = slipway_tests::observer::request(&order.body).ok().and_then(|request| request.deployment);
        if request.is_some_and(|id| succeeded.contains(&id.0)) {
            newest.insert(order.slug.clone(), order);
        }
    }
    newest.into_values().collect()
}
