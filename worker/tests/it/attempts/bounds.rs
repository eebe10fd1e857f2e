//! How long everything may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use slipway_deploy::StageError;
use slipway_deploy::bounds::Deadlines;
use slipway_protocol::{Change, ErrorCode, Stage};
use slipway_worker::store::State;
use tokio::sync::Notify;

use super::{SECOND, id_of, stuck_in};
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};
use crate::services::vhost;

#[tokio::test(flavor = "multi_thread")]
async fn what_never_ends_holds_up_no_drain() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let outside = TestClient::new(&amqp).await;
    let failing_once = ScriptedStages::new(|call| async move {
        match (call.stage, call.attempt) {
            (Stage::Compose, 1) => Err(StageError::new(ErrorCode::RegistryUnavailable, "it's away for a moment")),
            _ => Ok(report(Change::Changed).fact("proof", "ab12")),
        }
    });
    let pipeline = failing_once.never_resuming();
    let options = WorkerOptions { drain: Duration::from_millis(50), ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), options);
    let body = request(|_| {});
    outside.publish(&body).await;
    eventually("the second attempt asks what is proven", || async { !pipeline.offered.lock().unwrap().is_empty() })
        .await;
    tokio::time::timeout(60 * SECOND, worker.stop()).await.unwrap();
    let deployment = store.deployment(id_of(&body)).await.unwrap().unwrap();
    assert_eq!((deployment.state, deployment.interruptions), (State::Pending, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_takes_too_long_is_ended_and_so_is_a_deployment() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let pipeline = stuck_in(Stage::Clone, &reached);
    let deadlines = Deadlines { stage: Duration::from_millis(50), ..Deadlines::DEFAULT };
    let options = WorkerOptions { deadlines, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), options);
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let failure = &result["data"]["failure"];
    assert_eq!((&failure["code"], &failure["stage"]), (&"deadline-exceeded".into(), &"clone".into()), "{result}");
    assert_eq!(result["data"]["attempts"], 3);
    worker.stop().await;

    let pipeline = stuck_in(Stage::Clone, &reached);
    let deadlines = Deadlines { deployment: SECOND, ..Deadlines::DEFAULT };
    let worker =
        TestWorker::start(store, &amqp, pipeline.clone(), WorkerOptions { deadlines, ..WorkerOptions::default() });
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    assert_eq!(result["data"]["failure"]["code"], "deployment-overdue", "{result}");
    assert_eq!((&result["data"]["attempts"], pipeline.attempts()), (&1.into(), 1));
    assert_eq!(*pipeline.settled.lock().unwrap(), [(1, true)]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_for_beyond_the_number_of_attempts() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let asked = Arc::new(AtomicI64::new(0));
    let counted = asked.clone();
    let pipeline = ScriptedStages::new(move |call| {
        let limited = call.stage == Stage::Compose && counted.fetch_add(1, Ordering::Relaxed) < 4;
        async move {
            match limited {
                true => Err(StageError::new(ErrorCode::RegistryRateLimited, "no more pulls for now")),
                false => Ok(report(Change::Changed)),
            }
        }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    for pauses in 1..=4 {
        eventually("it pauses", || async {
            database.count("SELECT coalesce(sum(waits), 0) FROM deployments").await == pauses
        })
        .await;
        assert_eq!(database.count("SELECT count(*) FROM deployments WHERE run_at < now() + interval '55 s'").await, 0);
        database.sql.execute("UPDATE deployments SET run_at = now()", &[]).await.unwrap();
        database.sql.execute("SELECT pg_notify('slipway_deployments', '')", &[]).await.unwrap();
    }
    let result = outside.result().await;
    assert_eq!((&result["data"]["outcome"], &result["data"]["attempts"]), (&"succeeded".into(), &1.into()), "{result}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waited_for_too_long_is_not_begun() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
    outside.publish(&request(|e| e["time"] = "2020-01-01T00:00:00Z".into())).await;
    let result = outside.result().await;
    assert_eq!(
        (&result["data"]["outcome"], &result["data"]["failure"]["code"]),
        (&"failed".into(), &"expired-event".into())
    );
    assert_eq!(pipeline.calls.lock().unwrap().len(), 0);
    assert_eq!(outside.dead_letter().await.headers["dlq-error-code"], "expired-event");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_blocks_its_own_task_keeps_its_lease() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|call| async move {
        if call.stage == Stage::Compose {
            // Twice the lease, and without giving way.
            std::thread::sleep(6 * SECOND);
        }
        Ok(report(Change::Changed))
    });
    let options = || WorkerOptions { lease: 3 * SECOND, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), options());
    // Another one would claim what nobody keeps.
    let other = TestWorker::start(database.store("v"), &amqp, pipeline.clone(), options());
    let body = request(|_| {});
    outside.publish(&body).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    let deployment = store.deployment(id_of(&body)).await.unwrap().unwrap();
    assert_eq!((deployment.interruptions, pipeline.attempts()), (0, 1));
    worker.stop().await;
    other.stop().await;
}
