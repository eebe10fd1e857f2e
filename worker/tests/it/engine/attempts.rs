//! From a claim to the one result, by way of retries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slipway_deploy::StageError;
use slipway_protocol::{Change, ErrorCode, Stage};
use tokio::sync::Notify;

use super::{id_of, unchanged};
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};
use crate::services::vhost;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_events_in_order_and_one_result() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|call| async move {
        if call.stage == Stage::Compose {
            (0..120).for_each(|i| call.reporter.line(Stage::Compose, &format!("line {i}")));
        }
        let url = (call.stage == Stage::Verify).then(|| "http://203.0.113.10:8080".to_owned());
        Ok(slipway_deploy::StageReport { url, ..report(Change::Changed) })
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
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
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store, &amqp, unchanged(), WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "already_deployed");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_failure_is_retried_with_delay_and_ends_in_a_dead_letter() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|call| async move {
        match call.stage {
            Stage::Compose => Err(StageError {
                retry_after: Some(Duration::from_millis(300)),
                ..StageError::new(ErrorCode::RegistryUnavailable, "the registry answers 503")
            }),
            _ => Ok(report(Change::Changed)),
        }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
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
    // The event is told a while after its time was chosen; without `retry_after` it's some milliseconds.
    assert!(scheduled.iter().all(|delay| delay.as_millis() >= 150), "{scheduled:?}");
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
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|_| async {
        Err(StageError {
            missing_secret: Some("BOT_TOKEN".parse().unwrap()),
            ..StageError::new(ErrorCode::MissingSecret, "BOT_TOKEN is required and nobody has given it")
        })
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let data = &result["data"];
    assert_eq!((&data["outcome"], &data["missing_secret"]), (&"missing_secret".into(), &"BOT_TOKEN".into()));
    assert_eq!(outside.dead_letter().await.headers["dlq-reason"], "permanent");
    assert_eq!(pipeline.attempts(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_lease_is_taken_away_is_cancelled() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let (reached, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (r, c) = (reached.clone(), cancelled.clone());
    let pipeline = ScriptedStages::new(move |call| {
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
    let options = WorkerOptions { lease: Duration::from_secs(1), ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), options);
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
async fn what_github_took_before_a_stage_failed_is_known_to_the_next_attempt() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let known = Arc::new(Mutex::new(Vec::new()));
    let seen = known.clone();
    let pipeline = ScriptedStages::new(move |call| {
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
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    let halfway = BTreeMap::from([("DOTENV".to_owned(), "new".to_owned())]);
    assert_eq!(*known.lock().unwrap(), [BTreeMap::new(), halfway]);
    worker.stop().await;
}
