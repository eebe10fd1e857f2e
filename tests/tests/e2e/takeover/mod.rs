//! Whose place another worker takes, and when: as processes of the real engine on a real database and broker. One that is
//! killed is followed within its lease, and that's told; one that lives keeps what it has, however busy the machine is; and
//! a database that was demoted isn't waited for.

mod demotion;
mod overload;

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::Stage;
use slipway_tests::script::{Rule, StageAct};
use slipway_tests::scripted_world::ScriptedWorld;

use crate::services::test_worker::{TestClient, request};
use crate::services::{TestDatabase, vhost};

/// The longest that anything is waited for that has no bound of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the database is asked.
const PAUSE: Duration = Duration::from_millis(10);

/// Workers of one database and broker, with their files in a folder.
fn scripted(folder: &Path, database: &SecretString, amqp: &SecretString) -> Result<ScriptedWorld> {
    let program = Path::new(env!("CARGO_BIN_EXE_slipway-scripted"));
    ScriptedWorld::new(folder, program, database.expose_secret(), amqp.expose_secret())
}

/// Asks for one deployment, and gives its id once a worker has begun with it.
async fn begun(client: &mut TestClient) -> Result<String> {
    client.publish(&request(|_| {})).await;
    let id = |event: &serde_json::Value| event["data"]["deployment_id"].as_str().map(str::to_owned);
    let mut accepted = None;
    loop {
        let event = client.event().await;
        if event["data"]["kind"] == "accepted" {
            accepted = id(&event);
        }
        if event["data"]["kind"] == "attempt_started" && accepted.is_some() && id(&event) == accepted {
            return accepted.context("an event without its deployment's id");
        }
    }
}

/// The worker that acts on a deployment, while it runs.
async fn owner(database: &TestDatabase, deployment: &str) -> Result<Option<String>> {
    let owner = "SELECT owner FROM deployments WHERE id = $1::text::uuid AND state = 'running'";
    Ok(database.sql.query_opt(owner, &[&deployment]).await?.and_then(|row| row.get(0)))
}

/// A worker is killed that runs two deployments and is the relay, the second of them claimed just before: gives when another
/// one has acted on both, and when that was told of both.
async fn is_killed(lease: &[(&str, &str)]) -> Result<(Duration, Duration)> {
    let (database, _store) = TestDatabase::migrated("outside").await;
    let amqp = vhost();
    let mut client = TestClient::new(&amqp).await;
    let folder = tempfile::tempdir()?;
    let scripted = scripted(folder.path(), &database.url, &amqp)?;
    let environment: Vec<_> = lease.iter().copied().chain([("SLIPWAY_SERVER_CONCURRENCY", "100")]).collect();
    let never = [Rule::at(Stage::Compose, StageAct::Hold("never".to_owned()))];
    let mut first = scripted.worker("first", &never, &environment)?;
    let mut held = vec![begun(&mut client).await?];
    let second = scripted.worker("second", &[], &environment)?;
    let settled = "SELECT (SELECT count(*) FROM workers) = 2 AND (SELECT owner FROM relay_lease) = 'first'";
    let waited = Instant::now();
    while !database.sql.query_one(settled, &[]).await?.get::<_, bool>(0) {
        ensure!(waited.elapsed() < PATIENCE, "two workers don't settle\n{}{}", first.tail(), second.tail());
        tokio::time::sleep(PAUSE).await;
    }
    // Those that the second worker takes are over at once.
    while held.len() < 2 {
        let deployment = begun(&mut client).await?;
        if owner(&database, &deployment).await?.as_deref() == Some("first") {
            held.push(deployment);
        }
    }

    let killed = Instant::now();
    first.kill()?;
    let acting = async {
        let left = "SELECT count(*) FROM deployments WHERE id::text = ANY ($1) AND (owner IS NULL OR owner = 'first')
                        AND finished_at IS NULL";
        while database.sql.query_one(left, &[&held]).await?.get::<_, i64>(0) > 0 {
            ensure!(killed.elapsed() < PATIENCE, "nobody takes it over\n{}", second.tail());
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(killed.elapsed())
    };
    let (mut told, mut results) = (Vec::new(), 0);
    let hearing = async {
        loop {
            let event = client.event().await;
            let of_held = held.iter().any(|id| event["data"]["deployment_id"] == **id);
            if of_held && event["data"]["kind"] == "interrupted" {
                told.push(killed.elapsed());
            }
            if of_held && event["type"] == "slipway.deployment.result.v1" {
                ensure!(event["data"]["outcome"] == "succeeded", "{event}");
                results += 1;
            }
            if results == held.len() {
                return anyhow::Ok(());
            }
        }
    };
    let (acted, ()) = tokio::try_join!(acting, hearing)?;
    ensure!(told.len() == held.len(), "interruptions were told after {told:?}");
    Ok((acted, told.into_iter().max().unwrap_or_default()))
}

/// A bound on when another worker acts, and on when it's told.
async fn is_followed(lease: &[(&str, &str)], bounds: (Duration, Duration)) -> Result<()> {
    let (acted, told) = is_killed(lease).await?;
    writeln!(std::io::stderr(), "{lease:?}: another worker acts after {acted:?}, and it's told after {told:?}")?;
    ensure!(acted <= bounds.0, "another worker acts after {acted:?} only");
    ensure!(told <= bounds.1, "that another worker acts is told after {told:?} only");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_followed_within_five_seconds_and_told_within_one_more() -> Result<()> {
    is_followed(&[], (Duration::from_secs(5), Duration::from_secs(6))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_lease_of_a_second_a_killed_worker_is_followed_and_told_within_two() -> Result<()> {
    is_followed(&[("SLIPWAY_LEASE", "1s")], (Duration::from_secs(2), Duration::from_secs(2))).await
}
