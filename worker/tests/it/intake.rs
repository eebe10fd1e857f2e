//! What RabbitMQ itself gives up, on a real one whose delivery limit is really reached.

use std::collections::BTreeMap;

use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, incoming, migrated, outgoing, report, request,
};
use crate::services::{TestDatabase, broker, vhost};
use lapin::options::{BasicGetOptions, BasicRejectOptions, QueueDeclareOptions};
use secrecy::SecretString;
use serde_json::{Value, json};
use slipway_protocol::{Change, DeploymentId, decode, topology};
use slipway_worker::amqp::Publisher;
use slipway_worker::message::Outgoing;
use slipway_worker::store::{DeadLetter, DeadLetterFilter, Operator, Replay, Store};
use tokio::task::JoinHandle;

fn changed() -> ScriptedStages {
    ScriptedStages::new(|_| async { Ok(report(Change::Changed)) })
}

fn id_of(body: &[u8]) -> DeploymentId {
    decode(body, &incoming(body).metadata()).unwrap().deployment_id()
}

/// A consumer that dies at every message, for ever.
fn dying_consumer(amqp: &SecretString) -> JoinHandle<()> {
    let amqp = amqp.clone();
    tokio::spawn(async move {
        let link = broker(&amqp, "dying").connect("test").await.unwrap();
        loop {
            let channel = link.channel().await.unwrap();
            let get = || channel.basic_get(topology::DEPLOYMENTS_QUEUE.into(), BasicGetOptions::default());
            while get().await.unwrap().is_some() {}
            channel.close(200, "died".into()).await.unwrap();
        }
    })
}

/// Publishes `messages` and lets every one of them reach the delivery limit.
async fn given_up(outside: &mut TestClient, amqp: &SecretString, messages: &[Outgoing]) {
    let dying = dying_consumer(amqp);
    for message in messages {
        outside.publisher.publish(message).await.unwrap();
    }
    for _ in messages {
        outside.dead_letter().await;
    }
    dying.abort();
    let _ = dying.await;
}

/// A consumer that doesn't want a message.
async fn rejected(outside: &mut TestClient, amqp: &SecretString, body: &[u8]) {
    outside.publish(body).await;
    let link = broker(amqp, "rejecting").connect("test").await.unwrap();
    let channel = link.channel().await.unwrap();
    let get = || channel.basic_get(topology::DEPLOYMENTS_QUEUE.into(), BasicGetOptions::default());
    let message = loop {
        if let Some(message) = get().await.unwrap() {
            break message;
        }
    };
    message.delivery.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    outside.dead_letter().await;
    link.close().await;
}

async fn waiting(amqp: &SecretString, queue: &str) -> u32 {
    let link = broker(amqp, "counting").connect("test").await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = link.channel().await.unwrap();
    let declared = channel.queue_declare(queue.into(), passive, Default::default()).await.unwrap();
    let count = declared.message_count();
    link.close().await;
    count
}

async fn letter(store: &Store, id: DeploymentId) -> Option<DeadLetter> {
    store.dead_letter(id.0).await.unwrap()
}

async fn letters(database: &TestDatabase, count: i64) {
    eventually("the dead letters are ingested", || async {
        database.count("SELECT count(*) FROM dead_letters").await == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_at_its_delivery_limit_is_a_dead_letter_though_the_database_was_away() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let body = request(|_| {});
    let message = outgoing(&body, &[("x-tenant", "acme"), ("dlq-worker", "forged"), ("dlq-reason", "forged")]);
    given_up(&mut outside, &amqp, std::slice::from_ref(&message)).await;

    // Without the database it's kept in hand: giving it back would count towards the delivery limit.
    let admin = database.outside().await;
    let allow = |yes: bool| format!("ALTER DATABASE {} ALLOW_CONNECTIONS {yes}", database.name);
    admin.batch_execute(&allow(false)).await.unwrap();
    let worker = TestWorker::start(database.store("v"), &amqp, changed(), WorkerOptions::default());
    eventually("it's in hand", || async { waiting(&amqp, topology::DEAD_LETTERS_INGEST_QUEUE).await == 0 }).await;
    admin.batch_execute(&allow(true)).await.unwrap();
    let result = outside.result().await;
    assert_eq!(waiting(&amqp, topology::PARKED_QUEUE).await, 0);
    assert_eq!(result["data"]["deployment_id"], id_of(&body).to_string());
    assert_eq!(result["data"]["outcome"], "failed");
    assert_eq!(result["data"]["failure"]["code"], "delivery-limit-reached");
    assert_eq!(result["data"]["correlation"]["task_id"], 42);
    let found = letter(&store, id_of(&body)).await.unwrap();
    assert_eq!((found.body.as_deref(), &found.headers), (Some(&body[..]), &message.headers));
    assert_eq!((found.reason.as_str(), found.code.as_str()), ("delivery-limit", "delivery-limit-reached"));
    assert_eq!((found.stage.as_str(), found.original_exchange.as_str()), ("intake", "slipway.requests"));
    assert_eq!(found.original_routing_key, "slipway.project.ready.v1");

    let one = DeadLetterFilter { ids: vec![found.id], ..DeadLetterFilter::default() };
    let operator = Operator::new("ada", None);
    let sent = store.replay_dead_letters(&one, Replay::default(), &operator, 10).await.unwrap();
    let result = outside.result().await;
    assert_eq!(result["data"]["outcome"], "succeeded");
    assert_eq!(result["data"]["deployment_id"], sent[0].deployment.unwrap().to_string());
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_hand_is_stored_though_a_drain_begins() {
    let ((mut database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    given_up(&mut outside, &amqp, &[outgoing(&request(|_| {}), &[])]).await;
    let lock = database.sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE dead_letters IN SHARE MODE").await.unwrap();
    let worker = TestWorker::start(store, &amqp, changed(), WorkerOptions::default());
    eventually("it waits for the lock", || async {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                       WHERE NOT granted AND mode = 'RowExclusiveLock' AND datname = current_database()";
        lock.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    let drain = worker.drain.clone();
    let stopped = tokio::spawn(worker.stop());
    drain.token().cancelled().await;
    lock.rollback().await.unwrap();
    stopped.await.unwrap();
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 1);
    assert_eq!(waiting(&amqp, topology::DEAD_LETTERS_INGEST_QUEUE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_gives_up_is_told_apart_from_what_workers_and_strangers_publish() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let settled = request(|_| {});
    store.accept(&decode(&settled, &incoming(&settled).metadata()).unwrap(), &incoming(&settled)).await.unwrap();
    let no_ids = b"\xff no json".to_vec();
    let leaked = request(|e| e["data"]["secrets"] = json!({ "API_KEY": "hunter2hunter2" }));
    let invalid = request(|e| e["data"]["modules"] = json!([]));
    let twice = request(|_| {});
    let bodies = [&settled, &no_ids, &leaked, &invalid, &twice, &twice];
    given_up(&mut outside, &amqp, &bodies.map(|body| outgoing(body, &[]))).await;
    let unwanted = request(|_| {});
    rejected(&mut outside, &amqp, &unwanted).await;

    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let mut results: BTreeMap<String, Value> = BTreeMap::new();
    for _ in 0..5 {
        let result = outside.result().await["data"].clone();
        results.insert(result["deployment_id"].as_str().unwrap().to_owned(), result);
    }
    letters(&database, 5).await;
    let of = |id: DeploymentId| (&results[&id.to_string()]["outcome"], &results[&id.to_string()]["failure"]["code"]);
    let event: Value = serde_json::from_slice(&leaked).unwrap();
    let leaked_id = DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None);
    let invalid: Value = serde_json::from_slice(&invalid).unwrap();
    let invalid_id = DeploymentId::of(invalid["source"].as_str().unwrap(), invalid["id"].as_str().unwrap(), None);
    let failed = |code| (Value::from("failed"), Value::from(code));
    assert_eq!(of(id_of(&settled)).0, "succeeded", "its deployment was here: nothing is given up");
    assert_eq!(of(leaked_id), (&failed("plaintext-secret").0, &failed("plaintext-secret").1));
    assert_eq!(of(invalid_id), (&failed("").0, &failed("delivery-limit-reached").1));
    assert_eq!(of(id_of(&twice)), (&failed("").0, &failed("delivery-limit-reached").1));
    assert_eq!(of(id_of(&unwanted)), (&failed("").0, &failed("rejected-by-consumer").1));
    assert_eq!(letter(&store, leaked_id).await.unwrap().body, None);
    assert!(letter(&store, invalid_id).await.unwrap().message.contains("would have refused it: /data/modules"));
    assert!(letter(&store, id_of(&settled)).await.is_none());
    let unread = DeadLetterFilter { code: Some("delivery-limit-reached".to_owned()), ..DeadLetterFilter::default() };
    let unread = store.dead_letters(&unread, 10).await.unwrap();
    assert!(unread.iter().any(|l| l.body.as_ref() == Some(&no_ids) && l.deployment.is_none()));
    for table in ["deployments", "outbox", "dead_letters", "operator_audit"] {
        let leaks = format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%hunter2hunter2%'");
        assert_eq!(database.count(&leaks).await, 0, "{table}");
    }
    eventually("nothing waits", || async { waiting(&amqp, topology::DEAD_LETTERS_INGEST_QUEUE).await == 0 }).await;
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE type LIKE '%result%'").await, 5);

    // A worker's own dead letters are passed over; a stranger's is kept.
    outside.publish(&request(|e| e["data"]["modules"] = json!([]))).await;
    outside.publish(b"no json").await;
    outside.dead_letter().await;
    outside.dead_letter().await;
    // Published by somebody who claims to be a worker, though the database knows nothing of it.
    let body = request(|_| {});
    let forged = id_of(&body).to_string();
    let headers = [("dlq-worker", "w"), ("dlq-reason", "rejected"), ("dlq-deployment-id", forged.as_str())];
    let stray = Outgoing { exchange: topology::DEAD_LETTER_EXCHANGE.to_owned(), ..outgoing(&body, &headers) };
    let link = broker(&amqp, "stranger").connect("test").await.unwrap();
    Publisher::open(&link).await.unwrap().publish(&stray).await.unwrap();
    letters(&database, 5 + 3).await;
    eventually("nothing waits", || async { waiting(&amqp, topology::DEAD_LETTERS_INGEST_QUEUE).await == 0 }).await;
    assert_eq!(database.count("SELECT count(*) FROM dead_letters WHERE code = 'unexplained-dead-letter'").await, 1);
    assert_eq!(database.count("SELECT count(*) FROM deployments").await, 6, "a stray letter is no deployment");
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 5 + 3);
    worker.stop().await;
}
