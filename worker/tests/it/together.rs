//! Messages that are delivered together are taken in together, and come to what they would come to one by one.

use serde_json::{Value, json};
use slipway_worker::scheduler::Limits;

use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};
use crate::services::{TestDatabase, vhost};
use slipway_protocol::Change;

/// Requests of all kinds, each of which may mean something to another one.
fn messages() -> Vec<Vec<u8>> {
    let fresh = || (0..8).map(|_| request(|_| {})).collect::<Vec<_>>();
    let of = |id: &str, edit: &dyn Fn(&mut Value)| {
        request(|e| {
            let slug = format!("shop-{}", &id[..4]);
            e["data"]["project"] = json!({ "id": id, "slug": slug });
            e["data"]["repository"]["name"] = format!("acme/{slug}").into();
            edit(e);
        })
    };
    let [numbered, dated, pushing, one, other, third] = [(); 6].map(|()| uuid::Uuid::new_v4().to_string());
    let number = |n: u64| of(&numbered, &move |e| e["data"]["sequence"] = n.into());
    let at = |time: &'static str| of(&dated, &move |e| e["time"] = time.into());
    let first = fresh();
    let called = |id: &str| of(id, &|e| e["data"]["project"]["slug"] = "taken".into());
    let from = |id: &str| of(id, &|e| e["data"]["repository"]["name"] = "acme/shared".into());
    [
        first.clone(),
        vec![number(3), number(1), number(5), first[0].clone(), first[3].clone()],
        vec![at("2026-01-02T00:00:00Z"), at("2026-01-01T00:00:00Z"), at("2026-01-03T00:00:00Z")],
        vec![
            of(&pushing, &|e| e["data"]["repository"]["pushes_deployed_by"] = "webhook".into()),
            of(&pushing, &|_| {}),
        ],
        vec![called(&one), called(&other), from(&one), from(&third), number(4), b"no json".to_vec()],
        fresh(),
    ]
    .concat()
}

/// What has become of each deployment, and what it has told.
async fn outcome(database: &TestDatabase, messages: &[Vec<u8>], prefetch: u16) -> (Vec<String>, i64) {
    let (store, amqp) = (database.store("w"), vhost());
    let outside = TestClient::new(&amqp).await;
    for message in messages {
        outside.publish(message).await;
    }
    // Nothing is carried out, so that it's seen what was taken in.
    let limits = Limits { per_server: 0, ..Limits::default() };
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let options = WorkerOptions { limits, prefetch, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, options);
    // The last one has come after all others.
    let last: Value = serde_json::from_slice(messages.last().unwrap()).unwrap();
    let here = format!("SELECT count(*) FROM deployments WHERE event_id = '{}'", last["id"].as_str().unwrap());
    eventually("all is taken in", || async { database.count(&here).await == 1 }).await;
    worker.stop().await;
    let all = "SELECT concat_ws(' ', d.id, d.state, d.project_slug, d.superseded_by, d.producer_sequence, d.event_time > now(),
                   d.failure ->> 'code', d.next_sequence, o.project_id, r.project_id, w.deployed_by,
                   (SELECT string_agg(coalesce(convert_from(x.told, 'UTF8'), d.result ->> 'outcome'), ',' ORDER BY x.sequence)
                    FROM outbox x WHERE x.deployment_id = d.id AND x.sequence IS NOT NULL))
               FROM deployments d LEFT JOIN slug_owners o USING (server, project_slug)
               LEFT JOIN repository_owners r ON r.repository = lower(d.repository)
               LEFT JOIN watched_branches w ON w.project_id = d.project_id ORDER BY d.id";
    let rows = database.sql.query(all, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    (rows, database.count("SELECT count(DISTINCT accepted_at) FROM deployments").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_together_comes_to_what_it_would_come_to_one_by_one() {
    let messages = messages();
    let ((alone, _), (together, _)) = (migrated("w").await, migrated("w").await);
    let ((expected, each), (found, at_once)) =
        tokio::join!(outcome(&alone, &messages, 1), outcome(&together, &messages, 64));
    assert_eq!(found, expected);
    assert!(
        expected.iter().any(|row| row.contains("superseded")) && expected.iter().any(|row| row.contains("slug-taken"))
    );
    assert!(at_once < each / 2, "{at_once} transactions instead of {each}");
}
