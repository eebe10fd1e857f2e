//! The engine beside its peers: throughput of a backlog with its cost, latencies at half of it, and how fast a burst is
//! taken in. Contenders take turns, so that what else the machine does meets all of them.

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::contender::BenchedEngine;
use crate::latency;
use crate::orchestrator::Orchestrator;
use crate::record::{Record, Subject};
use crate::scene::BenchScene;
use crate::subscriber::{PATIENCE, Subscriber};
use crate::usage;

/// The fewest jobs of a run, and the most.
const COUNTS: (f64, f64) = (60.0, 6000.0);
/// What the first, unmeasured run of each does.
const WARM_UP: usize = 300;

/// How a backlog was worked off.
#[derive(Debug, Clone)]
pub struct Drained {
    /// A second, from the first result to the last one: programs start in different times.
    pub rate: f64,
    /// SQL statements for each.
    pub statements: f64,
    /// Bytes of write-ahead log for each.
    pub wal: f64,
    /// Messages for each, with its request.
    pub messages: f64,
    /// Milliseconds of processor for each: PostgreSQL, RabbitMQ, the worker.
    pub cpu: [f64; 3],
    /// Megabytes that the workers had at their largest.
    pub megabytes: f64,
    /// The statements that took most of PostgreSQL's time: text, calls and milliseconds for each.
    pub profile: Vec<(String, f64, f64)>,
}

impl Drained {
    /// Writes it down.
    pub fn note(&self, record: &mut Record, of: &Subject) -> Result<()> {
        record.note(of, "throughput", "1/s", self.rate)?;
        record.note(of, "SQL statements each", "", self.statements)?;
        record.note(of, "WAL each", "B", self.wal)?;
        record.note(of, "messages each", "", self.messages)?;
        for (who, cpu) in ["PostgreSQL", "RabbitMQ", "worker"].into_iter().zip(self.cpu) {
            record.note(of, &format!("CPU of {who} each"), "ms", cpu)?;
        }
        record.note(of, "memory", "MB", self.megabytes)?;
        record.profile(of, &self.profile)
    }
}

/// Has `count` jobs, which are all in the queue before the first worker starts, worked off by so many processes.
pub async fn drain(
    scene: &BenchScene,
    orchestrator: &mut Orchestrator,
    contender: &BenchedEngine,
    database: &str,
    count: usize,
    workers: usize,
) -> Result<Drained> {
    let mut subscriber = Subscriber::bind(scene.stack.world.amqp_url(), contender.exchange()).await?;
    contender.ask(scene, orchestrator, database, count).await?;
    let before = scene.begin().await?;
    let processes = contender.start(scene, database, workers)?;
    let span = subscriber.results(count, PATIENCE).await.map_err(|error| {
        let log = scene.stack.world.folder().join("bench-0.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        error.context(lines[lines.len().saturating_sub(20)..].join("\n"))
    })?;
    let (used, profile) = (scene.since(&before).await?, scene.profile().await?);
    let pids = processes.pids();
    let (worker, megabytes) = (usage::seconds(&pids), usage::megabytes(&pids, "VmHWM"));
    drop(processes);
    subscriber.end().await;
    let each = |sum: f64| sum / count as f64;
    Ok(Drained {
        rate: (count as f64 - 1.0) / (span.end - span.begin).as_secs_f64(),
        statements: each(used.statements),
        wal: each(used.wal),
        messages: each((span.messages + count) as f64),
        cpu: [used.postgres, used.broker, worker].map(|seconds| each(seconds) * 1e3),
        megabytes,
        profile: profile.into_iter().map(|(text, calls, ms)| (text, each(calls), each(ms))).collect(),
    })
}

/// How many jobs take about `seconds` at this rate.
pub fn count_for(rate: f64, seconds: f64) -> usize {
    (rate * seconds).clamp(COUNTS.0, COUNTS.1) as usize
}

/// Section `engine`; with `only_latency`, section `latency`.
pub fn measure(bench: &mut Bench, scene: &mut BenchScene, only_latency: bool) -> Result<()> {
    let peers = bench.peers();
    let handle = scene.runtime.handle().clone();
    handle.block_on(async {
        let mut orchestrator = Orchestrator::connect(scene.stack.world.amqp_url()).await?;
        let slipway: Vec<_> = if only_latency { vec![16] } else { vec![1, 16, 128] };
        let mut contenders: Vec<BenchedEngine> = slipway.into_iter().map(BenchedEngine::slipway).collect();
        contenders.extend(peers);
        let first_peer = contenders.iter().find(|one| one.peer.is_some()).map_or(String::new(), |one| one.name.clone());
        let mut rates = Vec::new();
        for contender in &contenders {
            rates.push(run(scene, &mut orchestrator, contender, WARM_UP).await?.rate);
        }
        for repetition in 1..=bench.repetitions {
            for (contender, rate) in contenders.iter().zip(&mut rates) {
                let of = bench.subject("engine", contender.case(), contender);
                let of = Subject { repetition, ..of };
                if !only_latency {
                    let count = count_for(*rate, bench.seconds);
                    let drained = run(scene, &mut orchestrator, contender, count).await?;
                    *rate = drained.rate;
                    drained.note(&mut bench.record, &of)?;
                }
                // One peer is enough where time is short: the first, which is the quickest to answer.
                let is_wanted = !bench.quick || contender.peer.is_none() || contender.name == first_peer;
                if contender.concurrency == 16 && !contender.is_whole && !contender.is_fenced && is_wanted {
                    let of = Subject { section: "latency", case: "half load".to_owned(), ..of };
                    latency::measure(scene, &mut orchestrator, contender, *rate / 2.0, bench.seconds)
                        .await?
                        .note(&mut bench.record, &of)?;
                }
            }
            let of = bench.subject("engine", "burst".to_owned(), &contenders[0]);
            let of = Subject { repetition, ..of };
            burst(scene, &mut orchestrator, bench.burst, &mut bench.record, &of).await?;
        }
        Ok(())
    })
}

async fn run(
    scene: &mut BenchScene,
    orchestrator: &mut Orchestrator,
    contender: &BenchedEngine,
    count: usize,
) -> Result<Drained> {
    let database = scene.fresh_database().await?;
    contender.prepare(scene, orchestrator, &database).await?;
    drain(scene, orchestrator, contender, &database, count, 1).await
}

/// How fast requests are taken in while one deployment runs and holds the only slot.
async fn burst(
    scene: &mut BenchScene,
    orchestrator: &mut Orchestrator,
    count: usize,
    record: &mut Record,
    of: &Subject,
) -> Result<()> {
    let database = scene.fresh_database().await?;
    let contender = BenchedEngine { stage_ms: 600_000, ..BenchedEngine::slipway(1) };
    contender.prepare(scene, orchestrator, &database).await?;
    let mut subscriber = Subscriber::bind(scene.stack.world.amqp_url(), contender.exchange()).await?;
    contender.ask(scene, orchestrator, &database, count).await?;
    let _processes = contender.start(scene, &database, 1)?;
    let (mut accepted, mut first, mut half) = (0, None, None);
    while accepted < count {
        let message = subscriber.next(PATIENCE).await?;
        let event: serde_json::Value = serde_json::from_slice(&message.body)?;
        ensure!(event["data"]["outcome"].is_null(), "a result in a burst: {event}");
        accepted += usize::from(event["data"]["kind"] == "accepted");
        let first = *first.get_or_insert(message.at);
        if accepted >= count / 2 {
            half.get_or_insert(message.at - first);
        }
        if accepted == count {
            let took = message.at - first;
            record.note(of, "intake", "1/s", (count as f64 - 1.0) / took.as_secs_f64())?;
        }
    }
    record.note(of, "burst, p50 until told as accepted", "ms", half.unwrap_or_default().as_secs_f64() * 1e3)?;
    subscriber.end().await;
    Ok(())
}
