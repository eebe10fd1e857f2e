//! Without the database, without the broker, and before either is there.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use slipway_deploy::secrets::keys::DeployKey;
use slipway_protocol::topology;
use slipway_worker::config::Config;
use slipway_worker::process::Drain;
use slipway_worker::process::{Condition, Readiness};
use slipway_worker::{amqp, engine};

use super::{changed, id_of, unchanged};
use crate::logged::logged;
use crate::services::proxy::Proxy;
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, migrated, request};
use crate::services::{broker, vhost};

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_engine_waits_for_database_and_broker_and_ends_with_its_drain() {
    let (database, amqp) = (crate::services::TestDatabase::new().await, vhost());
    // Where they'll be: nobody is there yet.
    let later = [crate::services::free_port(), crate::services::free_port()];
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
        ("SLIPWAY_SSH_KEY_FILE", file("ssh", DeployKey::generate("test").unwrap().private.expose_secret())),
        ("SLIPWAY_GITHUB_TOKEN_FILE", file("github", "token")),
        ("SLIPWAY_DIGEST_KEY_FILE", file("digest", &"k".repeat(32))),
        ("SLIPWAY_WORKER_NAME", "whole".to_owned()),
        ("SLIPWAY_SERVERS_FROM_EVENTS", "true".to_owned()),
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
    let mut outside = TestClient::new(&amqp).await;
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    drain.begin();
    tokio::time::timeout(Duration::from_secs(5), engine).await.unwrap().unwrap().unwrap();
    assert_eq!(database.count("SELECT count(*) FROM relay_lease WHERE expires_at > now()").await, 0);
}

/// Takes a database away from all who use it: first from those who come, then from those who are there.
async fn shut(admin: &tokio_postgres::Client, database: &str) {
    admin.batch_execute(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false")).await.unwrap();
    eventually("nobody is connected", || async {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        admin.query(end, &[&database]).await.unwrap().is_empty()
    })
    .await;
}

/// Lets them come back.
async fn open(admin: &tokio_postgres::Client, database: &str) {
    admin.batch_execute(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_consuming_stops_and_goes_on_later() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    outside.result().await;
    // Cut off before it's marked as published, the result would be told twice.
    eventually("nothing waits to be told", || async { store.backlog().await.unwrap().depth == 0 }).await;
    let relay = "SELECT fence FROM relay_lease";
    let before = database.count(relay).await;
    let admin = database.outside().await;
    shut(&admin, &database.name).await;
    let body = request(|_| {});
    outside.publish(&body).await;
    let unready = |worker: &TestWorker| {
        let report = serde_json::to_value(worker.readiness.report()).unwrap();
        report["conditions"].as_array().unwrap().iter().any(|c| c["name"] == "broker-consumer" && c["met"] == false)
    };
    eventually("the consumer is given up", || async { unready(&worker) }).await;
    open(&admin, &database.name).await;
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&body).to_string());
    let after: i64 = database.another().await.query_one(relay, &[]).await.unwrap().get(0);
    assert_eq!(after, before, "the relay waited for the end of its own lease");
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

#[tokio::test]
async fn a_database_outage_is_logged_once_by_each_part_that_misses_it_and_its_end_once() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let (log, _guard) = logged();
    let worker = TestWorker::start(store, &amqp, changed(), WorkerOptions::default());
    assert!(worker.readiness.ready().await);
    let admin = database.outside().await;
    shut(&admin, &database.name).await;
    // A relay whose lease has ended meanwhile asks for it again, as another part.
    for who in ["runner", "relay"] {
        let again = || log.parts("still fails").iter().filter(|part| part.starts_with(who)).count();
        eventually("it is tried again and again", || async { again() >= 3 }).await;
    }
    open(&admin, &database.name).await;
    let missed = "the database fails;";
    eventually("it's back", || async { log.parts("the database is there again") == log.parts(missed) }).await;
    let mut once = log.parts(missed);
    once.dedup();
    assert_eq!(log.parts(missed), once);
    worker.stop().await;
}

#[tokio::test]
async fn a_queue_with_other_settings_is_told_once_with_what_to_do() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let link = broker(&amqp, "outside").connect("test").await.unwrap();
    let queue = topology::DEPLOYMENTS_QUEUE;
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    let channel = link.channel().await.unwrap();
    channel.queue_declare(queue.into(), durable, Default::default()).await.unwrap();

    let (log, _guard) = logged();
    let worker = TestWorker::start(store, &amqp, unchanged(), WorkerOptions::default());
    eventually("it has tried again and again", || async { log.lines("DEBUG", "the consumer ended") >= 3 }).await;
    for purpose in ["consume", "publish", "ingest"] {
        let purpose = format!("purpose=\"{purpose}\"");
        assert_eq!(log.lines(" WARN ", &purpose), 1);
        assert!(log.lines(" INFO ", &purpose) <= 1);
    }
    assert_eq!(log.lines(" WARN ", "queue slipway.deployments is on the broker with other settings"), 3);
    assert_eq!(log.lines(" WARN ", "`slipway topology check` says what to do"), 3);

    link.channel().await.unwrap().queue_delete(queue.into(), Default::default()).await.unwrap();
    assert!(worker.readiness.ready().await);
    worker.stop().await;
}
