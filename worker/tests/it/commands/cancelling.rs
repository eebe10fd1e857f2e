//! Cancel events, before and after the request that they are about.

use std::sync::Arc;

use serde_json::{Value, json};
use slipway_protocol::{Change, Outcome, Stage};
use slipway_worker::store::{Admission, State};

use super::{Shop, id_of};
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, migrated, report, request};
use crate::services::vhost;

fn cancel(data: Value) -> Vec<u8> {
    json!({
        "specversion": "1.0",
        "id": uuid::Uuid::new_v4(),
        "source": "/orchestrator",
        "type": "slipway.deployment.cancel.v1",
        "data": data,
    })
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_event_ends_what_waits_is_remembered_and_may_overtake_its_request() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let held = Arc::new(tokio::sync::Notify::new());
    let hold = held.clone();
    let pipeline = ScriptedStages::new(move |call| {
        let hold = hold.clone();
        async move {
            if call.stage == Stage::Clone {
                hold.notified().await;
            }
            Ok(report(Change::Changed))
        }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());

    // Running: it ends as cancelled. The wish is named by the event that asked for the deployment.
    let running = request(|_| {});
    outside.publish(&running).await;
    while outside.event().await["data"]["stage"] != "clone" {}
    let event: Value = serde_json::from_slice(&running).unwrap();
    let by_request = json!({ "source": event["source"], "id": event["id"] });
    let wish = cancel(json!({ "request": by_request, "reason": "the wrong branch" }));
    for _ in 0..3 {
        outside.publish(&wish).await;
    }
    crate::services::test_worker::eventually("the wish is heeded", || async {
        store.deployment(id_of(&running)).await.unwrap().is_some_and(|d| d.cancel_requested)
    })
    .await;
    held.notify_one();
    assert_eq!(outside.result().await["data"]["outcome"], "cancelled");
    let wishes = store.cancellations(id_of(&running)).await.unwrap();
    assert_eq!(wishes.len(), 1, "its duplicates are recognised: {wishes:?}");
    assert_eq!((wishes[0].found, wishes[0].reason.as_deref()), (Some(State::Running), Some("the wrong branch")));
    assert_eq!(wishes[0].source, "/orchestrator");

    // Ended: accepted, remembered, without effect.
    outside.publish(&cancel(json!({ "deployment_id": id_of(&running) }))).await;
    crate::services::test_worker::eventually("the second wish is remembered", || async {
        store.cancellations(id_of(&running)).await.unwrap().len() == 2
    })
    .await;
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 0);

    // Unknown: refused and told; and yet the request that comes behind it ends at once.
    let late = request(|_| {});
    let early = cancel(json!({ "deployment_id": id_of(&late), "correlation": { "task_id": 9 } }));
    for _ in 0..2 {
        outside.publish(&early).await;
    }
    let result = outside.result().await;
    let data = &result["data"];
    assert_eq!((&data["failure"]["code"], &data["action"]), (&"unknown-deployment".into(), &"cancel".into()));
    assert_eq!((&data["deployment_id"], &data["correlation"]["task_id"]), (&json!(id_of(&early)), &json!(9)));
    assert_eq!(outside.dead_letter().await.body, early);
    outside.publish(&late).await;
    let result = outside.result().await;
    assert_eq!(
        (&result["data"]["deployment_id"], &result["data"]["outcome"]),
        (&json!(id_of(&late)), &"cancelled".into())
    );
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 1);
    let dealt_with = "SELECT count(*) FROM dead_letters WHERE state = 'archived' AND note LIKE '%was cancelled'";
    assert_eq!(database.count(dealt_with).await, 1, "nobody has to look at what came right");
    // The same where the request came while the cancellation was being refused.
    database.sql.execute("UPDATE dead_letters SET state = 'open'", &[]).await.unwrap();
    store.settle_overtaking_cancels(id_of(&early)).await.unwrap();
    assert_eq!(database.count("SELECT count(*) FROM dead_letters WHERE state = 'open'").await, 1);
    store.settle_overtaking_cancels(id_of(&late)).await.unwrap();
    assert_eq!(database.count("SELECT count(*) FROM dead_letters WHERE state = 'open'").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_takes_nobodys_place() {
    let shop = Shop::new().await;
    let waiting = shop.deploy('a', "one").await;
    let called_off = shop.ready('b', "one");
    assert_eq!(shop.store.cancel(id_of(&called_off)).await.unwrap(), None);
    assert_eq!(shop.take_in(&called_off).await, Ok(Admission::Cancelled));
    assert_eq!(shop.state(waiting).await, State::Pending);
    assert_eq!(shop.store.cancel(waiting).await.unwrap(), Some(State::Pending));
    assert_eq!(shop.store.cancel(waiting).await.unwrap(), Some(State::Ended(Outcome::Cancelled)));
    assert_eq!(shop.store.cancellations(waiting).await.unwrap().len(), 2);
}
