//! The end of a worker, and what it still has to tell.

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::StageError;
use slipway_protocol::{Change, ErrorCode, Outcome, Stage};
use slipway_worker::amqp;
use slipway_worker::store::State;
use tokio::sync::Notify;

use super::{changed, id_of};
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, outgoing, report, request,
};
use crate::services::{broker, vhost};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_stops_at_a_boundary_and_another_worker_finishes() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (r, p) = (reached.clone(), proceed.clone());
    let pipeline = ScriptedStages::new(move |call| {
        let (reached, proceed) = (r.clone(), p.clone());
        async move {
            if call.stage == Stage::Clone {
                reached.notify_one();
                proceed.notified().await;
            }
            Ok(report(Change::Changed))
        }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
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

    let worker = TestWorker::start(database.store("v"), &amqp, changed(), WorkerOptions::default());
    let result = outside.result().await;
    assert_eq!((&result["data"]["outcome"], &result["data"]["attempts"]), (&"succeeded".into(), &1.into()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_drains_deadline_the_running_command_is_cancelled() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let outside = TestClient::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let r = reached.clone();
    let pipeline = ScriptedStages::new(move |call| {
        let reached = r.clone();
        async move {
            reached.notify_one();
            call.cancel.cancelled().await;
            Err(StageError::new(ErrorCode::ServerConnectionLost, "cancelled"))
        }
    });
    let options = WorkerOptions { drain: Duration::from_millis(200), ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, options);
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    worker.stop().await;
    let deployment = store.deployment(id_of(&body)).await.unwrap().unwrap();
    assert_eq!((deployment.state, deployment.interruptions), (State::Pending, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_is_bound_for_waits_until_somebody_is() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    // Declares the topology, and follows no events.
    let outside = broker(&amqp, "outside").connect("test").await.unwrap();
    amqp::declare(&outside.channel().await.unwrap()).await.unwrap();
    let publisher = amqp::Publisher::open(&outside).await.unwrap();
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let body = request(|_| {});
    publisher.publish(&outgoing(&body, &[])).await.unwrap();
    eventually("only the result waits", || async {
        let state = store.deployment(id_of(&body)).await.unwrap().map(|d| d.state);
        state == Some(State::Ended(Outcome::Succeeded)) && store.backlog().await.unwrap().depth == 1
    })
    .await;
    assert_eq!(database.count("SELECT sum(events)::bigint FROM outbox WHERE unrouted").await, 16);
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
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
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
