//! What waits for its other half: since when, for how long, what is told then, and what becomes of it afterwards.

use std::time::Duration;

use serde_json::json;
use slipway_protocol::HalfKind;
use slipway_worker::store::{DeadLetterFilter, Operator, Replay};

use super::{HalvedProject, bytes, changed, joined, joined_id, own_id};
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, migrated};
use crate::services::vhost;

fn impatient() -> WorkerOptions {
    WorkerOptions { half_timeout: Duration::from_millis(300), ..WorkerOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_alone_is_told_which_one_is_missing_and_joins_it_all_the_same_later() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), impatient());
    let shop = HalvedProject::new("shop");
    let (code, place) = (shop.code('a', |_| {}), shop.place(8001, |_| {}));
    outside.publish(&bytes(&place)).await;
    let result = outside.result().await;
    assert_eq!(result["data"]["deployment_id"], json!(own_id(&place)), "{result}");
    assert_eq!((&result["data"]["outcome"], &result["causationid"]), (&json!("failed"), &place["id"]));
    let failure = &result["data"]["failure"];
    assert_eq!((&failure["code"], &failure["class"]), (&json!("missing-half"), &json!("user_action")));
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.starts_with("no slipway.engineering.done.v1 of shop (") && message.contains("since 20"),
        "{message}"
    );
    assert_eq!(result["data"]["server"], "s-shop");
    assert_eq!(outside.dead_letter().await.body, bytes(&place), "as it came");
    let lonely = store.lonely_halves(10).await.unwrap();
    assert_eq!((lonely.count, lonely.halves[0].half), (1, HalfKind::Resources));
    assert!(lonely.halves[0].missed_at.is_some() && lonely.halves[0].waits_until.is_none());

    // Told once, and its duplicate changes nothing.
    outside.publish(&bytes(&place)).await;
    outside.publish(&bytes(&code)).await;
    let result = outside.result().await;
    assert_eq!(result["data"]["deployment_id"], json!(joined_id(&code, &place)), "{result}");
    assert_eq!(result["data"]["outcome"], "succeeded");
    assert_eq!(result["data"]["correlation"]["application_id"], 17, "both halves' ids come back");
    assert_eq!(result["data"]["correlation"]["run_id"], "eng-41");
    assert_eq!(store.lonely_halves(10).await.unwrap().count, 0);
    let sql = "SELECT state || ': ' || note FROM dead_letters";
    let letter: String = database.sql.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(letter, format!("archived: The other half came late; both are deployment {}", joined_id(&code, &place)));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_the_database_fails_at_keeps_no_other_from_being_told() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let fail = "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'; END $$;
                CREATE TRIGGER poison BEFORE UPDATE ON project_halves FOR EACH ROW WHEN (NEW.project_slug = 'poison')
                EXECUTE FUNCTION poison()";
    database.sql.batch_execute(fail).await.unwrap();
    let worker = TestWorker::start(store, &amqp, changed(), impatient());
    for slug in ["poison", "shop"] {
        outside.publish(&bytes(&HalvedProject::new(slug).code('a', |_| {}))).await;
    }
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["project"]["slug"], &told["data"]["failure"]["code"]),
        (&json!("shop"), &json!("missing-half"))
    );
    database.sql.batch_execute("DROP TRIGGER poison ON project_halves").await.unwrap();
    assert_eq!(outside.result().await["data"]["project"]["slug"], "poison");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_is_replayed_waits_anew_and_what_two_make_is_one_request_like_any() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), impatient());
    let shop = HalvedProject::new("shop");
    let (code, place) = (shop.code('a', |_| {}), shop.place(8001, |_| {}));
    outside.publish(&bytes(&code)).await;
    assert_eq!(outside.result().await["data"]["failure"]["code"], "missing-half");
    let operator = Operator::new("ada", Some("it comes"));
    let replay = Replay { from_start: false, force: false };
    let sent = store.replay_dead_letters(&DeadLetterFilter::default(), replay, &operator, 10).await.unwrap();
    assert_eq!(sent.len(), 1);
    let again = outside.result().await;
    assert_eq!(
        (&again["data"]["failure"]["code"], &again["data"]["deployment_id"]),
        (&json!("missing-half"), &json!(sent[0].deployment))
    );
    outside.publish(&bytes(&place)).await;
    let result = outside.result().await;
    assert_eq!(
        (&result["data"]["outcome"], &result["data"]["deployment_id"]),
        (&json!("succeeded"), &json!(joined_id(&code, &place)))
    );

    // The request that both make is one event like any other: the same, however it comes.
    outside.publish(&serde_json::to_vec(&joined(&code, &place)).unwrap()).await;
    let whole = HalvedProject::new("whole");
    outside.publish(&serde_json::to_vec(&joined(&whole.code('b', |_| {}), &whole.place(8002, |_| {}))).unwrap()).await;
    assert_eq!(outside.result().await["data"]["project"]["slug"], "whole");
    let own = format!("SELECT count(*) FROM deployments WHERE project_id = '{}' AND request IS NOT NULL", shop.id);
    assert_eq!(database.count(&own).await, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_halves_alone_redeploy_unless_an_allocation_says_nothing_new() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let shop = HalvedProject::new("shop");
    let (code, place) = (shop.code('a', |_| {}), shop.place(8001, |_| {}));
    outside.publish(&bytes(&code)).await;
    outside.publish(&bytes(&place)).await;
    let first = outside.result().await["data"]["deployment_id"].clone();
    assert_eq!(first, json!(joined_id(&code, &place)));

    let same = shop.place(8001, |e| e["data"]["correlation"] = json!({ "task": 2 }));
    outside.publish(&bytes(&same)).await;
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["deployment_id"], &told["data"]["outcome"]),
        (&json!(own_id(&same)), &json!("superseded"))
    );
    assert_eq!((&told["data"]["superseded_by"], &told["data"]["correlation"]), (&first, &json!({ "task": 2 })));

    let newer = shop.code('b', |_| {});
    outside.publish(&bytes(&newer)).await;
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["deployment_id"], &told["data"]["commit"]),
        (&json!(joined_id(&newer, &same)), &json!("b".repeat(40)))
    );
    let moved = shop.place(8002, |_| {});
    outside.publish(&bytes(&moved)).await;
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["deployment_id"], &told["data"]["commit"]),
        (&json!(joined_id(&newer, &moved)), &json!("b".repeat(40)))
    );
    // Duplicates of everything, late.
    for event in [&code, &place, &same, &newer, &moved] {
        outside.publish(&bytes(event)).await;
    }
    let other = HalvedProject::new("other");
    outside.publish(&bytes(&other.code('c', |_| {}))).await;
    outside.publish(&bytes(&other.place(8003, |_| {}))).await;
    assert_eq!(outside.result().await["data"]["project"]["slug"], "other");
    let made = format!("SELECT count(*) FROM deployments WHERE project_id = '{}' AND request IS NOT NULL", shop.id);
    assert_eq!(database.count(&made).await, 3);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_has_expired_is_joined_with_nothing() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let shop = HalvedProject::new("shop");
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(400);
    let (code, place) = (shop.code('a', |_| {}), shop.place(8001, |e| e["data"]["expires_at"] = json!(soon)));
    outside.publish(&bytes(&place)).await;
    let told = outside.result().await;
    assert_eq!(told["data"]["failure"]["code"], "missing-half", "it waits no longer than it may: {told}");
    outside.publish(&bytes(&code)).await;
    eventually("the other one waits in its turn", || async {
        let lonely = store.lonely_halves(10).await.unwrap();
        lonely.halves.iter().any(|half| half.half == HalfKind::Engineering && half.waits_until.is_some())
    })
    .await;
    let again = shop.place(8001, |_| {});
    outside.publish(&bytes(&again)).await;
    assert_eq!(outside.result().await["data"]["deployment_id"], json!(joined_id(&code, &again)));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_waits_is_cancelled_by_its_own_event_also_before_it_comes() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let cancel = |half: &serde_json::Value| {
        let data = json!({ "request": { "source": half["source"], "id": half["id"] } });
        bytes(&json!({
            "specversion": "1.0", "type": "slipway.deployment.cancel.v1", "id": uuid::Uuid::new_v4(),
            "source": half["source"], "data": data,
        }))
    };
    let shop = HalvedProject::new("shop");
    let (first, second, place) = (shop.code('a', |_| {}), shop.code('b', |_| {}), shop.place(8001, |_| {}));
    outside.publish(&bytes(&first)).await;
    outside.publish(&cancel(&first)).await;
    let told = outside.result().await;
    let expected = (json!("cancelled"), json!(own_id(&first)));
    assert_eq!((told["data"]["outcome"].clone(), told["data"]["deployment_id"].clone()), expected, "{told}");

    outside.publish(&cancel(&second)).await;
    assert_eq!(outside.result().await["data"]["failure"]["code"], "unknown-deployment", "it counts all the same");
    outside.publish(&bytes(&second)).await;
    let told = outside.result().await;
    let expected = (json!("cancelled"), json!(own_id(&second)));
    assert_eq!((told["data"]["outcome"].clone(), told["data"]["deployment_id"].clone()), expected, "{told}");

    // Neither makes anything with what comes later.
    let third = shop.code('c', |_| {});
    for event in [&first, &second, &place, &third] {
        outside.publish(&bytes(event)).await;
    }
    assert_eq!(outside.result().await["data"]["deployment_id"], json!(joined_id(&third, &place)));
    assert_eq!(store.lonely_halves(10).await.unwrap().count, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_comes_alone_goes_where_a_move_has_brought_the_project() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let shop = HalvedProject::new("shop");
    outside.publish(&bytes(&shop.code('a', |_| {}))).await;
    outside.publish(&bytes(&shop.place(8001, |_| {}))).await;
    assert!(outside.result().await["data"].get("placement").is_none(), "the allocation decides");
    // As the end of a move writes it.
    let moved = "UPDATE project_halves SET place_left = true WHERE half = 'resources'";
    assert_eq!(database.sql.execute(moved, &[]).await.unwrap(), 1);
    for (said_again, letter) in [(false, 'b'), (true, 'c')] {
        if said_again {
            outside.publish(&bytes(&shop.place(8001, |_| {}))).await;
            assert_eq!(outside.result().await["data"]["outcome"], "superseded");
        }
        outside.publish(&bytes(&shop.code(letter, |_| {}))).await;
        let told = outside.result().await;
        assert_eq!(told["data"]["placement"]["reason"], "lives_there", "{told}");
    }
    outside.publish(&bytes(&shop.place(8002, |_| {}))).await;
    let told = outside.result().await;
    assert!(told["data"].get("placement").is_none(), "another allocation decides again: {told}");
    worker.stop().await;
}
