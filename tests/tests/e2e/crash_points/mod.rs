//! A worker dies at every boundary of the engine, another one takes over, and the checker finds nothing wrong. The list
//! of boundaries is the code's own.

mod halves;
mod matrix;
mod placements;
mod scenario;
mod scene;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use secrecy::ExposeSecret as _;
use slipway_tests::observer::Observer;
use slipway_tests::scripted_world::ScriptedWorld;
use slipway_worker::failpoint::CrashPoint;

use self::matrix::{CrashCase, Passing, cases};
use self::scenario::Scenario;
use self::scene::{CrashScene, Played};
use crate::services::{TestDatabase, broker, vhost};

/// Plays at once; they wait more than they compute.
const LANES: usize = 10;
/// How often a passing is tried before it counts as missed: some depend on timing.
const TRIES: u32 = 3;

/// Where plays take place: a virtual host that all plays of a lane use one after the other, and databases made from one
/// that has its tables.
struct Lane<'a> {
    template: &'a TestDatabase,
    amqp: String,
    observer: Observer,
    admin: tokio_postgres::Client,
}

impl<'a> Lane<'a> {
    async fn new(template: &'a TestDatabase) -> Result<Self> {
        let url = vhost();
        let link = broker(&url, "observer").connect("test").await?;
        slipway_worker::amqp::declare(&link.channel().await?).await?;
        link.close().await;
        let amqp = url.expose_secret().to_owned();
        let observer = Observer::connect(&amqp).await?;
        Ok(Self { template, amqp, observer, admin: template.outside().await })
    }

    async fn play(&self, scenario: &Scenario, at: Option<&Passing>) -> Result<Played> {
        let folder = tempfile::tempdir()?;
        let name = format!("p{}", uuid::Uuid::new_v4().simple());
        self.admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {}", self.template.name)).await?;
        let database = self.template.url.expose_secret().replace(&self.template.name, &name);
        let program = Path::new(env!("CARGO_BIN_EXE_slipway-scripted"));
        let scripted = ScriptedWorld::new(folder.path(), program, &database, &self.amqp)?;
        let played = CrashScene::new(scripted, &self.observer, scenario, at).await?.play().await;
        self.admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        played
    }
}

/// Does all of `work` on lanes side by side; what it gives comes in no order.
fn on_lanes<T: Send, R: Send>(
    template: &TestDatabase,
    work: Vec<T>,
    play: impl AsyncFn(&Lane<'_>, T) -> R + Sync,
) -> Result<Vec<R>> {
    let (work, done) = (Mutex::new(VecDeque::from(work)), Mutex::new(Vec::new()));
    let lane = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let lane = Lane::new(template).await?;
            loop {
                let next = work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(next) = next else { return anyhow::Ok(()) };
                let outcome = play(&lane, next).await;
                done.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
            }
        })
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What came of a case.
enum Outcome {
    /// Somebody died there, and all was well in the end.
    Survived,
    /// Nobody came by, though it was tried.
    Missed,
    /// Something was wrong.
    Broken(String),
}

async fn try_case(lane: &Lane<'_>, case: &CrashCase<'_>) -> Outcome {
    for _ in 0..TRIES {
        let played = match lane.play(case.scenario, Some(&case.at)).await {
            Ok(played) => played,
            Err(error) => return Outcome::Broken(format!("{error:#}")),
        };
        let died = played.died;
        match played.verdict.pass() {
            Err(error) => return Outcome::Broken(error.to_string()),
            Ok(_) if died => return Outcome::Survived,
            Ok(_) => {}
        }
    }
    if case.at.is_certain() { Outcome::Broken(format!("nobody came by in {TRIES} plays")) } else { Outcome::Missed }
}

#[test]
fn wherever_a_worker_dies_another_one_goes_on_and_nothing_is_lost_or_done_twice() -> Result<()> {
    matrix(false)
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_a_death_at_every_passing_of_every_scenario() -> Result<()> {
    matrix(true)
}

/// Plays the scenarios without harm, and then with a death at each boundary, or at `every` passing of each.
fn matrix(every: bool) -> Result<()> {
    let begun = Instant::now();
    let runtime = tokio::runtime::Runtime::new()?;
    let template = runtime.block_on(async {
        let (mut database, store) = TestDatabase::migrated("template").await;
        drop(store);
        // A database that somebody is connected to can't be copied.
        let (idle, connection) = tokio_postgres::connect(&other(&database), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        database.sql = idle;
        anyhow::Ok(database)
    })?;

    let scenarios: Vec<Scenario> = scenario::all().into_iter().chain(halves::all()).chain(placements::all()).collect();
    let (traces, broken) = on_lanes(&template, scenarios.iter().collect(), async |lane, scenario: &Scenario| {
        let played = lane.play(scenario, None).await.and_then(|played| Ok((played.verdict.pass()?, played.passed)));
        played.map(|(_, passed)| (scenario.name, passed)).map_err(|e| format!("== \"{}\" ==\n{e:#}", scenario.name))
    })?
    .into_iter()
    .partition::<Vec<_>, _>(Result::is_ok);
    let broken: Vec<_> = broken.into_iter().filter_map(Result::err).collect();
    ensure!(broken.is_empty(), "{} scenarios went wrong without harm:\n{}", broken.len(), broken.join("\n\n"));
    let mut traces: BTreeMap<_, _> = traces.into_iter().flatten().collect();
    let traces: Vec<_> = scenarios.iter().map(|s| (s, traces.remove(s.name).unwrap_or_default())).collect();
    let points: BTreeSet<String> = CrashPoint::all().map(|point| point.to_string()).collect();
    let passed: BTreeSet<String> = traces.iter().flat_map(|(_, passed)| passed).map(|p| p.point.clone()).collect();
    let never: Vec<_> = points.difference(&passed).collect();
    ensure!(never.is_empty(), "no scenario passes {never:?}: add one to e2e/crash_points/scenario.rs");

    let cases = cases(&traces, every);
    let (plays, over) = (cases.len(), AtomicUsize::new(0));
    let outcomes = on_lanes(&template, cases, async |lane, case: CrashCase<'_>| {
        let outcome = try_case(lane, &case).await;
        let over = over.fetch_add(1, Ordering::Relaxed) + 1;
        if over.is_multiple_of(100) {
            let _ = writeln!(std::io::stderr(), "{over} of {plays} deaths after {:?}", begun.elapsed());
        }
        (case.at, case.scenario.name, outcome)
    })?;
    let (mut survived, mut missed, mut broken) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (at, scenario, outcome) in outcomes {
        match outcome {
            Outcome::Survived => drop(survived.insert(at.point)),
            Outcome::Missed => missed.push(format!("{at} in {scenario}")),
            Outcome::Broken(why) => broken.push(format!("== death at {at} in \"{scenario}\" ==\n{why}")),
        }
    }
    ensure!(broken.is_empty(), "{} of {plays} deaths went wrong:\n{}", broken.len(), broken.join("\n\n"));
    let never: Vec<_> = points.difference(&survived).collect();
    ensure!(never.is_empty(), "nobody ever died at {never:?}; missed: {missed:?}");
    let mut said = std::io::stderr().lock();
    writeln!(said, "{plays} deaths at {} boundaries in {:?}; missed: {missed:?}", points.len(), begun.elapsed())?;
    Ok(())
}

/// The server's own database.
fn other(database: &TestDatabase) -> String {
    database.url.expose_secret().replace(&database.name, "postgres")
}
