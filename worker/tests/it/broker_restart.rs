//! The engine while its broker is killed and comes back; in a binary of its own, since the others share theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};
use crate::services::{Rabbit, broker};
use slipway_protocol::{Change, EventType, Stage};
use slipway_worker::amqp;

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_broker_is_down_is_told_once_it_is_back() {
    let mut rabbit = tokio::task::spawn_blocking(Rabbit::start).await.unwrap();
    let url = crate::services::url(rabbit.port(), 0);
    let (database, store) = migrated("w").await;
    let (down, up) =
        (std::sync::Arc::new(tokio::sync::Semaphore::new(0)), std::sync::Arc::new(tokio::sync::Notify::new()));
    let (d, u) = (down.clone(), up.clone());
    let pipeline = ScriptedStages::new(move |call| {
        let (down, up) = (d.clone(), u.clone());
        async move {
            if call.stage == Stage::Preflight {
                up.notify_one();
                down.acquire().await.unwrap().forget();
            }
            Ok(report(Change::Changed))
        }
    });
    // A queue that outlives the broker, for everything that is told.
    let link = broker(&url, "outside").connect("test").await.unwrap();
    let channel = link.channel().await.unwrap();
    amqp::declare(&channel).await.unwrap();
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("all".into(), durable, Default::default()).await.unwrap();
    channel
        .queue_bind("all".into(), "slipway.events".into(), "#".into(), Default::default(), Default::default())
        .await
        .unwrap();
    drop(channel);
    link.close().await;

    let worker = TestWorker::start(store.clone(), &url, pipeline, WorkerOptions::default());
    let outside = TestClient::new(&url).await;
    outside.publish(&request(|_| {})).await;
    up.notified().await;
    eventually("the first events are out", || async { store.backlog().await.unwrap().depth == 0 }).await;
    drop(outside);
    let mut rabbit = tokio::task::spawn_blocking(move || {
        rabbit.stop();
        rabbit
    })
    .await
    .unwrap();
    down.add_permits(10);
    eventually("the deployment ends without the broker", || async {
        database.count("SELECT count(*) FROM deployments WHERE state = 'succeeded'").await == 1
    })
    .await;
    assert!(store.backlog().await.unwrap().depth >= 14);
    let rabbit = tokio::task::spawn_blocking(move || {
        rabbit.restart();
        rabbit
    })
    .await
    .unwrap();
    eventually("everything is published", || async { store.backlog().await.unwrap().depth == 0 }).await;

    // Nothing is missing, and what follows a message never comes before it.
    let link = broker(&url, "outside").connect("test").await.unwrap();
    let mut all = amqp::consume(&link, "all", 0).await.unwrap();
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), all.next()).await.unwrap().unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_slice(&next.incoming.body).unwrap();
        let sequence: u64 = event["sequence"].as_str().unwrap().parse().unwrap();
        let last = seen.last_key_value().map_or(0, |(last, _)| *last);
        assert!(sequence <= last + 1, "{sequence} came after {last}");
        let id = event["id"].as_str().unwrap().to_owned();
        assert_eq!(*seen.entry(sequence).or_insert_with(|| id.clone()), id, "a duplicate has the same id");
        if event["type"] == EventType::Result.as_str() {
            break;
        }
    }
    // And requests are taken in again.
    let mut outside = TestClient::new(&url).await;
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    worker.stop().await;
    drop(rabbit);
}
