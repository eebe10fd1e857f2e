//! Throughput with 1, 2, 4 and 8 worker processes on one database: whether they stand in each other's way; and with more and
//! more servers: whether it grows with them.

use anyhow::Result;

use crate::bench::Bench;
use crate::contender::BenchedEngine;
use crate::engine::{count_for, drain};
use crate::orchestrator::Orchestrator;
use crate::record::Subject;
use crate::scene::BenchScene;

/// How many processes.
const COUNTS: [usize; 4] = [1, 2, 4, 8];

/// How many deployments each process has at once, and the milliseconds that each stage takes. Where stages do nothing, one
/// process is about all that a machine of two cores can do, and shows the limit; where they take as little as 20 ms, it's
/// a fraction of that.
const LOADS: [(usize, u64); 2] = [(4, 0), (8, 20)];

/// Section `workers`.
pub fn measure(bench: &mut Bench, scene: &mut BenchScene) -> Result<()> {
    let handle = scene.runtime.handle().clone();
    handle.block_on(async {
        let mut orchestrator = Orchestrator::connect(scene.stack.world.amqp_url()).await?;
        for (concurrency, stage_ms) in LOADS {
            let contender = BenchedEngine { stage_ms, ..BenchedEngine::slipway(concurrency) };
            let mut rate = 20.0;
            for repetition in 0..=bench.repetitions {
                for workers in COUNTS {
                    let database = scene.fresh_database().await?;
                    contender.prepare(scene, &orchestrator, &database).await?;
                    let count = count_for(rate, if repetition == 0 { 1.0 } else { bench.seconds });
                    let drained = drain(scene, &mut orchestrator, &contender, &database, count, workers).await?;
                    rate = drained.rate;
                    // The first round tells how many it takes, and warms all up.
                    if repetition > 0 {
                        let case = format!("stages of {stage_ms} ms, concurrency {concurrency}, workers {workers}");
                        let of = Subject { repetition, ..bench.subject("workers", case, &contender) };
                        drained.note(&mut bench.record, &of)?;
                    } else if workers == 1 {
                        continue;
                    } else {
                        break;
                    }
                }
            }
        }
        Ok(())
    })
}

/// Over how many servers deployments are spread.
const SERVERS: [u64; 5] = [1, 4, 16, 64, 256];

/// Section `servers`: with stages that take their time, and two deployments at once on each server.
pub fn measure_servers(bench: &mut Bench, scene: &mut BenchScene) -> Result<()> {
    let handle = scene.runtime.handle().clone();
    handle.block_on(async {
        let mut orchestrator = Orchestrator::connect(scene.stack.world.amqp_url()).await?;
        let contender = BenchedEngine { stage_ms: 20, is_limited: true, ..BenchedEngine::slipway(128) };
        for repetition in 1..=bench.repetitions {
            let mut rate = 10.0;
            for servers in SERVERS.into_iter().filter(|servers| !bench.quick || [4, 64].contains(servers)) {
                orchestrator.servers = servers;
                let database = scene.fresh_database().await?;
                contender.prepare(scene, &orchestrator, &database).await?;
                let count = count_for(rate, bench.seconds);
                let drained = drain(scene, &mut orchestrator, &contender, &database, count, 1).await?;
                rate = drained.rate * 2.0;
                let of = bench.subject("servers", format!("servers {servers}"), &contender);
                drained.note(&mut bench.record, &Subject { repetition, ..of })?;
            }
        }
        Ok(())
    })
}
