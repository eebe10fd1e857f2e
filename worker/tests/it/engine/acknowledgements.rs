//! Intake: what comes through the queue becomes one deployment or one refusal, and is acknowledged once that is
//! committed.

use std::sync::Mutex;

use slipway_deploy::secrets::seal;
use slipway_deploy::secrets::seal::KeyRing;
use slipway_protocol::{ErrorCode, topology};
use slipway_worker::run::Credentials;

use super::{changed, id_of};
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, migrated, request};
use crate::services::{broker, vhost};

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_make_one_deployment() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = changed();
    let workers = [
        TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default()),
        TestWorker::start(database.store("v"), &amqp, pipeline.clone(), WorkerOptions::default()),
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
    let mut outside = TestClient::new(&amqp).await;
    database.sql.batch_execute(FULL).await.unwrap();
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
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
    let worker = TestWorker::start(database.store("v"), &amqp, changed(), WorkerOptions::default());
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&body).to_string());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_only_once_it_is_committed() {
    let ((mut database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let body = request(|_| {});
    let lock = database.sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE deployments IN SHARE MODE").await.unwrap();
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
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
    let worker = TestWorker::start(database.store("v"), &amqp, changed(), WorkerOptions::default());
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&body).to_string());
    assert_eq!(database.count("SELECT count(*) FROM deployments").await, 1);
    worker.stop().await;
}

fn sealed(key_id: &str) -> serde_json::Value {
    let (_, public) = seal::generate("other").unwrap();
    let public = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, public).unwrap();
    let sealed_box = seal::seal(&public, &"value".into()).unwrap();
    serde_json::json!({ "API_TOKEN": { "sealed": { "key_id": key_id, "sealed_box": sealed_box } } })
}

/// A request that is refused, as an edit of a valid one.
type Refused = (ErrorCode, fn(&mut serde_json::Value));

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
        (ErrorCode::UnknownSecretReference, |e| {
            e["data"]["registry"] = serde_json::json!({ "username": "robot", "password": { "reference": "nowhere" } });
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
        ..crate::services::test_worker::credentials()
    };

    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker =
        TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions { credentials, ..WorkerOptions::default() });
    for (code, edit) in refused {
        let body = request(edit);
        outside.publish(&body).await;
        let result = outside.result().await;
        assert_eq!(result["data"]["failure"]["code"], code.as_str(), "{result}");
        assert_eq!(result["data"]["outcome"], "failed");
        assert_eq!(result["data"]["deployment_id"], id_of(&body).to_string());
        assert_eq!(result["sequence"], "0000000001");
        let letter = outside.dead_letter().await;
        // What holds a secret in plain text is kept nowhere.
        assert_eq!(letter.body == body, *code != ErrorCode::PlaintextSecret, "{code}");
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
