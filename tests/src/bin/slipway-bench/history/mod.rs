//! The same with 0, 10³, 10⁴, 10⁵ and 10⁶ finished deployments in the database: nothing may become slower.

mod past;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::contender::BenchedEngine;
use crate::engine::{count_for, drain};
use crate::latency;
use crate::orchestrator::Orchestrator;
use crate::record::Subject;
use crate::scene::{BenchScene, connect};
use past::MadeUpPast;

/// About how long a run takes at least, in seconds: the first deployments after a checkpoint write whole pages to the log, and in
/// earnest the next checkpoint is minutes away.
const SPAN: f64 = 15.0;
/// How many real deployments the past is made of.
const SEEDS: usize = 200;

/// Section `history`, up to `bench.history` deployments.
pub fn measure(bench: &mut Bench, scene: &mut BenchScene) -> Result<()> {
    let handle = scene.runtime.handle().clone();
    handle.block_on(async {
        let mut orchestrator = Orchestrator::connect(scene.stack.world.amqp_url()).await?;
        let contender = BenchedEngine::slipway(128);
        let database = scene.fresh_database().await?;
        contender.prepare(scene, &orchestrator, &database).await?;
        let mut rate = drain(scene, &mut orchestrator, &contender, &database, SEEDS, 1).await?.rate;
        let mut past = MadeUpPast::of(connect(&database).await?).await?;
        let levels = [0, 1_000, 10_000, 100_000, 1_000_000];
        let is_wanted = |level: &u64| *level <= bench.history && !(bench.quick && *level == 10_000);
        for level in levels.into_iter().filter(is_wanted) {
            let begun = Instant::now();
            past.grow(level).await?;
            let of = bench.subject("history", format!("{level}"), &contender);
            bench.record.note(&of, "database", "MB", past.megabytes().await?)?;
            bench.record.say(&format!("{level} more deployments took {:.1} s", begun.elapsed().as_secs_f64()));
            for repetition in 1..=bench.repetitions {
                let of = Subject { repetition, ..bench.subject("history", format!("{level}"), &contender) };
                let count = count_for(rate, bench.seconds.max(SPAN));
                past.bury_worker().await?;
                let drained = drain(scene, &mut orchestrator, &contender, &database, count, 1).await?;
                rate = drained.rate;
                drained.note(&mut bench.record, &of)?;
                for (name, took) in commands(scene, &database, &past.example().await?)? {
                    bench.record.note(&of, &name, "ms", took.as_secs_f64() * 1e3)?;
                }
            }
            let of = bench.subject("history", format!("{level}"), &contender);
            past.bury_worker().await?;
            let half = latency::on(scene, &mut orchestrator, &contender, &database, rate / 2.0, bench.seconds).await?;
            half.note(&mut bench.record, &of)?;
        }
        Ok(())
    })
}

/// How long the command line takes.
fn commands(scene: &BenchScene, database: &str, (id, slug): &(String, String)) -> Result<Vec<(String, Duration)>> {
    let lines: [(&str, Vec<&str>); 5] = [
        ("slipway status", vec!["status"]),
        ("deployments list --project", vec!["deployments", "list", "--project", slug]),
        ("deployments list --state", vec!["deployments", "list", "--state", "failed"]),
        ("deployments show PREFIX", vec!["deployments", "show", &id[..13]]),
        ("projects versions", vec!["projects", "versions", slug]),
    ];
    let mut all = Vec::new();
    for (name, arguments) in lines {
        let mut command = scene.program("slipway", "bench", database)?;
        let begun = Instant::now();
        let output = command.args(arguments).stdin(Stdio::null()).output()?;
        let took = begun.elapsed();
        // Status ends with 1 where something needs a look.
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(0 | 1)), "{name}: {}: {said}", output.status);
        all.push((name.to_owned(), took));
    }
    Ok(all)
}
