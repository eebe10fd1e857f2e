//! The command line against a real PostgreSQL and a real RabbitMQ, with the worker's engine where something has to run.

#![expect(clippy::unwrap_used, reason = "tests")]

mod it;
#[path = "../../worker/tests/services/mod.rs"]
mod services;

use std::time::Duration;

use it::{sample, slipway, transcript};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use services::rig::{Options, Outside, Scripted, Worker, incoming, report, request};
use services::{Database, broker, vhost};
use slipway_deploy::StageError;
use slipway_protocol::names::ServiceName;
use slipway_protocol::{
    Change, DeploymentId, ErrorCode, Failure, ServiceReport, Stage, StageSummary, decode, topology,
};
use slipway_worker::amqp;
use slipway_worker::store::{End, StageEnd, Store};

/// The binary as an operator of this database and broker runs it.
fn operator(database: Option<&Database>, amqp: Option<&SecretString>) -> assert_cmd::Command {
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
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "<time>"),
        (r"\d+\.\d s", "<s>"),
        (r"\b[a-z0-9]+@\S+", "<who>"),
        (r" +<s>", " <s>"),
    ]}, { insta::assert_snapshot!(name, text) });
}

async fn accept(store: &Store, body: &[u8]) -> DeploymentId {
    let incoming = incoming(body);
    let request = decode(body, &incoming.metadata()).unwrap();
    store.accept(&request, &incoming).await.unwrap();
    request.deployment_id()
}

/// The sample with its sealed secret, a slug of its own and a new id.
fn with_secrets(slug: &str) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(&sample()).unwrap();
    event["id"] = uuid::Uuid::new_v4().to_string().into();
    event["data"]["project"] = json!({ "id": uuid::Uuid::new_v4(), "slug": slug });
    event.to_string().into_bytes()
}

async fn stage(store: &Store, lease: &slipway_worker::store::Lease, stage: Stage) -> StageSummary {
    store.stage_started(lease, stage, b"input").await.unwrap();
    let summary = StageSummary { stage, change: Change::Changed, duration_ms: 1500 };
    store.stage_finished(lease, &summary, &serde_json::Map::new(), None).await.unwrap();
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
    };
    let seen = StageEnd { services: vec![service], stages, round_trips: Some(9) };
    let end = End::Succeeded { url: Some("http://203.0.113.10:8080".to_owned()) };
    store.finish(&claim.lease, &end, &seen).await.unwrap();
}

/// Claims the one waiting deployment and lets it fail for good.
async fn fail(store: &Store, code: ErrorCode) {
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    store.stage_started(&claim.lease, Stage::Preflight, b"input").await.unwrap();
    let failure = Failure::new(code, Some(Stage::Preflight), "port 8080 is held by process nginx (pid 77)");
    let failure = Failure { tail: vec!["LISTEN 0.0.0.0:8080".to_owned()], ..failure };
    store.stage_failed(&claim.lease, Stage::Preflight, &failure, Duration::from_millis(700)).await.unwrap();
    let end = End::Failed { failure, missing_secret: None, reason: "permanent" };
    store.finish(&claim.lease, &end, &StageEnd::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_reported_then_declared_and_a_second_time_is_harmless() {
    let amqp = vhost();
    let operator = || operator(None, Some(&amqp));
    snapshot("topology-missing", &run(operator(), &["topology", "check"]).await);
    let mut submit = operator();
    submit.write_stdin(sample());
    snapshot("submit-without-exchange", &run(submit, &["submit", "-"]).await);
    snapshot("topology-apply", &run(operator(), &["topology", "apply"]).await);
    snapshot("topology-apply-again", &run(operator(), &["topology", "apply"]).await);
    snapshot("topology-complete", &run(operator(), &["topology", "check"]).await);
    assert_eq!(json_of(operator(), &["topology", "check"]).await, json!({ "problems": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_explained_and_left_alone() {
    let amqp = vhost();
    let link = broker(&amqp, "test").connect("test").await.unwrap();
    let channel = link.channel().await.unwrap();
    amqp::declare(&channel).await.unwrap();
    let queue = topology::DEPLOYMENTS_QUEUE;
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();

    let operator = || operator(None, Some(&amqp));
    snapshot("topology-differs", &run(operator(), &["topology", "check"]).await);
    snapshot("topology-apply-refused", &run(operator(), &["topology", "apply"]).await);
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_event_reaches_the_queue_byte_for_byte() {
    let amqp = vhost();
    let link = broker(&amqp, "test").connect("test").await.unwrap();
    amqp::declare(&link.channel().await.unwrap()).await.unwrap();
    let mut submit = operator(None, Some(&amqp));
    submit.write_stdin(sample());
    snapshot("submit", &run(submit, &["submit", "-"]).await);

    let mut queue = amqp::consume(&link, topology::DEPLOYMENTS_QUEUE, 1).await.unwrap();
    let delivered = tokio::time::timeout(Duration::from_secs(20), queue.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(delivered.incoming.body, sample());
    assert_eq!(delivered.incoming.routing_key, "slipway.project.ready.v1");
    assert_eq!(delivered.incoming.content_type.as_deref(), Some("application/cloudevents+json"));
    assert!(delivered.incoming.headers.contains_key("traceparent"), "{:?}", delivered.incoming.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_are_listed_filtered_and_shown_without_any_secret() {
    let (database, store) = Database::migrated("w").await;
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
async fn watching_tells_history_and_presence_once_each_and_in_order() {
    let (database, store) = Database::migrated("w").await;
    let id = accept(&store, &with_secrets("corner-shop")).await;
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    let first = stage(&store, &claim.lease, Stage::Preflight).await;
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("slipway"))
        .args(["watch", "--json", &id.to_string()])
        .env("SLIPWAY_DATABASE_URL", database.url.expose_secret())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)) {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let _ = sender.send(event["sequence"].as_str().unwrap().parse::<u64>().unwrap());
        }
    });
    // The past has arrived: what follows is the present.
    for sequence in 1..=4 {
        assert_eq!(lines.recv().await, Some(sequence));
    }
    let second = stage(&store, &claim.lease, Stage::Clone).await;
    assert_eq!((lines.recv().await, lines.recv().await), (Some(5), Some(6)));
    let seen = StageEnd { stages: vec![first, second], ..StageEnd::default() };
    store.finish(&claim.lease, &End::Succeeded { url: None }, &seen).await.unwrap();
    assert_eq!((lines.recv().await, lines.recv().await), (Some(7), None));
    assert_eq!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_watching_is_the_outcome() {
    let (database, store) = Database::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let good = accept(&store, &with_secrets("corner-shop")).await;
    succeed(&store).await;
    snapshot("watch-success", &run(operator(), &["watch", &good.to_string()]).await);
    let bad = accept(&store, &with_secrets("bakery")).await;
    fail(&store, ErrorCode::PortOccupied).await;
    snapshot("watch-failure", &run(operator(), &["watch", &bad.to_string()]).await);

    let waiting = accept(&store, &with_secrets("florist")).await;
    snapshot("deployments-cancel", &run(operator(), &["deployments", "cancel", &waiting.to_string()]).await);
    snapshot("watch-cancelled", &run(operator(), &["watch", &waiting.to_string()]).await);
    snapshot("deployments-cancel-again", &run(operator(), &["deployments", "cancel", &waiting.to_string()]).await);

    let nobody = run(operator(), &["watch", "0199c3a2-0000-5000-8000-000000000000", "--appear-within", "100ms"]).await;
    snapshot("watch-unknown", &nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_pruned_long_ago_still_ends_the_watch_with_its_result() {
    let (database, store) = Database::migrated("w").await;
    let id = accept(&store, &with_secrets("corner-shop")).await;
    succeed(&store).await;
    database.sql.execute("DELETE FROM outbox", &[]).await.unwrap();
    let watched = run(operator(Some(&database), None), &["watch", &id.to_string()]).await;
    assert!(watched.starts_with("exit: 0\n") && watched.contains("Finished all in"), "{watched}");
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_and_watch_together_end_with_the_outcome() {
    let (database, store) = Database::migrated("w").await;
    let amqp = vhost();
    let _outside = Outside::new(&amqp).await;
    let worker =
        Worker::start(store, &amqp, Scripted::new(|_| async { Ok(report(Change::Changed)) }), Options::default());
    let mut submit = operator(Some(&database), Some(&amqp));
    submit.write_stdin(request(|_| {}));
    let told = run(submit, &["submit", "-", "--watch"]).await;
    worker.stop().await;
    assert!(told.starts_with("exit: 0\n"), "{told}");
    for stage in Stage::ALL {
        assert!(told.contains(&format!("{:<9}  changed in", stage.as_str())), "{stage}: {told}");
    }
    assert!(told.contains("Finished all in"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_and_replayed_into_a_new_deployment() {
    let (database, store) = Database::migrated("w").await;
    let amqp = vhost();
    let mut outside = Outside::new(&amqp).await;
    // What is in the way goes away after the first attempt.
    let pipeline = Scripted::new(|call| async move {
        match call.attempt {
            1 => Err(StageError::new(ErrorCode::PortOccupied, "port 8080 is held by process nginx (pid 77)")),
            _ => Ok(report(Change::Changed)),
        }
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline, Options::default());
    let body = request(|event| event["data"]["variables"] = json!({ "GREETING": "hunter2" }));
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
    let note = record["note"].as_str().unwrap();
    assert!(note.contains("by ada@"), "{note}");
    assert_eq!(record["replayed_as"], replayed["replayed"][0]["replay_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_changes_only_what_is_given_and_keeps_keys_encrypted() {
    let (database, store) = Database::migrated("w").await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let operator = || operator(Some(&database), None);
    let key = slipway_deploy::keys::DeployKey::generate("fleet").unwrap().private;
    std::fs::write(path("key"), key.expose_secret()).unwrap();
    let host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake";

    snapshot("servers-add-without-address", &run(operator(), &["servers", "add", "vps-1"]).await);
    snapshot("servers-add", &run(operator(), &["servers", "add", "vps-1", "--address", "203.0.113.10"]).await);
    run(operator(), &["servers", "add", "vps-1", "--host-key", host_key, "--port", "2222", "--note", "8 GB"]).await;
    run(operator(), &["keys", "generate", "age", "--out", &path("identity")]).await;
    let added = ["servers", "add", "vps-1", "--key-file", &path("key"), "--age-identity-file", &path("identity")];
    let added = run(operator(), &added).await;
    assert!(added.starts_with("exit: 0\n"), "{added}");
    snapshot("servers-list", &run(operator(), &["servers", "list"]).await);

    let record = store.server(&"vps-1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((record.ssh_port.get(), record.host_key.unwrap().as_str()), (2222, host_key));
    let encrypted = record.ssh_key_enc.unwrap();
    let opened = slipway_deploy::keys::decrypt_ssh_key(&encrypted, &dir.path().join("identity")).unwrap();
    assert_eq!(opened.expose_secret(), key.expose_secret());
    let listed = json_of(operator(), &["servers", "list"]).await;
    assert!(!listed.to_string().contains("AGE ENCRYPTED"), "{listed}");

    snapshot("servers-remove", &run(operator(), &["servers", "remove", "vps-1"]).await);
    snapshot("servers-remove-again", &run(operator(), &["servers", "remove", "vps-1"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_checked_says_why_and_what_to_do() {
    let (database, _store) = Database::migrated("w").await;
    let dir = tempfile::tempdir().unwrap();
    let operator = || operator(Some(&database), None);
    let key = dir.path().join("key");
    std::fs::write(&key, slipway_deploy::keys::DeployKey::generate("fleet").unwrap().private.expose_secret()).unwrap();
    // Taken and not listened on by anybody: a connection is refused at once.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    drop(socket);
    run(operator(), &["servers", "add", "vps-1", "--address", "127.0.0.1", "--port", &port, "--trust-on-first-use"])
        .await;

    snapshot("servers-check-unknown", &run(operator(), &["servers", "check", "vps-2"]).await);
    snapshot("servers-check-without-key", &run(operator(), &["servers", "check", "vps-1"]).await);
    let unreachable = ["servers", "check", "vps-1", "--ssh-key-file", key.to_str().unwrap()];
    let unreachable = run(operator(), &unreachable).await.replace(&port, "<port>");
    snapshot("servers-check-unreachable", &unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_schema_the_operator_is_told_to_start_a_worker() {
    let database = Database::new().await;
    snapshot("no-schema", &run(operator(Some(&database), None), &["deployments", "list"]).await);
}
