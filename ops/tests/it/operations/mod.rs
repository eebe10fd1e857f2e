//! The command line against a real PostgreSQL and a real RabbitMQ, with the worker's engine where something has to run.
//! Here: what the tests share, deployments and dead letters.

mod allowances;
mod audit;
mod dead_letters;
mod drills;
mod fleet;
mod front_doors;
mod inventory;
mod lifecycle;
mod pending;
mod privileges;
mod pushes;
mod sources;
mod status;
mod topology;
mod watching;

use std::time::Duration;

use crate::program::{sample, slipway, transcript};
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, incoming, report, request};
use crate::services::{TestDatabase, broker, vhost};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use slipway_deploy::StageError;
use slipway_protocol::names::ServiceName;
use slipway_protocol::{
    Change, DeploymentId, ErrorCode, Failure, ProgressKind, ServiceReport, Stage, StageSummary, decode,
};
use slipway_worker::store::{Admission, AttemptSummary, DeploymentEnd, StageEnd, Store};

/// The binary as an operator of this database and broker runs it.
fn operator(database: Option<&TestDatabase>, amqp: Option<&SecretString>) -> assert_cmd::Command {
    let mut command = slipway();
    command.env("USER", "ada").timeout(Duration::from_secs(60));
    if let Some(database) = database {
        command.env("SLIPWAY_DATABASE_URL", database.url.expose_secret());
    }
    if let Some(amqp) = amqp {
        command.env("SLIPWAY_AMQP_URL", amqp.expose_secret());
    }
    command
}

/// Runs it away from the asynchronous threads, which the engine needs.
async fn run(mut command: assert_cmd::Command, args: &[&str]) -> String {
    command.args(args);
    tokio::task::spawn_blocking(move || transcript(&mut command)).await.unwrap()
}

/// What it printed as JSON.
async fn json_of(mut command: assert_cmd::Command, args: &[&str]) -> Value {
    command.args(args).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// A snapshot without what differs from run to run.
fn snapshot(name: &str, text: &str) {
    insta::with_settings!({filters => vec![
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>"),
        (r"(?m)^[0-9a-f]{8}  ", "<id>     "),
        (r"show [0-9a-f]{8}", "show <id>"),
        (r"[0-9a-f]{8} is newer", "<id> is newer"),
        (r"newer deployment [0-9a-f]{8}", "newer deployment <id>"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "<time>"),
        (r"\d+\.\d s", "<s>"),
        (r"127\.0\.0\.1:\d+/t[0-9a-f]+", "<database>"),
        (r"vhost 't\d+'", "vhost '<vhost>'"),
        (r" +<s>", " <s>"),
    ]}, { insta::assert_snapshot!(name, text) });
}

async fn accept(store: &Store, body: &[u8]) -> DeploymentId {
    let incoming = incoming(body);
    let request = decode(body, &incoming.metadata()).unwrap();
    let admission = store.accept(&request, &incoming).await.unwrap();
    assert!(!matches!(admission, Admission::Refused(_)), "{admission:?}");
    request.deployment_id()
}

/// The sample with its sealed secret, a slug of its own and a new id.
fn with_secrets(slug: &str) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(&sample()).unwrap();
    event["id"] = uuid::Uuid::new_v4().to_string().into();
    event["data"]["project"] = json!({ "id": uuid::Uuid::new_v4(), "slug": slug });
    if slug != "corner-shop" {
        event["data"]["repository"]["name"] = format!("acme/{slug}").into();
    }
    event.to_string().into_bytes()
}

async fn stage(store: &Store, lease: &slipway_worker::store::Lease, stage: Stage) -> StageSummary {
    store.stage_started(lease, stage, b"input").await.unwrap();
    let summary = StageSummary { stage, change: Change::Changed, duration_ms: 1500 };
    store
        .stage_finished(lease, StageEnd { summary: &summary, facts: &serde_json::Map::new(), digests: None }, None)
        .await
        .unwrap();
    summary
}

/// Claims the one waiting deployment and brings it to a good end.
async fn succeed(store: &Store) {
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    let stages =
        vec![stage(store, &claim.lease, Stage::Preflight).await, stage(store, &claim.lease, Stage::Clone).await];
    let service = ServiceReport {
        service: ServiceName::new("backend").unwrap(),
        state: "running".to_owned(),
        health: None,
        image: "ghcr.io/acme/shop-backend:sha-0123456".to_owned(),
        restarts: 0,
        replaced: None,
    };
    let seen = AttemptSummary { services: vec![service], stages, round_trips: Some(9), ..AttemptSummary::default() };
    let end = DeploymentEnd::Succeeded { url: Some("http://203.0.113.10:8080".to_owned()) };
    store.finish(&claim.lease, &end, &seen).await.unwrap();
}

/// Claims the one waiting deployment and lets it fail for good.
async fn fail(store: &Store, code: ErrorCode) {
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    store.stage_started(&claim.lease, Stage::Preflight, b"input").await.unwrap();
    let failure = Failure::new(code, Some(Stage::Preflight), "port 8080 is held by process nginx (pid 77)");
    let failure = Failure { tail: vec!["LISTEN 0.0.0.0:8080".to_owned()], ..failure };
    store.stage_failed(&claim.lease, Stage::Preflight, &failure, Duration::from_millis(700), true).await.unwrap();
    let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" };
    store.finish(&claim.lease, &end, &AttemptSummary::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_are_listed_filtered_and_shown_without_any_secret() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    snapshot("deployments-none", &run(operator(), &["deployments", "list"]).await);
    let good = accept(&store, &with_secrets("corner-shop")).await;
    succeed(&store).await;
    let bad = accept(&store, &with_secrets("bakery")).await;
    fail(&store, ErrorCode::PortOccupied).await;

    snapshot("deployments-list", &run(operator(), &["deployments", "list"]).await);
    let failed = json_of(operator(), &["deployments", "list", "--state", "failed"]).await;
    assert_eq!(failed.as_array().unwrap().len(), 1);
    assert_eq!(failed[0]["deployment_id"], bad.to_string());
    let none = json_of(operator(), &["deployments", "list", "--project", "bakery", "--state", "succeeded"]).await;
    assert_eq!(none, json!([]));

    let shown = run(operator(), &["deployments", "show", &good.to_string()]).await;
    snapshot("deployments-show-success", &shown);
    let shown_bad = run(operator(), &["deployments", "show", &bad.to_string()[..8]]).await;
    snapshot("deployments-show-failure", &shown_bad);
    let whole = json_of(operator(), &["deployments", "show", &good.to_string()]).await;
    assert_eq!(whole["ssh_round_trips"], 9);
    assert_eq!(whole["events"].as_array().unwrap().last().unwrap()["data"]["outcome"], "succeeded");
    for text in [shown, shown_bad, whole.to_string()] {
        assert!(!text.contains("q0o3c3YhZ1bV"), "the sealed box is shown: {text}");
    }
    snapshot("deployments-show-unknown", &run(operator(), &["deployments", "show", "00000000"]).await);
    snapshot("deployments-show-nonsense", &run(operator(), &["deployments", "show", "x' OR 1=1"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origins_of_a_projects_variables_are_shown_without_values() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let id = accept(&store, &with_secrets("corner-shop")).await;
    let early = run(operator(), &["deployments", "show", "--env", &id.to_string()]).await;
    assert!(early.contains("hasn't come to its end"), "{early}");

    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    store.stage_started(&claim.lease, Stage::Env, b"input").await.unwrap();
    let summary = StageSummary { stage: Stage::Env, change: Change::Changed, duration_ms: 1500 };
    let facts = json!({ "origins": { "sealed": ["BOT_TOKEN"], "generated": ["POSTGRES_PASSWORD"], "given": ["APP"] } });
    let facts = facts.as_object().unwrap().clone();
    store
        .stage_finished(&claim.lease, StageEnd { summary: &summary, facts: &facts, digests: None }, None)
        .await
        .unwrap();
    snapshot("deployments-show-env", &run(operator(), &["deployments", "show", "--env", &id.to_string()]).await);
    let rows = json_of(operator(), &["deployments", "show", "--env", &id.to_string()]).await;
    assert_eq!(rows[1], json!({ "name": "BOT_TOKEN", "origin": "sealed" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_and_replayed_into_a_new_deployment() {
    let (database, store) = TestDatabase::migrated("w").await;
    let amqp = vhost();
    let mut outside = TestClient::new(&amqp).await;
    // What is in the way goes away after the first attempt.
    let pipeline = ScriptedStages::new(|call| async move {
        match call.attempt {
            1 => Err(StageError::new(ErrorCode::PortOccupied, "port 8080 is held by process nginx (pid 77)")),
            _ => Ok(report(Change::Changed)),
        }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    let body = request(|event| {
        event["data"]["project"] = json!({ "id": uuid::Uuid::new_v4(), "slug": "corner-shop" });
        event["data"]["variables"] = json!({ "GREETING": "hunter2" });
    });
    outside.publish(&body).await;
    outside.dead_letter().await;
    let failed = outside.result().await["data"]["deployment_id"].as_str().unwrap().to_owned();

    let operator = || operator(Some(&database), None);
    let args = |extra: &[&str]| ["dead-letters"].iter().chain(extra).map(|a| (*a).to_owned()).collect::<Vec<_>>();
    let letters = |extra: &[&str]| {
        let (command, args) = (operator(), args(extra));
        async move { run(command, &args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    snapshot("dead-letters-list", &letters(&["list"]).await);
    assert!(letters(&["list", "--stage", "clone"]).await.contains("No such dead letters"));
    let shown = letters(&["show", &failed[..8]]).await;
    assert!(shown.contains("port 8080 is held by process nginx") && !shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("hint: Stop what the message names"), "{shown}");
    let mut raw = operator();
    raw.args(["dead-letters", "show", &failed, "--raw"]);
    assert_eq!(tokio::task::spawn_blocking(move || raw.output().unwrap().stdout).await.unwrap(), body);

    snapshot(
        "dead-letters-replay-dry-run",
        &letters(&["replay", "--all", "--code", "port-occupied", "--dry-run"]).await,
    );
    assert_eq!(database.count("SELECT count(*) FROM dead_letters WHERE state = 'open'").await, 1);
    let replayed = json_of(operator(), &["dead-letters", "replay", &failed]).await;
    let id = replayed["replayed"][0]["deployment_id"].as_str().unwrap().to_owned();
    assert_ne!(id, failed);
    let result = outside.result().await;
    assert_eq!((&result["data"]["deployment_id"], &result["data"]["outcome"]), (&json!(id), &json!("succeeded")));
    worker.stop().await;

    snapshot("dead-letters-replay-again", &letters(&["replay", &failed]).await);
    let record = json_of(operator(), &["dead-letters", "show", &failed]).await;
    let who = record["audit"][0]["who"].as_str().unwrap();
    assert!(who.starts_with("ada@"), "{who}");
    assert_eq!(record["replayed_as"], replayed["replayed"][0]["replay_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_schema_the_operator_is_told_to_start_a_worker() {
    let database = TestDatabase::new().await;
    snapshot("no-schema", &run(operator(Some(&database), None), &["deployments", "list"]).await);
}
