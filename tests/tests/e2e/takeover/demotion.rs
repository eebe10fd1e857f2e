//! The database's standby takes over, and the server that was the primary lives on: it answers, but takes no writes any
//! more. Workers leave it at its first refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Result, ensure};
use secrecy::SecretString;
use slipway_protocol::Stage;
use slipway_tests::script::{Rule, StageAct};

use super::{PATIENCE, PAUSE, scripted};
use crate::services::test_worker::{TestClient, request};
use crate::services::{Postgres, TestDatabase, vhost};

/// How many run when the primary is demoted, and how many are asked for after that.
const BEFORE: usize = 6;
const AFTER: usize = 4;

async fn until(what: &str, sql: &tokio_postgres::Client, holds: &str) -> Result<()> {
    let begun = Instant::now();
    // The first worker makes the tables.
    while !sql.query_one(holds, &[]).await.is_ok_and(|row| row.get(0)) {
        ensure!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_primary_that_answers_on_is_left_and_each_deployment_ends_once() -> Result<()> {
    let primary = tokio::task::spawn_blocking(|| Postgres::start(|_| Vec::new())).await?;
    let database = TestDatabase::at(primary.port()).await;
    let standby = primary.standby().await;
    let (ports, name) = ([primary.port(), standby.port()], &database.name);
    let url: SecretString = format!(
        "postgresql://slipway@127.0.0.1:{},127.0.0.1:{}/{name}?target_session_attrs=read-write&sslmode=disable",
        ports[0], ports[1]
    )
    .into();
    let amqp = vhost();
    let mut client = TestClient::new(&amqp).await;
    let folder = tempfile::tempdir()?;
    let scripted = scripted(folder.path(), &url, &amqp)?;
    let environment = [("SLIPWAY_SERVER_CONCURRENCY", "100"), ("SLIPWAY_CONCURRENCY", "16")];
    let held = [Rule::at(Stage::Compose, StageAct::Hold("go".to_owned()))];
    let mut workers =
        ["w1", "w2"].map(|name| scripted.worker(name, &held, &environment)).into_iter().collect::<Result<Vec<_>>>()?;
    for _ in 0..BEFORE {
        client.publish(&request(|_| {})).await;
    }
    let run = format!("SELECT count(*) = {BEFORE} FROM stage_journal WHERE stage = 'compose'");
    until("all of them run", &database.sql, &run).await?;

    // As an orderly change of roles: nothing new is written, what was is on both, and then the standby is the primary.
    database.sql.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await?;
    database.sql.batch_execute("SELECT pg_reload_conf()").await?;
    let old = TestDatabase::connected(ports[0], name).await;
    let still = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_xid IS NOT NULL)";
    until("nothing is being written", &old, still).await?;
    let new = TestDatabase::connected(ports[1], name).await;
    new.batch_execute("SELECT pg_promote()").await?;
    scripted.model().open("go")?;
    for _ in 0..AFTER {
        client.publish(&request(|_| {})).await;
    }

    let mut results: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while results.len() < BEFORE + AFTER {
        let result = client.result().await;
        ensure!(result["data"]["outcome"] == "succeeded", "{result}");
        results.entry(result["data"]["deployment_id"].to_string()).or_default().insert(result["id"].to_string());
    }
    ensure!(results.values().all(|events| events.len() == 1), "{results:?}");
    until("all is published", &new, "SELECT NOT EXISTS (SELECT FROM outbox WHERE published_at IS NULL)").await?;
    let once = "SELECT count(*) FILTER (WHERE state = 'succeeded' AND attempt = 1) = count(*) FROM deployments";
    until("each has one attempt", &new, once).await?;
    let left = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name IN ('w1', 'w2'))";
    until("nobody is connected to the old one", &old, left).await?;
    for worker in &mut workers {
        ensure!(worker.ended()?.is_none(), "a worker has ended\n{}", worker.tail());
    }
    Ok(())
}
