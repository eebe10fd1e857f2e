//! Before an end that leaves a release unproven, what served before is put back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use slipway_deploy::{RestoreOutcome, StageError};
use slipway_protocol::{Change, ErrorCode, Stage};
use slipway_worker::store::{State, Store};
use tokio::sync::Notify;

use super::{SECOND, id_of, stuck_in};
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};
use crate::services::{TestDatabase, vhost};

/// A pipeline whose first attempt waits in stage compose, whatever comes, until it's told to go on; deployments of
/// commit `unfit` fail in preflight.
fn held_in_compose(reached: &Arc<Notify>, proceed: &Arc<Notify>, unfit: char) -> ScriptedStages {
    let (reached, proceed) = (reached.clone(), proceed.clone());
    ScriptedStages::new(move |call| {
        let (reached, proceed) = (reached.clone(), proceed.clone());
        async move {
            if call.attempt == 1 && call.stage == Stage::Compose {
                reached.notify_one();
                proceed.notified().await;
            }
            if call.stage == Stage::Preflight && call.work.request.repository.commit.as_str().starts_with(unfit) {
                return Err(StageError::new(ErrorCode::DockerMissing, "there is no docker"));
            }
            Ok(report(Change::Changed))
        }
    })
}

fn put_back() -> RestoreOutcome {
    RestoreOutcome::Restored { commit: Some("c0ffee".to_owned()), stable: true, services: Vec::new(), serving: None }
}

/// A worker whose first deployment, of commit `a` on server `one`, is held in stage compose.
struct Held {
    database: TestDatabase,
    store: Store,
    outside: TestClient,
    pipeline: ScriptedStages,
    worker: TestWorker,
    proceed: Arc<Notify>,
    project: uuid::Uuid,
}

impl Held {
    async fn new(unfit: char) -> Self {
        let ((database, store), amqp) = (migrated("w").await, vhost());
        let outside = TestClient::new(&amqp).await;
        let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let pipeline = held_in_compose(&reached, &proceed, unfit).settling(put_back());
        let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
        let held = Self { database, store, outside, pipeline, worker, proceed, project: uuid::Uuid::new_v4() };
        let first = held.request('a', "one");
        held.outside.publish(&first).await;
        reached.notified().await;
        held
    }

    /// Asks for a commit of the project, told by a letter, on a server.
    fn request(&self, commit: char, server: &str) -> Vec<u8> {
        request(|e| {
            e["data"]["project"]["id"] = self.project.to_string().into();
            e["data"]["repository"]["commit"] = commit.to_string().repeat(40).into();
            e["data"]["server"]["handle"] = server.into();
            e["data"].as_object_mut().unwrap().remove("sequence");
        })
    }

    /// Publishes what will have to wait, and sees that it does.
    async fn publish_and_see(&self, body: &[u8]) {
        self.outside.publish(body).await;
        eventually("it waits", || async { self.store.deployment(id_of(body)).await.unwrap().is_some() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_running_command_at_once_and_what_it_touched_is_put_back() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let pipeline = stuck_in(Stage::Compose, &reached).settling(put_back());
    // Renewals are minutes apart: it's the notification that brings the wish.
    let options = WorkerOptions { lease: 600 * SECOND, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), options);
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    // From another process, as operators do.
    let began = Instant::now();
    assert_eq!(database.store("operator").cancel(id_of(&body)).await.unwrap(), Some(State::Running));
    let result = outside.result().await;
    assert_eq!(result["data"]["outcome"], "cancelled", "{result}");
    assert!(began.elapsed() < 20 * SECOND, "{:?}", began.elapsed());
    assert_eq!(*pipeline.settled.lock().unwrap(), [(1, false)]);
    let running = "SELECT count(*) FROM stage_journal WHERE outcome IS NULL";
    assert_eq!(database.count(running).await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_between_two_attempts_puts_back_before_it_ends() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let failing = ScriptedStages::new(|call| async move {
        match call.stage {
            Stage::Compose => Err(StageError {
                retry_after: Some(600 * SECOND),
                ..StageError::new(ErrorCode::RegistryUnavailable, "the registry answers 503")
            }),
            _ => Ok(report(Change::Changed)),
        }
    });
    let pipeline = failing.settling(put_back());
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    eventually("it waits for its second attempt", || async {
        store.deployment(id_of(&body)).await.unwrap().is_some_and(|d| d.state == State::Pending && d.attempt == 1)
    })
    .await;
    assert_eq!(*pipeline.settled.lock().unwrap(), [], "nothing is put back between attempts");
    assert_eq!(store.cancel(id_of(&body)).await.unwrap(), Some(State::Running));
    assert_eq!(outside.result().await["data"]["outcome"], "cancelled");
    assert_eq!(*pipeline.settled.lock().unwrap(), [(2, false)]);
    let stages = pipeline.calls.lock().unwrap().iter().filter(|(attempt, _)| *attempt == 2).count();
    assert_eq!(stages, 0, "the second attempt does nothing else");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_for_good_is_settled_once_and_says_what_serves() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let failing = ScriptedStages::new(|call| async move {
        match (call.stage, call.work.request.project.slug.as_str()) {
            (Stage::Preflight, "unfit") => Err(StageError::new(ErrorCode::DockerMissing, "there is no docker")),
            (Stage::Compose, _) => Err(StageError::new(ErrorCode::PullFailed, "the pull broke off")),
            _ => Ok(report(Change::Changed)),
        }
    });
    let pipeline = failing.settling(put_back());
    let worker = TestWorker::start(store, &amqp, pipeline.clone(), WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let failure = &result["data"]["failure"];
    assert_eq!((&failure["code"], &result["data"]["attempts"]), (&"pull-failed".into(), &3.into()), "{result}");
    let message = "the pull broke off; commit c0ffee, which served before, was put back and is stable";
    assert_eq!(failure["message"], message);
    assert_eq!(*pipeline.settled.lock().unwrap(), [(3, true)]);
    // Where no stage began that touches anything, the server isn't even asked.
    outside.publish(&request(|e| e["data"]["project"]["slug"] = "unfit".into())).await;
    assert_eq!(outside.result().await["data"]["failure"]["message"], "there is no docker");
    assert_eq!(pipeline.settled.lock().unwrap().len(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_superseded_deployment_touched_is_restored_when_the_newer_one_fails_early() {
    let mut held = Held::new('b').await;
    let newer = held.request('b', "one");
    held.publish_and_see(&newer).await;
    held.proceed.notify_one();
    assert_eq!(held.outside.result().await["data"]["outcome"], "superseded");
    let failure = held.outside.result().await["data"]["failure"].clone();
    let message = "there is no docker; commit c0ffee, which served before, was put back and is stable";
    assert_eq!(failure["message"], message);
    assert_eq!(*held.pipeline.settled.lock().unwrap(), [(2, true)]);
    // From then on there is nothing left to be put back.
    held.outside.publish(&held.request('b', "one")).await;
    assert_eq!(held.outside.result().await["data"]["failure"]["message"], "there is no docker");
    assert_eq!(held.pipeline.settled.lock().unwrap().len(), 1);
    held.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_newer_request_is_cancelled_the_running_deployment_goes_on() {
    let mut held = Held::new('x').await;
    let newer = held.request('b', "one");
    held.publish_and_see(&newer).await;
    assert_eq!(held.store.cancel(id_of(&newer)).await.unwrap(), Some(State::Pending));
    held.proceed.notify_one();
    let outcomes =
        [held.outside.result().await, held.outside.result().await].map(|result| result["data"]["outcome"].clone());
    assert_eq!(outcomes, ["cancelled", "succeeded"]);
    assert_eq!((held.pipeline.attempts(), held.pipeline.settled.lock().unwrap().len()), (1, 0));
    held.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_gives_way_to_one_on_another_server_puts_back_first() {
    let mut held = Held::new('x').await;
    held.outside.publish(&held.request('b', "two")).await;
    assert_eq!(held.outside.result().await["data"]["outcome"], "succeeded");
    held.proceed.notify_one();
    assert_eq!(held.outside.result().await["data"]["outcome"], "superseded");
    assert_eq!(*held.pipeline.settled.lock().unwrap(), [(1, false)]);
    held.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sees_to_an_unproven_release_by_itself_and_leaves_nothing_to_be_put_back() {
    let mut held = Held::new('x').await;
    let event: serde_json::Value = serde_json::from_slice(&held.request('a', "one")).unwrap();
    let stop = serde_json::json!({
        "specversion": "1.0", "id": "1", "source": "/orchestrator", "type": "slipway.project.stop.v1",
        "data": { "project": event["data"]["project"] },
    })
    .to_string()
    .into_bytes();
    held.publish_and_see(&stop).await;
    held.proceed.notify_one();
    assert_eq!(held.outside.result().await["data"]["outcome"], "superseded");
    assert_eq!(held.outside.result().await["data"]["outcome"], "succeeded");
    assert!(held.pipeline.settled.lock().unwrap().is_empty());
    assert_eq!(held.pipeline.calls.lock().unwrap().last(), Some(&(2, Stage::Compose)));
    assert_eq!(held.database.count("SELECT count(*) FROM project_leases WHERE unsettled").await, 0);
    held.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_too_often_puts_back_before_it_fails() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let worker = TestWorker::start(store.clone(), &amqp, stuck_in(Stage::Compose, &reached), WorkerOptions::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    worker.kill().await;
    // As after ten more of that kind.
    let died = "UPDATE deployments SET interruptions = 10; UPDATE project_leases SET expires_at = now();
                UPDATE relay_lease SET expires_at = now()";
    database.sql.batch_execute(died).await.unwrap();
    assert!(store.reap(10).await.unwrap().is_some());
    let pipeline = stuck_in(Stage::Compose, &reached).settling(put_back());
    let worker = TestWorker::start(store, &amqp, pipeline.clone(), WorkerOptions::default());
    let failure = outside.result().await["data"]["failure"].clone();
    assert_eq!(failure["code"], "interrupted-too-often", "{failure}");
    assert!(failure["message"].as_str().unwrap().ends_with("was put back and is stable"), "{failure}");
    assert_eq!((pipeline.calls.lock().unwrap().len(), pipeline.settled.lock().unwrap().clone()), (0, vec![(1, true)]));
    assert_eq!(outside.dead_letter().await.headers["dlq-reason"], "interrupted");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_once_the_lease_is_lost_while_something_is_put_back() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let outside = TestClient::new(&amqp).await;
    let (reached, settling) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let begun = settling.clone();
    let pipeline = stuck_in(Stage::Compose, &reached).settling_with(move |cancel| {
        let begun = begun.clone();
        async move {
            begun.notify_one();
            cancel.cancelled().await;
            RestoreOutcome::Unknown(StageError::new(ErrorCode::DeadlineExceeded, "the command was cancelled"))
        }
    });
    let options = WorkerOptions { lease: 600 * SECOND, drain: 60 * SECOND, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, options);
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    store.cancel(id_of(&body)).await.unwrap();
    settling.notified().await;
    // Nobody has taken it over yet; the next renewal, for which the second wish is the occasion, shows it.
    database.sql.execute("UPDATE project_leases SET expires_at = now()", &[]).await.unwrap();
    store.cancel(id_of(&body)).await.unwrap();
    worker.stop().await;
    assert_eq!(store.deployment(id_of(&body)).await.unwrap().unwrap().state, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_waited_for_until_what_served_is_back() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let failing = ScriptedStages::new(|call| async move {
        match call.stage {
            Stage::Compose => Err(StageError::new(ErrorCode::DockerMissing, "docker is gone")),
            _ => Ok(report(Change::Changed)),
        }
    });
    let tries = AtomicU32::new(0);
    let pipeline = failing.settling_with(move |_| {
        let away = tries.fetch_add(1, Ordering::SeqCst) < 2;
        let error = StageError::new(ErrorCode::ServerConnectionLost, "sshd closed the connection");
        std::future::ready(if away { RestoreOutcome::Unknown(error) } else { put_back() })
    });
    let worker = TestWorker::start(store, &amqp, pipeline.clone(), WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    let message = outside.result().await["data"]["failure"]["message"].clone();
    assert_eq!(message, "docker is gone; commit c0ffee, which served before, was put back and is stable");
    assert_eq!(*pipeline.settled.lock().unwrap(), [(1, true); 3]);
    worker.stop().await;
}
