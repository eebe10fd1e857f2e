//! The relay against brokers that refuse, return and hang up: of each deployment every event goes out, in order, and
//! none before the one before it.

use std::collections::HashMap;

use crate::services::ledger::{TOLD, TestLedger};
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};
use crate::services::vhost;
use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use secrecy::SecretString;
use slipway_protocol::{Change, Stage, topology};
use slipway_worker::amqp::BrokerConnection;
use slipway_worker::store::Store;

/// Deployments at once, with a dozen and more events each.
const BURST: usize = 4;
/// A row tells one event or more, from its number on.
const UNROUTED: &str =
    "SELECT deployment_id::text, generate_series(sequence, sequence + events - 1) FROM outbox WHERE unrouted";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// A subscriber's queue is full now and then, and the broker refuses what it can't put there.
    FullQueue,
    /// Nobody is bound for results, for a while.
    NobodyBound,
    /// The exchange is deleted, which ends the relay's channel, and made again.
    ExchangeGone,
}

const ALL: [Refusal; 3] = [Refusal::FullQueue, Refusal::NobodyBound, Refusal::ExchangeGone];

async fn bind(link: &BrokerConnection, queue: &str, pattern: &str) {
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let channel = link.channel().await.unwrap();
    channel.queue_bind(queue.into(), topology::EVENTS.into(), pattern.into(), options, arguments).await.unwrap();
}

async fn unbind_all(link: &BrokerConnection) {
    let channel = link.channel().await.unwrap();
    channel.queue_unbind(TOLD.into(), topology::EVENTS.into(), "#".into(), FieldTable::default()).await.unwrap();
}

/// A queue of four that refuses a fifth.
async fn narrow(link: &BrokerConnection, pattern: &str, most: i64) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(most));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let channel = link.channel().await.unwrap();
    channel.queue_declare("narrow".into(), QueueDeclareOptions::default(), arguments).await.unwrap();
    bind(link, "narrow", pattern).await;
}

/// Whether all has happened and `waiting` events wait to be told; in between as many may wait, too.
async fn is_told_but(waiting: usize, store: &Store) -> bool {
    let deployments = store.deployments(&Default::default(), 100).await.unwrap();
    let ended = deployments.iter().filter(|deployment| deployment.state.is_terminal()).count();
    ended == BURST && store.backlog().await.unwrap().depth == waiting as u64
}

/// Empties the narrow queue, again and again.
async fn widen(link: &BrokerConnection, store: &Store) {
    let channel = link.channel().await.unwrap();
    eventually("everything is told", || async {
        channel.queue_purge("narrow".into(), Default::default()).await.unwrap();
        is_told_but(0, store).await
    })
    .await;
}

async fn goes_through(refusal: Refusal, url: SecretString) {
    let (database, store) = migrated("w").await;
    let mut ledger = TestLedger::open(url.clone()).await;
    let link = ledger.connect().await;
    match refusal {
        Refusal::FullQueue => narrow(&link, "#", 4).await,
        Refusal::NobodyBound => {
            unbind_all(&link).await;
            bind(&link, TOLD, "progress.#").await;
        }
        Refusal::ExchangeGone => {}
    }
    let pipeline = ScriptedStages::new(|call| async move {
        (0..10).for_each(|i| call.reporter.line(Stage::Compose, &format!("line {i}")));
        Ok(report(Change::Changed))
    });
    let worker = TestWorker::start(store.clone(), &url, pipeline, WorkerOptions::default());
    let bodies = (0..BURST).map(|i| request(|event| event["data"]["project"]["slug"] = format!("p{i}").into()));
    ledger.publish(bodies.collect()).await;
    let told = async || database.count("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL").await;
    match refusal {
        Refusal::FullQueue => widen(&link, &store).await,
        Refusal::NobodyBound => {
            eventually("only results wait", || is_told_but(BURST, &store)).await;
            bind(&link, TOLD, "result.#").await;
        }
        Refusal::ExchangeGone => {
            eventually("some is told", || async { told().await > 10 }).await;
            let channel = link.channel().await.unwrap();
            channel.exchange_delete(topology::EVENTS.into(), Default::default()).await.unwrap();
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let (name, none) = (topology::EVENTS.into(), FieldTable::default());
            channel.exchange_declare(name, ExchangeKind::Topic, options, none).await.unwrap();
            bind(&link, TOLD, "#").await;
        }
    }
    eventually("everything is told", || is_told_but(0, &store)).await;
    // What the broker said it had no queue for may be missing, and nothing else.
    let unrouted = database.sql.query(UNROUTED, &[]).await.unwrap();
    ledger.excuse(unrouted.iter().map(|row| (row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap())));
    if refusal != Refusal::ExchangeGone {
        assert_eq!(unrouted.len(), 0);
    }
    ledger.balance().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_goes_out_in_order_whatever_the_broker_refuses() {
    join_all(ALL.map(|refusal| goes_through(refusal, vhost()))).await;
}

/// The end of a stage and the beginning of the next one are one row, and go to different queues.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_of_a_step_is_not_sent_again_with_the_rest_of_it() {
    let url = vhost();
    let (_database, store) = migrated("w").await;
    let ledger = TestLedger::open(url.clone()).await;
    let link = ledger.connect().await;
    narrow(&link, "progress.*.env", 1).await;
    let channel = link.channel().await.unwrap();
    let (fills, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), "narrow".into(), fills, b"fills it", properties).await.unwrap();
    let mut outside = TestClient::new(&url).await;
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store, &url, pipeline, WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    // What one queue refuses comes to the others each time.
    let mut copies: HashMap<String, (String, u32)> = HashMap::new();
    let stage = "env";
    while copies.values().all(|(of, count)| of != stage || *count < 3) {
        let event = outside.event().await;
        let id = event["id"].as_str().unwrap().to_owned();
        copies.entry(id).or_insert((event["data"]["stage"].as_str().unwrap_or_default().to_owned(), 0)).1 += 1;
    }
    let again: Vec<_> = copies.values().filter(|(_, count)| *count > 1).collect();
    assert!(again.len() == 1 && copies.values().any(|(of, _)| of == "clone"), "{copies:?}");
    channel.queue_delete("narrow".into(), Default::default()).await.unwrap();
    while outside.event().await["data"]["outcome"] != "succeeded" {}
    worker.stop().await;
}
