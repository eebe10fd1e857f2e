//! `slipway events replay`: history for a queue that came later, in order and with the same ids, as it was published.

use std::time::Duration;

use serde_json::Value;
use slipway_protocol::Change;
use slipway_worker::amqp::{self, Subscription};
use slipway_worker::message::Incoming;

use super::scene::Scene;
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, report, request};

/// A queue that a new subscriber has declared.
async fn queue(scene: &Scene) -> Subscription {
    amqp::subscribe(scene.link(), &[]).await.unwrap()
}

/// All that is in a queue.
async fn drain(queue: &mut Subscription, count: usize) -> Vec<Incoming> {
    let mut got = Vec::new();
    while got.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), queue.next()).await;
        got.push(next.unwrap_or_else(|_| panic!("{} of {count}", got.len())).unwrap().unwrap().incoming);
    }
    let more = tokio::time::timeout(Duration::from_millis(300), queue.next()).await;
    assert!(more.is_err(), "more than {count} came");
    got
}

fn read(incoming: &Incoming) -> Value {
    serde_json::from_slice(&incoming.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_subscriber_gets_the_very_events_that_the_others_got_in_their_order() {
    let scene = Scene::new().await;
    let store = scene.database.store("w");
    let mut outside = TestClient::new(&scene.amqp).await;
    let stages = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &scene.amqp, stages, WorkerOptions::default());
    let mut live = Vec::new();
    for n in 0..6 {
        let body = request(|event| {
            let slug = format!("shop-{}", n % 2);
            event["data"]["repository"]["name"] = format!("acme/{slug}").into();
            let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, slug.as_bytes());
            event["data"]["project"] = serde_json::json!({ "id": id, "slug": slug });
        });
        outside.publish(&body).await;
        loop {
            live.push(outside.event().await);
            if live.last().unwrap()["type"] == "slipway.deployment.result.v1" {
                break;
            }
        }
    }
    super::scene::eventually("all is marked as published", || async { store.backlog().await.unwrap().depth == 0 })
        .await;
    worker.stop().await;

    let mut all = queue(&scene).await;
    let name = all.queue();
    let replay = |more: &[&str]| {
        let words: Vec<String> = ["events", "replay", "--since", "1h", "--to", &name, "--json"]
            .iter()
            .chain(more)
            .map(|w| (*w).to_owned())
            .collect();
        let scene = &scene;
        async move { scene.json(&words.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    assert_eq!(replay(&[]).await["sent"], live.len());
    let got = drain(&mut all, live.len()).await;
    // Those of one deployment in their order, and deployments one after the other, as they were.
    assert_eq!(got.iter().map(read).collect::<Vec<_>>(), live);
    let last = &got.last().unwrap();
    assert_eq!(last.headers["slipway-routing-key"], "result.shop-1.succeeded");

    assert_eq!(replay(&["--results", "--project", "shop-0"]).await["sent"], 3);
    let wanted: Vec<&Value> = live
        .iter()
        .filter(|event| event["subject"] == "shop-0" && event["type"] == "slipway.deployment.result.v1")
        .collect();
    let got = drain(&mut all, 3).await;
    assert_eq!(got.iter().map(read).collect::<Vec<_>>().iter().collect::<Vec<_>>(), wanted);
    assert_eq!(replay(&["--until", "30m"]).await["sent"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_sent_page_by_page_and_what_is_no_subscribers_queue_is_refused() {
    let scene = Scene::new().await;
    // A thousand events of fifty deployments, many published in one moment.
    let made = "
        INSERT INTO deployments (id, source, event_id, project_id, project_slug, server, state, request, result, finished_at)
        SELECT md5('d' || n)::uuid, '/test', n::text, md5('p' || n)::uuid, 'shop-' || n, 'vps-1', 'succeeded', '{}', '{}', now()
        FROM generate_series(1, 50) n;
        INSERT INTO outbox (deployment_id, sequence, type, told, must_route, created_at, published_at)
        SELECT md5('d' || n)::uuid, s, 'slipway.deployment.progress.v1',
            convert_to('{\"kind\":\"attempt_started\",\"attempt\":' || s || '}', 'UTF8'), false,
            now() - interval '1 hour', now() - interval '1 hour' + (s / 7) * interval '1 second'
        FROM generate_series(1, 20) s, generate_series(1, 50) n ORDER BY s, n";
    scene.database.sql.batch_execute(made).await.unwrap();
    let mut events = queue(&scene).await;
    let name = events.queue();
    let sent = scene.json(&["events", "replay", "--since", "2h", "--to", &name, "--json"]).await;
    assert_eq!(sent["sent"], 1000, "{sent}");
    let got: Vec<Value> = drain(&mut events, 1000).await.iter().map(read).collect();
    for n in 1..=50 {
        let of: Vec<u64> = got
            .iter()
            .filter(|event| event["subject"] == format!("shop-{n}"))
            .map(|event| event["sequence"].as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(of, (1..=20).collect::<Vec<u64>>(), "shop-{n}");
    }
    for (queue, part) in [("no-such-queue", "there is no queue"), ("slipway.deployments", "of Slipway's own")] {
        let output = scene.run(&["events", "replay", "--since", "2h", "--to", queue]).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(part) && said.contains("hint: "), "{said}");
    }
    let recorded = scene.json(&["audit", "--action", "events replay", "--json"]).await;
    assert_eq!(recorded.as_array().unwrap().len(), 2, "{recorded}");
}
