//! Chaos from a seed: workers, database, broker, registry, git server, connections and servers break at random while
//! requests come in; then everything is mended, and the checker judges what came of it. Small and on a model of servers
//! in every run; at length, with a cluster of brokers and on real servers with `./tests/soak`. `SLIPWAY_SEED=…` plays a
//! seed again.

mod plan;
mod play;
mod requests;
mod workers;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::script::{MODEL, Rule, SCRIPT, StageAct};
use slipway_tests::world::CLUSTER;

use self::plan::ChaosSettings;
use self::play::ChaosRun;

/// The seed that the environment names, or one that nobody has chosen.
fn seed() -> Result<u64> {
    match std::env::var("SLIPWAY_SEED") {
        Ok(text) => text.parse().context("SLIPWAY_SEED"),
        Err(_) => Ok(uuid::Uuid::new_v4().as_u64_pair().0 >> 32),
    }
}

/// A number that the environment may choose.
fn number(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| name.to_owned()),
        Err(_) => Ok(default),
    }
}

/// Workers on a model: the whole engine, with real processes, database and broker.
fn on_a_model(settings: &ChaosSettings) -> Result<()> {
    let play = ChaosRun::start(seed()?, settings)?;
    let slow = |stage, ms| Rule::at(stage, StageAct::Delay(ms));
    let rules = [
        slow(Stage::Clone, 40),
        slow(Stage::Compose, 400),
        slow(Stage::Verify, 100),
        Rule::at(Stage::Compose, StageAct::Say(5)),
        Rule::at(Stage::Clone, StageAct::Fail(ErrorCode::GitUnavailable)).of("project-1").until(1),
        Rule::at(Stage::Compose, StageAct::Fail(ErrorCode::CrashLoop)).of("project-2"),
    ];
    let folder = play.stack.world.folder().join("model");
    std::fs::create_dir_all(&folder)?;
    let environment = [
        (MODEL, folder.display().to_string()),
        (SCRIPT, serde_json::to_string(&rules)?),
        ("SLIPWAY_LEASE", "3s".to_owned()),
        ("SLIPWAY_DRAIN_TIMEOUT", "1s".to_owned()),
        ("SLIPWAY_MAX_ATTEMPTS", "20".to_owned()),
    ];
    play.on_a_model(&environment, &folder, &["crash-loop"])
}

#[test]
fn whatever_breaks_nothing_is_lost_or_done_twice_on_a_model_of_servers() -> Result<()> {
    on_a_model(&ChaosSettings {
        deployments: 40,
        projects: 8,
        workers: 3,
        targets: 0,
        nodes: 1,
        length: Duration::from_secs(20),
        faults: 16,
        longest: Duration::from_secs(6),
    })
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_chaos_on_a_model() -> Result<()> {
    let minutes = u64::try_from(number("SLIPWAY_CHAOS_MINUTES", 5)?)?;
    on_a_model(&ChaosSettings {
        deployments: number("SLIPWAY_CHAOS_DEPLOYMENTS", 600)?,
        projects: 40,
        workers: 3,
        targets: 0,
        nodes: CLUSTER,
        length: Duration::from_secs(minutes * 60),
        faults: usize::try_from(minutes * 25)?,
        longest: Duration::from_secs(12),
    })
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_chaos_on_real_servers() -> Result<()> {
    let deployments = number("SLIPWAY_CHAOS_DEPLOYMENTS", 100)?;
    let targets = number("SLIPWAY_CHAOS_TARGETS", 5)?;
    let seconds = number("SLIPWAY_CHAOS_SECONDS", 3 * deployments)?;
    ensure!(targets > 0, "SLIPWAY_CHAOS_TARGETS must be at least 1");
    let settings = ChaosSettings {
        deployments,
        projects: deployments.div_ceil(5),
        workers: 3,
        targets,
        nodes: CLUSTER,
        length: Duration::from_secs(u64::try_from(seconds)?),
        faults: number("SLIPWAY_CHAOS_FAULTS", seconds / 6)?,
        longest: Duration::from_secs(25),
    };
    let environment = [
        ("SLIPWAY_LEASE", "10s".to_owned()),
        ("SLIPWAY_DRAIN_TIMEOUT", "3s".to_owned()),
        ("SLIPWAY_MAX_ATTEMPTS", "30".to_owned()),
        ("SLIPWAY_RETRY_INITIAL", "1s".to_owned()),
        ("SLIPWAY_RETRY_MAX", "8s".to_owned()),
        ("SLIPWAY_CONCURRENCY", "4".to_owned()),
        ("SLIPWAY_COMMAND_TIMEOUT", "120s".to_owned()),
    ];
    ChaosRun::start(seed()?, &settings)?.on_real_servers(&environment)
}
