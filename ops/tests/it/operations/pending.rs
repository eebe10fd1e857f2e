//! Halves of requests that are without the other one, as operators see them.

use super::*;
use slipway_protocol::Message;
use slipway_worker::scheduler::Order;
use slipway_worker::store::{ArrivingHalf, HalfOutcome, HalfStep};

/// The sample's half of a project, which waits from now on.
async fn waits(store: &Store, sample: &[u8], slug: &str) {
    let mut event: Value = serde_json::from_slice(sample).unwrap();
    event["id"] = format!("half of {slug}").into();
    event["data"]["project"] = json!({ "id": uuid::Uuid::new_v4(), "slug": slug });
    let message = incoming(event.to_string().as_bytes());
    let Message::Half(half) = slipway_protocol::read(&message.body, &message.metadata()).unwrap() else {
        panic!("{event}")
    };
    let known = store.known_halves(half.event.data.project(), half.deployment_id()).await.unwrap();
    let place = Order { sequence: None, time: known.now, arrival: 1 };
    let arriving = ArrivingHalf { request: &half, incoming: &message, place, known: &known };
    let outcome = store.take_half(arriving, HalfStep::Waits(Duration::from_secs(3600))).await.unwrap();
    assert_eq!(outcome, HalfOutcome::Taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_other_half_is_listed_and_counted() {
    let (database, store) = TestDatabase::migrated("w").await;
    // What RabbitMQ would say doesn't matter here.
    let nobody: SecretString = "amqp://127.0.0.1:1".to_owned().into();
    let operator = || operator(Some(&database), Some(&nobody));
    snapshot("pending-none", &run(operator(), &["pending"]).await);
    assert_eq!(json_of(operator(), &["pending"]).await, json!([]));
    assert_eq!(json_of(operator(), &["status"]).await["halves"]["count"], 0);
    waits(&store, include_bytes!("../../../../protocol/samples/resources-allocated.v1.json"), "corner-shop").await;
    waits(&store, include_bytes!("../../../../protocol/samples/engineering-done.v1.json"), "kiosk").await;
    let told = "UPDATE project_halves SET missed_at = now(), waits_until = NULL WHERE project_slug = 'kiosk'";
    database.sql.execute(told, &[]).await.unwrap();
    snapshot("pending", &run(operator(), &["pending"]).await);
    let listed = json_of(operator(), &["pending"]).await;
    assert_eq!((&listed[0]["here"], &listed[0]["missing"]), (&json!("resources"), &json!("engineering")), "{listed}");
    assert_eq!(listed[0]["missing_type"], "slipway.engineering.done.v1");
    assert!(listed[0]["waits_until"].is_string() && listed[0]["told_at"].is_null(), "{listed}");
    assert!(listed[1]["waits_until"].is_null() && listed[1]["told_at"].is_string(), "{listed}");
    let status = json_of(operator(), &["status"]).await;
    assert_eq!((&status["halves"]["count"], &status["halves"]["missed"]), (&json!(2), &json!(1)), "{status}");
    assert!(run(operator(), &["status"]).await.contains("halves without the other"));
}
