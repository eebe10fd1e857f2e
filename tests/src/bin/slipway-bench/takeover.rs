//! kill -9 of the worker that acts and that is the relay as well: how long until another one acts on its deployment, and
//! until a subscriber hears of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::bench::Bench;
use crate::contender::{BenchedEngine, Processes, spawn};
use crate::orchestrator::Orchestrator;
use crate::record::Subject;
use crate::scene::{BenchScene, connect};
use crate::subscriber::{PATIENCE, Subscriber};

/// How often the database is asked who acts.
const LOOK: Duration = Duration::from_millis(10);
/// How long the second worker may take to be ready.
const SETTLE: Duration = Duration::from_secs(4);

/// Section `takeover`.
pub fn measure(bench: &mut Bench, scene: &mut BenchScene) -> Result<()> {
    let handle = scene.runtime.handle().clone();
    handle.block_on(async {
        let mut orchestrator = Orchestrator::connect(scene.stack.world.amqp_url()).await?;
        let contender = BenchedEngine::slipway(4);
        for repetition in 1..=bench.repetitions {
            for lease in [None, Some("4s"), Some("1s")] {
                if bench.quick && lease == Some("4s") {
                    continue;
                }
                let case = lease.map_or("default lease".to_owned(), |lease| format!("lease {lease}"));
                let (acted, told) = lose(scene, &mut orchestrator, &contender, lease).await?;
                let of = Subject { repetition, ..bench.subject("takeover", case, &contender) };
                bench.record.note(&of, "until another acts", "s", acted.as_secs_f64())?;
                bench.record.note(&of, "until it's told", "s", told.as_secs_f64())?;
            }
        }
        Ok(())
    })
}

/// One loss: gives when another worker had the lease, and when the first event was heard from it.
async fn lose(
    scene: &mut BenchScene,
    orchestrator: &mut Orchestrator,
    contender: &BenchedEngine,
    lease: Option<&str>,
) -> Result<(Duration, Duration)> {
    let database = scene.fresh_database().await?;
    contender.prepare(scene, orchestrator, &database).await?;
    let mut subscriber = Subscriber::bind(scene.stack.world.amqp_url(), contender.exchange()).await?;
    let start = |name: &str, number: u8, stage_ms: u64| -> Result<Processes> {
        let mut command = scene.program("slipway-scripted", name, &database)?;
        command.env("SLIPWAY_ADMIN_ADDR", format!("127.0.2.{number}:9090"));
        command.env("SLIPWAY_SCRIPT_STAGE_MS", stage_ms.to_string());
        command.envs(lease.map(|lease| ("SLIPWAY_LEASE", lease)));
        let log = scene.stack.world.folder().join(format!("{name}.log"));
        Ok(Processes::of(vec![spawn(&mut command, &log)?]))
    };
    let first = start("first", 1, 600_000)?;
    let id = orchestrator.ask(1).await?.pop().context("a deployment")?;
    // It acts, and it relays what it does.
    loop {
        let heard = subscriber.next(PATIENCE).await?;
        if String::from_utf8_lossy(&heard.body).contains("stage_started") {
            break;
        }
    }
    let mut second = start("second", 2, 0)?;
    tokio::time::sleep(SETTLE).await;
    ensure!(second.all_run()?, "the second worker has ended");
    let sql = connect(&database).await?;
    let owner = "SELECT owner FROM deployments WHERE id = $1::text::uuid";
    let of_first: Option<String> = sql.query_one(owner, &[&id]).await?.get(0);
    ensure!(of_first.as_deref() == Some("first"), "taken over from a living worker by {of_first:?}");

    let killed = Instant::now();
    drop(first);
    let asking = async {
        loop {
            let row = sql.query_one("SELECT owner, state FROM deployments WHERE id = $1::text::uuid", &[&id]).await?;
            let (owner, state): (Option<String>, String) = (row.get(0), row.get(1));
            if owner.as_deref() == Some("second") || !["running", "pending"].contains(&state.as_str()) {
                return anyhow::Ok(killed.elapsed());
            }
            ensure!(killed.elapsed() < PATIENCE, "nobody takes it over");
            tokio::time::sleep(LOOK).await;
        }
    };
    let hearing = async {
        let heard = subscriber.next(PATIENCE).await?;
        anyhow::Ok(heard.at - killed)
    };
    let (acted, told) = tokio::try_join!(asking, hearing)?;
    drop(second);
    subscriber.end().await;
    Ok((acted, told))
}
