//! What version 0.1 left in database and broker is taken over by today's worker: nothing of it is lost or done twice.

mod old;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use slipway_protocol::{DeploymentId, topology};
use slipway_tests::checker::{self, RunHistory, SentRequest};
use slipway_tests::observer::{self, Observer};
use slipway_tests::scripted_world::{ScriptedWorker, ScriptedWorld};

use crate::services::{TestDatabase, vhost};

const PATIENCE: Duration = Duration::from_secs(60);

fn deployment(id: &str) -> String {
    DeploymentId::of("/orchestrator", id, None).to_string()
}

/// The command line's answer.
fn slipway(scripted: &ScriptedWorld, words: &[&str]) -> Result<Value> {
    let output = Command::new(slipway_tests::stack::binaries()?.join("slipway"))
        .args(["--json"])
        .args(words)
        .env_clear()
        .env("USER", "ada")
        .env("SLIPWAY_DATABASE_URL", &scripted.database)
        .env("SLIPWAY_AMQP_URL", &scripted.amqp)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "slipway {}: {}\n{said}", words.join(" "), output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Waits until a query says yes.
async fn until(database: &TestDatabase, worker: &mut ScriptedWorker, what: &str, sql: &str) -> Result<()> {
    let begun = Instant::now();
    while !database.sql.query_one(sql, &[]).await.is_ok_and(|row| row.get(0)) {
        ensure!(worker.ended()?.is_none(), "the worker ended\n{}", worker.tail());
        ensure!(begun.elapsed() < PATIENCE, "never: {what}\n{}", worker.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn what_version_0_1_left_is_carried_out_told_and_can_be_replayed() -> Result<()> {
    let (database, amqp) = (TestDatabase::new().await, vhost().expose_secret().to_owned());
    old::database(&database.sql).await?;
    old::broker(&amqp).await?;
    let observer = Observer::connect(&amqp).await?;
    let folder = tempfile::tempdir()?;
    let program = Path::new(env!("CARGO_BIN_EXE_slipway-scripted"));
    let scripted = ScriptedWorld::new(folder.path(), program, database.url.expose_secret(), &amqp)?;

    // A queue that can't be declared any more, or a schema that can't be migrated, would end this here.
    let mut worker = scripted.worker("today", &[], &[("SLIPWAY_LEASE", "4s")])?;
    let ended = "SELECT count(*) = 14 AND bool_and(finished_at IS NOT NULL) AND
                     NOT EXISTS (SELECT 1 FROM outbox WHERE published_at IS NULL) FROM deployments";
    until(&database, &mut worker, "all have ended and were told", ended).await?;

    let letters = slipway(&scripted, &["dead-letters", "list"])?;
    let letters: Vec<&Value> = letters.as_array().context("a list")?.iter().collect();
    let mut codes: Vec<_> = letters.iter().filter_map(|letter| letter["code"].as_str()).collect();
    codes.sort_unstable();
    ensure!(codes == ["crash-loop", "crash-loop", "invalid-field", "missing-secret", "not-json"], "{codes:?}");
    slipway(&scripted, &["dead-letters", "replay", &deployment("broken")])?;
    until(&database, &mut worker, "the replay has ended", &ended.replace("14", "15")).await?;

    worker.signal(Signal::TERM)?;
    let begun = Instant::now();
    while worker.ended()?.is_none() {
        ensure!(begun.elapsed() < PATIENCE, "the drain doesn't end\n{}", worker.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(observer.waiting(topology::DEPLOYMENTS_QUEUE).await? == 0, "messages are left in the queue");

    let mut history = RunHistory::of_database(&database.sql).await?;
    history.events = old::events()?;
    observer.read(&mut history).await?;
    for body in old::requests()? {
        history.requests.push(SentRequest { confirmed: true, ..observer::request(body.as_bytes())? });
    }
    let verdict = checker::check(&history, &["crash-loop", "invalid-field", "missing-secret"]).pass()?;
    ensure!(verdict.attempted == 16, "{verdict}");

    let rows = database.sql.query("SELECT event_id, replay_id IS NOT NULL, state FROM deployments", &[]).await?;
    let states: BTreeMap<(String, bool), String> =
        rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    let state = |id: &str, replay| states.get(&(id.to_owned(), replay)).map(String::as_str);
    for (id, expected) in [
        ("served", "succeeded"),
        ("served-late", "succeeded"),
        ("idle", "already_deployed"),
        ("broken", "failed"),
        ("broken-late", "failed"),
        ("refused", "failed"),
        ("secretless", "missing_secret"),
        ("cancelled", "cancelled"),
        ("newer", "succeeded"),
        ("older", "superseded"),
        ("orphan", "succeeded"),
        ("again", "succeeded"),
        ("waiting", "succeeded"),
        ("queued", "succeeded"),
    ] {
        ensure!(state(id, false) == Some(expected), "{id}: {:?}", state(id, false));
    }
    ensure!(state("broken", true) == Some("succeeded"), "{:?}", state("broken", true));
    Ok(())
}
