//! A machine that has ten times as much to do as it can: leases are renewed in time all the same, and nobody takes over from
//! a worker that lives.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::scripted;
use crate::services::test_worker::{TestClient, request};
use crate::services::{TestDatabase, vhost};

/// Processes that want a processor all the time: the load, on two cores.
const HOGS: usize = 20;
/// Workers, and deployments that are asked for each second.
const WORKERS: usize = 3;
const RATE: u32 = 5;
/// How long each of seven stages takes: with the rate, 280 are in flight.
const STAGE_MS: &str = "8000";
/// How long requests come in, unless the environment says something else.
const SECONDS: u64 = 120;

/// A process that computes for nothing, in the session of the workers: so each of their threads competes with all hogs. In
/// sessions of their own each would get as much as all of PostgreSQL together, and nothing be fast enough for anything.
struct Hog(Child);

impl Hog {
    fn start() -> Result<Self> {
        let busy = ["--pdeathsig", "KILL", "--", "sh", "-c", "while :; do :; done"];
        let hog = Command::new("setpriv").args(busy).stdin(Stdio::null()).spawn();
        Ok(Self(hog.context("starting a hog")?))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many processes and threads run, or could.
fn running() -> Result<u32> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("procs_running ")).context("procs_running")?;
    Ok(line.trim().parse()?)
}

async fn keeps_its_leases(lease: &[(&str, &str)]) -> Result<()> {
    let seconds = std::env::var("SLIPWAY_OVERLOAD_SECONDS").map_or(Ok(SECONDS), |text| text.parse());
    let length = Duration::from_secs(seconds.context("SLIPWAY_OVERLOAD_SECONDS")?);
    let (database, _store) = TestDatabase::migrated("outside").await;
    let amqp = vhost();
    let mut client = TestClient::new(&amqp).await;
    let folder = tempfile::tempdir()?;
    let scripted = scripted(folder.path(), &database.url, &amqp)?;
    let mut environment = vec![
        ("SLIPWAY_CONCURRENCY", "256"),
        ("SLIPWAY_SERVER_CONCURRENCY", "1000"),
        ("SLIPWAY_REGISTRY_CONCURRENCY", "1000"),
        ("SLIPWAY_SCRIPT_STAGE_MS", STAGE_MS),
    ];
    environment.extend(lease);
    let workers: Vec<_> =
        (0..WORKERS).map(|n| scripted.worker(&format!("w{n}"), &[], &environment)).collect::<Result<_>>()?;
    let settled = format!("SELECT (SELECT count(*) FROM workers) = {WORKERS} AND EXISTS (SELECT FROM relay_lease)");
    while !database.sql.query_one(&settled, &[]).await?.get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let relay = "SELECT fence FROM relay_lease";
    let fence = database.count(relay).await;

    let hogs = (0..HOGS).map(|_| Hog::start()).collect::<Result<Vec<_>>>()?;
    let (begun, mut asked, mut ended, mut loads, mut most) = (Instant::now(), 0, 0, Vec::new(), 0);
    while begun.elapsed() < length || ended < asked {
        if begun.elapsed() < length {
            client.publish(&request(|_| {})).await;
            asked += 1;
            loads.push(running()?);
        }
        let next = tokio::time::Instant::from_std(begun + Duration::from_secs(1) * asked / RATE);
        let next = if begun.elapsed() < length { next } else { tokio::time::Instant::now() + Duration::from_secs(1) };
        while let Ok(event) = tokio::time::timeout_at(next, client.event()).await {
            if event["type"] == "slipway.deployment.result.v1" {
                ensure!(event["data"]["outcome"] == "succeeded", "{event}");
                ended += 1;
            }
            if ended == asked && begun.elapsed() >= length {
                break;
            }
        }
        most = most.max(database.count("SELECT count(*) FROM deployments WHERE state = 'running'").await);
        ensure!(begun.elapsed() < length * 2 + Duration::from_secs(120), "{ended} of {asked} have ended");
    }
    drop(hogs);
    let load = f64::from(loads.iter().sum::<u32>()) / loads.len().max(1) as f64;
    let taken = database.count("SELECT coalesce(sum(interruptions), 0)::bigint FROM deployments").await;
    let relays = database.count(relay).await - fence;
    writeln!(
        std::io::stderr(),
        "{lease:?}: {ended} deployments, {most} at once, at a load of {load:.1}, in {:?}: {taken} taken over, the relay \
         {relays} times",
        begun.elapsed()
    )?;
    drop(workers);
    // Of these a stage had begun; the others were claims that came back too late to be used.
    let begun = "SELECT count(DISTINCT deployment_id) FROM stage_journal WHERE outcome = 'interrupted'";
    let begun = database.count(begun).await;
    ensure!(load >= HOGS as f64, "a load of {load:.1} is none");
    ensure!((taken, relays) == (0, 0), "{taken} taken over, {begun} of them in a stage; the relay {relays} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: ./tests/soak"]
async fn soak_nobody_takes_over_from_a_living_worker_at_a_load_of_twenty() -> Result<()> {
    keeps_its_leases(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: ./tests/soak"]
async fn soak_nobody_takes_over_at_a_load_of_twenty_with_a_lease_of_a_second() -> Result<()> {
    keeps_its_leases(&[("SLIPWAY_LEASE", "1s")]).await
}
