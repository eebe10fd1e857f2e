//! What is refused in halves: each by itself as far as it goes, both together as the request that they make.

use serde_json::{Value, json};
use slipway_protocol::names::ServerHandle;
use slipway_worker::scheduler::{Pattern, SourceScope};
use slipway_worker::store::Operator;

use super::{CODE, HalvedProject, PLACE, bytes, changed, joined, joined_id, own_id};
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, migrated};
use crate::services::vhost;

type Edit = fn(&mut Value);

/// A fault in the code or in the place, and the error code with which a whole request is refused for it.
const FAULTS: [(&str, Edit, &str); 8] = [
    ("code", |e| e["data"]["modules"] = json!([]), "invalid-field"),
    ("code", |e| e["data"]["repository"]["commit"] = json!("main"), "invalid-field"),
    ("code", |e| e["data"]["variables"] = json!({ "DB_PASSWORD": "hunter2-hunter2" }), "plaintext-secret"),
    ("code", |e| e["data"]["secrets"] = json!({ "KEY": { "reference": "not-there" } }), "unknown-secret-reference"),
    ("code", |e| e["data"]["expires_at"] = json!("2026-01-01T00:00:00Z"), "expired-event"),
    ("place", |e| e["data"]["server"] = json!({ "handle": "nowhere" }), "unknown-server"),
    ("place", |e| e["data"]["allocations"][0]["host_port"] = json!(0), "invalid-field"),
    // What only both together show.
    ("both", |e| e["data"]["allocations"][0]["service"] = json!("db"), "invalid-field"),
];

#[tokio::test(flavor = "multi_thread")]
async fn halves_are_refused_with_the_code_that_the_whole_request_would_get() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store, &amqp, changed(), WorkerOptions::default());
    for (number, (which, edit, code)) in FAULTS.into_iter().enumerate() {
        let project = HalvedProject::new(&format!("p{number}"));
        let (mut good_code, mut good_place) = (project.code('a', |_| {}), project.place(8001, |_| {}));
        let whole = joined(&good_code, &good_place);
        let mut whole = serde_json::to_value(whole).unwrap();
        edit(&mut whole);
        whole["id"] = format!("whole-{number}").into();
        outside.publish(&bytes(&whole)).await;
        let told = outside.result().await;
        assert_eq!(told["data"]["failure"]["code"], code, "{told}");
        outside.dead_letter().await;

        let expected = match which {
            "code" => {
                edit(&mut good_code);
                own_id(&good_code)
            }
            "place" => {
                edit(&mut good_place);
                own_id(&good_place)
            }
            _ => {
                edit(&mut good_place);
                joined_id(&good_code, &good_place)
            }
        };
        // The good one first: nothing comes of the bad one, whatever is known.
        let order = if which == "code" { [&good_place, &good_code] } else { [&good_code, &good_place] };
        for half in order {
            outside.publish(&bytes(half)).await;
        }
        let told = outside.result().await;
        assert_eq!(
            (&told["data"]["failure"]["code"], &told["data"]["deployment_id"]),
            (&json!(code), &json!(expected)),
            "{told}"
        );
        let letter = outside.dead_letter().await;
        let body = String::from_utf8(letter.body).unwrap();
        assert_eq!(body.contains("withheld"), code == "plaintext-secret", "{body}");
    }
    let kept = "SELECT count(*) FROM project_halves WHERE encode(body, 'escape') LIKE '%hunter2%'";
    assert_eq!(database.count(kept).await, 0);
    assert_eq!(database.count("SELECT count(*) FROM deployments WHERE state <> 'failed'").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_of_both_halves_must_be_allowed_to_deploy_what_they_make() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let operator = Operator::new("ada", Some("who deploys what"));
    let all = || Pattern::new("*").unwrap();
    let scope = |source: &str, repositories: &str| SourceScope {
        source: Pattern::new(source).unwrap(),
        user: None,
        projects: all(),
        repositories: Pattern::new(repositories).unwrap(),
        servers: all(),
        actions: Vec::new(),
    };
    store.allow_source(&scope(CODE, "*"), &operator).await.unwrap();
    store.allow_source(&scope(PLACE, "acme/shop"), &operator).await.unwrap();
    let worker = TestWorker::start(store, &amqp, changed(), WorkerOptions::default());
    let (shop, kiosk) = (HalvedProject::new("shop"), HalvedProject::new("kiosk"));
    for project in [&shop, &kiosk] {
        outside.publish(&bytes(&project.code('a', |_| {}))).await;
    }
    let stranger = shop.place(8001, |e| e["source"] = "/stranger".into());
    outside.publish(&bytes(&stranger)).await;
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["failure"]["code"], &told["data"]["deployment_id"]),
        (&json!("source-not-allowed"), &json!(own_id(&stranger)))
    );
    // What it may do alone nobody knows before the code is known, which tells the repository.
    let place = kiosk.place(8001, |_| {});
    outside.publish(&bytes(&place)).await;
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["failure"]["code"], &told["data"]["deployment_id"]),
        (&json!("source-not-allowed"), &json!(own_id(&place)))
    );
    outside.publish(&bytes(&shop.place(8001, |_| {}))).await;
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["outcome"], &told["data"]["server"]),
        (&json!("succeeded"), &json!(ServerHandle::new("s-shop").unwrap()))
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_of_a_slug_that_is_another_projects_are_refused_together_and_kept() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store, &amqp, changed(), WorkerOptions::default());
    let (first, second) = (HalvedProject::new("shop"), HalvedProject::new("shop"));
    for half in [first.code('a', |_| {}), first.place(8001, |_| {})] {
        outside.publish(&bytes(&half)).await;
    }
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    let (code, place) = (second.code('b', |_| {}), second.place(8002, |_| {}));
    for half in [&place, &code, &place] {
        outside.publish(&bytes(half)).await;
    }
    let told = outside.result().await;
    assert_eq!(
        (&told["data"]["failure"]["code"], &told["data"]["deployment_id"]),
        (&json!("slug-taken"), &json!(joined_id(&code, &place)))
    );
    let letter = outside.dead_letter().await;
    let asked: Value = serde_json::from_slice(&letter.body).unwrap();
    assert_eq!(
        (&asked["type"], &asked["data"]["server"]["handle"]),
        (&json!("slipway.project.ready.v1"), &json!("s-shop")),
        "replayed as a whole"
    );
    assert_eq!(database.count("SELECT count(*) FROM project_halves").await, 4);
    worker.stop().await;
}
