//! Intake, runner and relay on a real PostgreSQL and a real RabbitMQ, with a scripted pipeline.

#![expect(clippy::unwrap_used, reason = "tests")]

mod services;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use services::proxy::Proxy;
use services::rig::{Options, Outside, Scripted, Worker, eventually, migrated, outgoing, report, request};
use services::{broker, vhost};
use slipway_deploy::seal::KeyRing;
use slipway_deploy::{StageError, seal};
use slipway_protocol::{Change, DeploymentId, ErrorCode, Outcome, Stage, topology};
use slipway_worker::config::Config;
use slipway_worker::credentials::Credentials;
use slipway_worker::lifecycle::Drain;
use slipway_worker::readiness::{Condition, Readiness};
use slipway_worker::store::State;
use slipway_worker::{amqp, engine};
use tokio::sync::Notify;

fn unchanged() -> Scripted {
    Scripted::new(|_| async { Ok(report(Change::Unchanged)) })
}

fn changed() -> Scripted {
    Scripted::new(|_| async { Ok(report(Change::Changed)) })
}

fn id_of(body: &[u8]) -> DeploymentId {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_events_in_order_and_one_result() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let pipeline = Scripted::new(|call| async move {
        if call.stage == Stage::Compose {
            (0..120).for_each(|i| call.reporter.line(Stage::Compose, &format!("line {i}")));
        }
        let url = (call.stage == Stage::Verify).then(|| "http://203.0.113.10:8080".to_owned());
        Ok(slipway_deploy::StageReport { url, ..report(Change::Changed) })
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    let (mut kinds, mut lines) = (Vec::new(), Vec::new());
    let result = loop {
        let event = outside.event().await;
        assert_eq!(event["sequence"], format!("{:010}", kinds.len() + 1), "{event}");
        assert!(event["traceparent"].as_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        kinds.push(event["data"]["kind"].as_str().unwrap_or("result").to_owned());
        lines.extend(event["data"]["lines"].as_array().cloned().unwrap_or_default());
        if event["type"] == "slipway.deployment.result.v1" {
            break event;
        }
    };
    assert_eq!(kinds[..3], ["accepted", "attempt_started", "stage_started"]);
    assert_eq!(kinds.iter().filter(|k| *k == "stage_finished").count(), 7);
    assert_eq!(lines, (0..120).map(|i| format!("line {i}")).collect::<Vec<_>>());
    let data = &result["data"];
    assert_eq!((&data["outcome"], &data["url"]), (&"succeeded".into(), &"http://203.0.113.10:8080".into()));
    assert_eq!(data["correlation"]["task_id"], 42);
    assert_eq!(data["stages"].as_array().unwrap().len(), 7);
    let stages: Vec<_> = pipeline.calls.lock().unwrap().iter().map(|(_, stage)| *stage).collect();
    assert_eq!(stages, Stage::ALL);
    assert_eq!(store.deployment(id_of(&body)).await.unwrap().unwrap().ssh_round_trips, Some(7));
    eventually("a canary has come back", || async {
        let report = serde_json::to_value(worker.readiness.report()).unwrap();
        report["conditions"].as_array().unwrap().iter().any(|c| c["name"] == "canary" && c["met"] == true)
    })
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_do_is_told_apart_from_success() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let worker = Worker::start(store, &amqp, unchanged(), Options::default());
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "already_deployed");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_make_one_deployment() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let pipeline = changed();
    let workers = [
        Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default()),
        Worker::start(database.store("v"), &amqp, pipeline.clone(), Options::default()),
    ];
    let valid = request(|_| {});
    let refused = request(|e| e["data"]["modules"] = serde_json::json!([]));
    for _ in 0..5 {
        outside.publish(&valid).await;
        outside.publish(&refused).await;
    }
    let mut outcomes = [outside.result().await, outside.result().await].map(|r| r["data"]["outcome"].to_string());
    outcomes.sort();
    assert_eq!(outcomes, ["\"failed\"", "\"succeeded\""]);
    // One more, told apart by its id, comes after all of them.
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    assert_eq!(pipeline.attempts(), 2);
    assert_eq!(database.count("SELECT count(*) FROM deployments").await, 3);
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 1);
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE type LIKE '%result%'").await, 3);
    for worker in workers {
        worker.stop().await;
    }
}

/// A database that answers and takes other writes, and fails at each request.
const FULL: &str = "CREATE SEQUENCE tries;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON deployments FOR EACH ROW EXECUTE FUNCTION refuse()";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_database_fails_at_is_kept_in_hand_and_delivered_once() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    database.sql.batch_execute(FULL).await.unwrap();
    let worker = Worker::start(store.clone(), &amqp, changed(), Options::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    eventually("it's tried again and again", || async { database.count("SELECT last_value FROM tries").await >= 4 })
        .await;
    worker.kill().await;
    let link = broker(&amqp, "reader").connect("test").await.unwrap();
    let channel = link.channel().await.unwrap();
    let came = Mutex::new(None);
    eventually("it's back in the queue", || async {
        let got = channel.basic_get(topology::DEPLOYMENTS_QUEUE.into(), Default::default()).await.unwrap();
        let is_back = got.is_some();
        *came.lock().unwrap() = got;
        is_back
    })
    .await;
    let came = came.into_inner().unwrap().unwrap();
    let deliveries = came.delivery.properties.headers().clone().unwrap().inner()["x-delivery-count"].clone();
    assert_eq!(deliveries.as_long_long_int(), Some(1), "given back by the end of its worker alone");
    link.close().await;
    let mend = "DROP TRIGGER refuse ON deployments; UPDATE relay_lease SET expires_at = now()";
    database.sql.batch_execute(mend).await.unwrap();
    let worker = Worker::start(database.store("v"), &amqp, changed(), Options::default());
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&body).to_string());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_only_once_it_is_committed() {
    let ((mut database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let body = request(|_| {});
    let lock = database.sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE deployments IN SHARE MODE").await.unwrap();
    let worker = Worker::start(store.clone(), &amqp, changed(), Options::default());
    outside.publish(&body).await;
    eventually("the intake waits for the lock", || async {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                       WHERE NOT granted AND mode = 'RowExclusiveLock' AND datname = current_database()";
        lock.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    worker.kill().await;
    lock.rollback().await.unwrap();
    // What wasn't acknowledged comes again, to another worker.
    let worker = Worker::start(database.store("v"), &amqp, changed(), Options::default());
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&body).to_string());
    assert_eq!(database.count("SELECT count(*) FROM deployments").await, 1);
    worker.stop().await;
}

/// A request that is refused, as an edit of a valid one.
type Refused = (ErrorCode, fn(&mut serde_json::Value));

fn sealed(key_id: &str) -> serde_json::Value {
    let (_, public) = seal::generate("other").unwrap();
    let public = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, public).unwrap();
    let sealed_box = seal::seal(&public, &"value".into()).unwrap();
    serde_json::json!({ "API_TOKEN": { "sealed": { "key_id": key_id, "sealed_box": sealed_box } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_a_dead_letter_byte_by_byte_and_a_result() {
    let refused: &[Refused] = &[
        (ErrorCode::UnsupportedType, |e| e["type"] = "com.example.other".into()),
        (ErrorCode::UnsupportedVersion, |e| e["type"] = "slipway.project.ready.v9".into()),
        (ErrorCode::MissingField, |e| drop(e["data"].as_object_mut().unwrap().remove("repository"))),
        (ErrorCode::InvalidField, |e| e["data"]["project"]["slug"] = "../etc".into()),
        (ErrorCode::InvalidField, |e| e["data"]["correlation"]["note"] = "a\0b".into()),
        (ErrorCode::PlaintextSecret, |e| e["data"]["variables"]["DB_PASSWORD"] = "hunter2".into()),
        (ErrorCode::ExpiredEvent, |e| e["data"]["expires_at"] = "2020-01-01T00:00:00Z".into()),
        (ErrorCode::UnknownServer, |e| drop(e["data"]["server"].as_object_mut().unwrap().remove("address"))),
        (ErrorCode::UnknownSealingKey, |e| e["data"]["secrets"] = sealed("elsewhere")),
        (ErrorCode::SealedSecretUnreadable, |e| e["data"]["secrets"] = sealed("ours")),
        (ErrorCode::UnknownSecretReference, |e| {
            e["data"]["secrets"] = serde_json::json!({ "API_TOKEN": { "reference": "nowhere" } });
        }),
    ];
    let keys = tempfile::tempdir().unwrap();
    let (private, _) = seal::generate("ours").unwrap();
    let key = keys.path().join("ours.key");
    std::fs::write(&key, secrecy::ExposeSecret::expose_secret(&private)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let credentials = Credentials {
        sealing: KeyRing::load(keys.path()).unwrap(),
        mounted_dir: Some(keys.path().to_owned()),
        ..services::rig::credentials()
    };

    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let worker = Worker::start(store.clone(), &amqp, changed(), Options { credentials, ..Options::default() });
    for (code, edit) in refused {
        let body = request(edit);
        outside.publish(&body).await;
        let result = outside.result().await;
        assert_eq!(result["data"]["failure"]["code"], code.as_str(), "{result}");
        assert_eq!(result["data"]["outcome"], "failed");
        assert_eq!(result["data"]["deployment_id"], id_of(&body).to_string());
        assert_eq!(result["sequence"], "0000000001");
        let letter = outside.dead_letter().await;
        assert_eq!(letter.body, body, "{code}");
        assert_eq!(letter.headers["dlq-error-code"], code.as_str());
        assert_eq!((letter.headers["dlq-stage"].as_str(), letter.headers["dlq-attempts"].as_str()), ("intake", "0"));
        assert_eq!(letter.headers["dlq-original-exchange"], "slipway.requests");
        let stored = store.dead_letter(id_of(&body).0).await.unwrap().unwrap();
        let kept = (*code != ErrorCode::PlaintextSecret).then_some(body);
        assert_eq!((stored.code.as_str(), stored.body), (code.as_str(), kept));
    }
    // Without readable ids there is nobody to tell, but nothing is lost.
    let large = request(|e| e["data"]["variables"]["X"] = "x".repeat(1_100_000).into());
    for (code, body) in [
        (ErrorCode::NotJson, b"\xff\xfenot json".to_vec()),
        (ErrorCode::NotACloudEvent, b"[1]".to_vec()),
        (ErrorCode::MessageTooLarge, large),
    ] {
        for _ in 0..2 {
            outside.publish(&body).await;
        }
        let letter = outside.dead_letter().await;
        assert!(letter.body == body, "{code}");
        assert_eq!(letter.headers["dlq-error-code"], code.as_str());
    }
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, refused.len() as i64 + 3);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_failure_is_retried_with_delay_and_ends_in_a_dead_letter() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let pipeline = Scripted::new(|call| async move {
        match call.stage {
            Stage::Compose => Err(StageError {
                retry_after: Some(Duration::from_millis(300)),
                ..StageError::new(ErrorCode::RegistryUnavailable, "the registry answers 503")
            }),
            _ => Ok(report(Change::Changed)),
        }
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    let mut scheduled = Vec::new();
    let result = loop {
        let event = outside.event().await;
        if event["data"]["kind"] == "attempt_scheduled" {
            let at = |v: &serde_json::Value| v.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            scheduled.push(at(&event["data"]["run_at"]).duration_since(at(&event["time"])));
        }
        if event["type"] == "slipway.deployment.result.v1" {
            break event;
        }
    };
    assert_eq!(scheduled.len(), 2);
    assert!(scheduled.iter().all(|delay| delay.as_millis() >= 250), "{scheduled:?}");
    assert_eq!(pipeline.attempts(), 3);
    assert_eq!(result["data"]["attempts"], 3);
    assert_eq!(result["data"]["failure"]["code"], "registry-unavailable");
    let letter = outside.dead_letter().await;
    assert_eq!(letter.body, body);
    let header = |name: &str| letter.headers[name].as_str();
    assert_eq!((header("dlq-reason"), header("dlq-stage"), header("dlq-attempts")), ("exhausted", "compose", "3"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_failure_is_not_retried_and_a_missing_secret_is_named() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let pipeline = Scripted::new(|_| async {
        Err(StageError {
            missing_secret: Some("BOT_TOKEN".parse().unwrap()),
            ..StageError::new(ErrorCode::MissingSecret, "BOT_TOKEN is required and nobody has given it")
        })
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let data = &result["data"];
    assert_eq!((&data["outcome"], &data["missing_secret"]), (&"missing_secret".into(), &"BOT_TOKEN".into()));
    assert_eq!(outside.dead_letter().await.headers["dlq-reason"], "permanent");
    assert_eq!(pipeline.attempts(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_stops_at_a_boundary_and_another_worker_finishes() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (r, p) = (reached.clone(), proceed.clone());
    let pipeline = Scripted::new(move |call| {
        let (reached, proceed) = (r.clone(), p.clone());
        async move {
            if call.stage == Stage::Clone {
                reached.notify_one();
                proceed.notified().await;
            }
            Ok(report(Change::Changed))
        }
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    worker.drain.begin();
    proceed.notify_one();
    worker.stop().await;
    let deployment = store.deployment(id_of(&body)).await.unwrap().unwrap();
    assert_eq!((deployment.state, deployment.attempt, deployment.interruptions), (State::Pending, 0, 1));
    assert_eq!(pipeline.calls.lock().unwrap().len(), 2);
    assert_eq!(database.count("SELECT count(*) FROM project_leases WHERE expires_at > now()").await, 0);
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE published_at IS NULL").await, 0, "flushed");

    let worker = Worker::start(database.store("v"), &amqp, changed(), Options::default());
    let result = outside.result().await;
    assert_eq!((&result["data"]["outcome"], &result["data"]["attempts"]), (&"succeeded".into(), &1.into()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_drains_deadline_the_running_command_is_cancelled() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let outside = Outside::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let r = reached.clone();
    let pipeline = Scripted::new(move |call| {
        let reached = r.clone();
        async move {
            reached.notify_one();
            call.cancel.cancelled().await;
            Err(StageError::new(ErrorCode::ServerConnectionLost, "cancelled"))
        }
    });
    let options = Options { drain: Duration::from_millis(200), ..Options::default() };
    let worker = Worker::start(store.clone(), &amqp, pipeline, options);
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    worker.stop().await;
    let deployment = store.deployment(id_of(&body)).await.unwrap().unwrap();
    assert_eq!((deployment.state, deployment.interruptions), (State::Pending, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_lease_is_taken_away_is_cancelled() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let (reached, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (r, c) = (reached.clone(), cancelled.clone());
    let pipeline = Scripted::new(move |call| {
        let (reached, cancelled) = (r.clone(), c.clone());
        async move {
            if call.attempt == 1 {
                reached.notify_one();
                call.cancel.cancelled().await;
                cancelled.notify_one();
            }
            Ok(report(Change::Changed))
        }
    });
    let options = Options { lease: Duration::from_secs(1), ..Options::default() };
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), options);
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    database.sql.execute("UPDATE project_leases SET fence = fence + 1, expires_at = now()", &[]).await.unwrap();
    cancelled.notified().await;
    let result = outside.result().await;
    assert_eq!(result["data"]["outcome"], "succeeded");
    assert_eq!(store.deployment(id_of(&body)).await.unwrap().unwrap().interruptions, 1);
    assert_eq!(pipeline.attempts(), 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_is_bound_for_waits_until_somebody_is() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    // Declares the topology, and follows no events.
    let outside = broker(&amqp, "outside").connect("test").await.unwrap();
    amqp::declare(&outside.channel().await.unwrap()).await.unwrap();
    let publisher = amqp::Publisher::open(&outside).await.unwrap();
    let worker = Worker::start(store.clone(), &amqp, changed(), Options::default());
    let body = request(|_| {});
    publisher.publish(&outgoing(&body, &[])).await.unwrap();
    eventually("only the result waits", || async {
        let state = store.deployment(id_of(&body)).await.unwrap().map(|d| d.state);
        state == Some(State::Ended(Outcome::Succeeded)) && store.backlog().await.unwrap().depth == 1
    })
    .await;
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE unrouted").await, 16);
    let mut results = amqp::subscribe(&outside, &["result.#"]).await.unwrap();
    let result = tokio::time::timeout(Duration::from_secs(30), results.next()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8(result.incoming.body).unwrap().contains("succeeded"));
    eventually("it is marked", || async { store.backlog().await.unwrap().depth == 0 }).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_is_bound_for_does_not_hold_up_a_drain() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let outside = broker(&amqp, "outside").connect("test").await.unwrap();
    amqp::declare(&outside.channel().await.unwrap()).await.unwrap();
    let publisher = amqp::Publisher::open(&outside).await.unwrap();
    let worker = Worker::start(store.clone(), &amqp, changed(), Options::default());
    publisher.publish(&outgoing(&request(|_| {}), &[])).await.unwrap();
    eventually("only the result waits", || async {
        let ended =
            store.deployments(&Default::default(), 1).await.unwrap().first().is_some_and(|d| d.state.is_terminal());
        ended && store.backlog().await.unwrap().depth == 1
    })
    .await;
    tokio::time::timeout(Duration::from_secs(5), worker.stop()).await.unwrap();
    assert_eq!(store.backlog().await.unwrap().depth, 1, "kept for the next relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_engine_waits_for_database_and_broker_and_ends_with_its_drain() {
    let (database, amqp) = (services::Database::new().await, vhost());
    // Where they'll be: nobody is there yet.
    let later = [services::free_port(), services::free_port()];
    let moved = |url: &secrecy::SecretString, port: u16| {
        let mut url: reqwest::Url = secrecy::ExposeSecret::expose_secret(url).parse().unwrap();
        let was = url.port().unwrap();
        url.set_port(Some(port)).unwrap();
        (url.to_string(), was)
    };
    let ((amqp_later, amqp_port), (database_later, database_port)) =
        (moved(&amqp, later[0]), moved(&database.url, later[1]));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        path.display().to_string()
    };
    let variables = [
        ("SLIPWAY_AMQP_URL", amqp_later),
        ("SLIPWAY_DATABASE_URL", database_later),
        ("SLIPWAY_SSH_KEY_FILE", file("ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END")),
        ("SLIPWAY_GITHUB_TOKEN_FILE", file("github", "token")),
        ("SLIPWAY_DIGEST_KEY_FILE", file("digest", &"k".repeat(32))),
        ("SLIPWAY_WORKER_NAME", "whole".to_owned()),
    ];
    let config = Config::from_map(variables).unwrap();
    let drain = Drain::new(Duration::from_secs(5));
    let readiness = Readiness::new(&drain);
    let engine = tokio::spawn(engine::run_with(config, Arc::new(changed()), readiness.clone(), drain.clone()));
    let waits = tokio::time::timeout(Duration::from_secs(1), readiness.ready()).await;
    assert!(waits.is_err() && !engine.is_finished());
    let _database = Proxy::listen(later[1], database_port).await;
    tokio::time::timeout(Duration::from_secs(30), readiness.until(Condition::Database, true)).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_secs(1), readiness.ready()).await;
    assert!(waits.is_err() && !engine.is_finished());
    let _broker = Proxy::listen(later[0], amqp_port).await;
    assert!(tokio::time::timeout(Duration::from_secs(30), readiness.ready()).await.unwrap());
    let mut outside = Outside::new(&amqp).await;
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    drain.begin();
    tokio::time::timeout(Duration::from_secs(5), engine).await.unwrap().unwrap().unwrap();
    assert_eq!(database.count("SELECT count(*) FROM relay_lease WHERE expires_at > now()").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_consuming_stops_and_goes_on_later() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let worker = Worker::start(store.clone(), &amqp, changed(), Options::default());
    outside.publish(&request(|_| {})).await;
    outside.result().await;
    // Cut off before it's marked as published, the result would be told twice.
    eventually("nothing waits to be told", || async { store.backlog().await.unwrap().depth == 0 }).await;
    let admin = database.outside().await;
    let shut = format!(
        "ALTER DATABASE {0} ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'",
        database.name
    );
    admin.batch_execute(&shut).await.unwrap();
    let body = request(|_| {});
    outside.publish(&body).await;
    let unready = |worker: &Worker| {
        let report = serde_json::to_value(worker.readiness.report()).unwrap();
        report["conditions"].as_array().unwrap().iter().any(|c| c["name"] == "broker-consumer" && c["met"] == false)
    };
    eventually("the consumer is given up", || async { unready(&worker) }).await;
    admin.batch_execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", database.name)).await.unwrap();
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&body).to_string());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topology_is_checked_without_creating_anything() {
    let amqp = vhost();
    let link = broker(&amqp, "doctor").connect("test").await.unwrap();
    let missing = amqp::check(&link).await.unwrap();
    assert_eq!(missing.len(), topology::EXCHANGES.len() + topology::QUEUES.len(), "{missing:?}");
    assert_eq!(amqp::check(&link).await.unwrap(), missing);
    amqp::declare(&link.channel().await.unwrap()).await.unwrap();
    assert_eq!(amqp::check(&link).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_took_before_a_stage_failed_is_known_to_the_next_attempt() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let known = Arc::new(Mutex::new(Vec::new()));
    let seen = known.clone();
    let pipeline = Scripted::new(move |call| {
        let seen = seen.clone();
        async move {
            if call.stage != Stage::Secrets {
                return Ok(report(Change::Changed));
            }
            seen.lock().unwrap().push(call.work.github_digests.clone());
            if call.attempt == 2 {
                return Ok(report(Change::Changed));
            }
            let mut error = StageError::new(ErrorCode::GithubUnavailable, "GitHub answers 503");
            error.detail.github_digests = Some(BTreeMap::from([("DOTENV".to_owned(), "new".to_owned())]));
            Err(error)
        }
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline, Options::default());
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    let halfway = BTreeMap::from([("DOTENV".to_owned(), "new".to_owned())]);
    assert_eq!(*known.lock().unwrap(), [BTreeMap::new(), halfway]);
    worker.stop().await;
}
