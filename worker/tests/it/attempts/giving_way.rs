//! A deployment that left a release unproven gives way to a newer request of its project: who restores what served
//! before, and when.

use std::sync::Arc;

use slipway_deploy::StageError;
use slipway_protocol::{Change, ErrorCode, Stage};
use slipway_worker::store::{State, Store};
use tokio::sync::Notify;

use super::{id_of, put_back};
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
