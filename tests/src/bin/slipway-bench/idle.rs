//! What workers take that have nothing to do, and one that has many deployments in flight.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::contender::{BenchedEngine, Processes, spawn};
use crate::orchestrator::Orchestrator;
use crate::record::Subject;
use crate::scene::BenchScene;
use crate::subscriber::{PATIENCE, Subscriber};
use crate::usage;

/// How long workers settle before they count as idle.
const SETTLE: Duration = Duration::from_secs(5);
/// How many deployments are in flight in one worker; the first that a worker takes as its setting.
const IN_FLIGHT: [usize; 2] = [1000, 256];

/// Section `idle`.
pub fn measure(bench: &mut Bench, scene: &mut BenchScene) -> Result<()> {
    let handle = scene.runtime.handle().clone();
    handle.block_on(async {
        let mut orchestrator = Orchestrator::connect(scene.stack.world.amqp_url()).await?;
        let contender = BenchedEngine::slipway(4);
        for repetition in 1..=bench.repetitions {
            for workers in [1, 8] {
                let database = scene.fresh_database().await?;
                contender.prepare(scene, &orchestrator, &database).await?;
                let mut processes = fleet(scene, &database, workers)?;
                tokio::time::sleep(SETTLE).await;
                ensure!(processes.all_run()?, "a worker has ended");
                let pids = processes.pids();
                let (before, cpu) = (scene.begin().await?, usage::seconds_of_threads(&pids));
                let span = Duration::from_secs_f64(bench.idle_seconds);
                tokio::time::sleep(span).await;
                let (used, cpu) = (scene.since(&before).await?, usage::seconds_of_threads(&pids) - cpu);
                let case = format!("workers {workers}");
                let of = Subject { repetition, ..bench.subject("idle", case, &contender) };
                let a_second = |sum: f64| sum / span.as_secs_f64();
                let each = workers as f64;
                bench.record.note(&of, "SQL statements of all", "1/s", a_second(used.statements))?;
                bench.record.note(&of, "WAL of all", "B/s", a_second(used.wal))?;
                bench.record.note(&of, "CPU of a worker", "% of a core", a_second(cpu) * 100.0 / each)?;
                bench.record.note(&of, "CPU of PostgreSQL", "% of a core", a_second(used.postgres) * 100.0)?;
                let memory = usage::megabytes(&pids, "VmRSS") / each;
                bench.record.note(&of, "memory of a worker", "MB", memory)?;
            }
            for count in IN_FLIGHT {
                if let Some(memory) = in_flight(scene, &mut orchestrator, count).await? {
                    let case = format!("{count} in flight");
                    let of = Subject { repetition, ..bench.subject("idle", case, &contender) };
                    bench.record.note(&of, "memory of a worker", "MB", memory)?;
                    break;
                }
            }
        }
        Ok(())
    })
}

/// Workers as they are installed.
fn fleet(scene: &BenchScene, database: &str, count: usize) -> Result<Processes> {
    let mut children = Vec::new();
    for number in 1..=count {
        let name = format!("idle-{number}");
        let mut command = scene.program("slipway-worker", &name, database)?;
        command.env("SLIPWAY_ADMIN_ADDR", format!("127.0.3.{number}:9090"));
        children.push(spawn(&mut command, &scene.stack.world.folder().join(format!("{name}.log")))?);
    }
    Ok(Processes::of(children))
}

/// The memory of a worker with `count` deployments in their first stage; `None` when it doesn't take so many.
async fn in_flight(scene: &mut BenchScene, orchestrator: &mut Orchestrator, count: usize) -> Result<Option<f64>> {
    let database = scene.fresh_database().await?;
    let contender = BenchedEngine { stage_ms: 600_000, ..BenchedEngine::slipway(count) };
    contender.prepare(scene, orchestrator, &database).await?;
    let mut subscriber = Subscriber::bind(scene.stack.world.amqp_url(), contender.exchange()).await?;
    let mut processes = contender.start(scene, &database, 1)?;
    tokio::time::sleep(SETTLE).await;
    if !processes.all_run()? {
        return Ok(None);
    }
    contender.ask(scene, orchestrator, &database, count).await?;
    let mut begun = 0;
    while begun < count {
        let heard = subscriber.next(PATIENCE).await?;
        let event: serde_json::Value = serde_json::from_slice(&heard.body)?;
        begun += usize::from(event["data"]["kind"] == "stage_started");
    }
    let memory = usage::megabytes(&processes.pids(), "VmRSS");
    subscriber.end().await;
    Ok(Some(memory))
}
