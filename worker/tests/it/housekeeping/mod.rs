//! What is pruned after which time, and what stays: what rollbacks, duplicates and people need.

mod indexes;
mod projects;
mod queue;

use std::time::{Duration, Instant};

use slipway_protocol::{DeploymentId, decode};
use slipway_worker::store::{Admission, AttemptSummary, DeploymentEnd, OldRows, Retention, Store, WalkPosition};

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, migrated, request};

fn keep() -> Retention {
    Retention {
        secrets: Retention::days(14),
        journal: Retention::days(90),
        deployments: Retention::days(365),
        events: Retention::days(30),
        dead_letters: Retention::days(90),
        dead_letter_messages: Retention::days(14),
        audit: Retention::days(1825),
        ids: Retention::days(730),
        versions: 5,
    }
}

/// Deploys once, as a worker does; a sealed secret and a reference are in the request.
async fn deployed(store: &Store) -> (DeploymentId, Vec<u8>) {
    let sealed = base64(&[7; 64]);
    let body = request(|event| {
        event["data"]["secrets"] = serde_json::json!({
            "TOKEN_A": { "sealed": { "key_id": "k", "sealed_box": sealed } }, "TOKEN_B": { "reference": "bot" }
        });
        event["data"].as_object_mut().unwrap().remove("sequence");
    });
    let incoming = incoming(&body);
    let request = decode(&body, &incoming.metadata()).unwrap();
    assert_eq!(store.accept(&request, &incoming).await.unwrap(), Admission::New);
    let lease = store.claim(Duration::from_secs(60)).await.unwrap().unwrap().lease;
    store.finish(&lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
    (request.deployment_id(), body)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// As many versions as there are days, the oldest first, like the deployment `id`: by `projects` projects.
async fn history(database: &TestDatabase, id: DeploymentId, days: u32, projects: u32) {
    let columns = "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
                   WHERE attrelid = 'deployments'::regclass AND attnum > 0 AND NOT attisdropped
                     AND attname NOT IN ('id', 'event_id', 'arrival', 'finished_at', 'project_id', 'state', 'fence', 'owner')";
    let columns: String = database.sql.query_one(columns, &[]).await.unwrap().get(0);
    let insert = format!(
        "INSERT INTO deployments (id, event_id, finished_at, project_id, state, {columns})
         SELECT gen_random_uuid(), 'day ' || day, now() - day * interval '1 day',
             CASE WHEN p = 1 THEN d.project_id ELSE md5(p::text)::uuid END, 'succeeded', {}
         FROM (SELECT * FROM deployments WHERE id = '{id}') d, generate_series({days}, 1, -1) day,
             generate_series(1, {projects}) p ORDER BY day DESC;
         INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash, outcome)
             SELECT id, 1, 1, stage, '', 'done' FROM deployments, (VALUES ('clone'), ('env')) s (stage)
             WHERE event_id LIKE 'day %';
         ANALYZE deployments, stage_journal",
        columns.split(", ").map(|name| format!("d.{name}")).collect::<Vec<_>>().join(", ")
    );
    database.sql.batch_execute(&insert).await.unwrap();
}

async fn walk(store: &Store, keep: &Retention, limit: u32) -> (u64, Duration) {
    let (mut from, mut changed, mut longest) = (WalkPosition::default(), 0, Duration::ZERO);
    loop {
        let begun = Instant::now();
        let step = store.prune_deployments(keep, &from, limit).await.unwrap();
        longest = longest.max(begun.elapsed());
        changed += step.changed;
        match step.next {
            Some(next) => from = next,
            None => return (changed, longest),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_step_by_step_and_what_rollbacks_and_duplicates_need_stays() {
    let (database, store) = migrated("w").await;
    let (id, body) = deployed(&store).await;
    // It ended before all others, and a long time ago.
    history(&database, id, 500, 1).await;
    let age = format!(
        "UPDATE deployments SET state = 'succeeded', finished_at = now() - interval '501 days' WHERE id = '{id}'"
    );
    database.sql.batch_execute(&age).await.unwrap();
    let letter =
        "INSERT INTO dead_letters (id, deployment_id, reason, stage, code, class, message, attempts, original_exchange,
                      original_routing_key, worker)
                  SELECT id, id, 'permanent', 'env', 'c', 'permanent', 'm', 1, '', '', 'w' FROM deployments
                  WHERE event_id = 'day 450'";
    database.sql.batch_execute(letter).await.unwrap();
    database.sql.batch_execute("UPDATE outbox SET published_at = now()").await.unwrap();
    let lock = database.another().await;
    lock.batch_execute("BEGIN; SELECT FROM deployments WHERE event_id = 'day 400' FOR UPDATE").await.unwrap();
    walk(&store, &keep(), 7).await;
    lock.batch_execute("ROLLBACK").await.unwrap();

    let count =
        async |condition: &str| database.count(&format!("SELECT count(*) FROM deployments WHERE {condition}")).await;
    let days = "(extract(epoch FROM now() - finished_at) / 86400)::int";
    // The last ten versions, since variables of so many are looked at, though a rollback may go to five.
    assert_eq!(count(&format!("request::text LIKE '%sealed_box%' AND {days} > 14 AND event_id <> 'day 400'")).await, 0);
    assert_eq!(count("request::text LIKE '%sealed_box%' AND event_id <> 'day 400'").await, 13);
    assert_eq!(count("request #>> '{data,secrets,TOKEN_B,reference}' = 'bot'").await, count("true").await);
    assert_eq!(count(&format!("{days} < 365")).await, 364);
    assert_eq!(
        count(&format!("{days} >= 365")).await,
        2,
        "the one that is locked, and the one with an open dead letter"
    );
    let journals = "SELECT count(DISTINCT deployment_id) FROM stage_journal";
    assert_eq!(database.count(journals).await, 89 + 2);
    assert_eq!(database.count("SELECT count(*) FROM ended_requests").await, 500 + 1 - 364 - 2);

    walk(&store, &keep(), 100).await;
    assert_eq!(count("event_id = 'day 400'").await, 0, "the next pass finds what was locked");
    assert_eq!(walk(&store, &keep(), 100).await.0, 0, "nothing is left to do");
    let incoming = incoming(&body);
    let again = decode(&body, &incoming.metadata()).unwrap();
    assert!(store.deployment(id).await.unwrap().is_none());
    assert_eq!(store.accept(&again, &incoming).await.unwrap(), Admission::Duplicate);
    let versions = store
        .versions(&again.event.data.project, &again.event.data.server.as_ref().unwrap().handle, 100)
        .await
        .unwrap();
    assert_eq!(versions.len(), 13, "without those whose secrets were taken out");
    assert_eq!(store.prune_old(OldRows::Ids, Retention::days(730), 10).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_of_each_kind_stay_however_old_they_are() {
    let (database, store) = migrated("w").await;
    let (id, _) = deployed(&store).await;
    history(&database, id, 20, 1).await;
    let kinds = "UPDATE deployments SET finished_at = finished_at - interval '2 years';
                 UPDATE deployments SET action = 'undeploy', request = request WHERE event_id IN ('day 17', 'day 16');
                 UPDATE deployments SET state = 'failed' WHERE event_id IN ('day 15', 'day 14');
                 UPDATE deployments SET started_at = NULL, state = 'superseded' WHERE event_id IN ('day 13');
                 UPDATE deployments SET request = NULL, state = 'failed' WHERE event_id IN ('day 12')";
    database.sql.batch_execute(kinds).await.unwrap();
    let note = "UPDATE project_places p SET (begun, succeeded) = (
                    SELECT max(arrival), max(arrival) FILTER (WHERE state IN ('succeeded', 'already_deployed'))
                    FROM deployments d WHERE d.project_id = p.project_id AND d.server = p.server
                      AND started_at IS NOT NULL AND request IS NOT NULL AND action IN ('deploy', 'rollback'))";
    database.sql.batch_execute(note).await.unwrap();
    let noted = "SELECT count(*) FROM project_places p
                 WHERE EXISTS (SELECT FROM deployments WHERE arrival = p.begun AND project_id = p.project_id)
                   AND EXISTS (SELECT FROM deployments WHERE arrival = p.succeeded AND project_id = p.project_id)";
    assert_eq!(database.count(noted).await, 1);
    walk(&store, &keep(), 3).await;
    let left =
        "SELECT string_agg(substr(event_id, 5), ' ' ORDER BY arrival) FROM deployments WHERE event_id LIKE 'day %'";
    let left: String = database.sql.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, "16 14 13 12 10 9 8 7 6 5 4 3 2 1");
    assert_eq!(database.count(noted).await, 1, "what is known of a place is about a deployment that is there");

    let announcements = "INSERT INTO github_deployments (deployment_id, next_try_at, told)
                         SELECT id, now() - interval '1 day' * split_part(event_id, ' ', 2)::int * 20,
                             CASE event_id WHEN 'day 9' THEN 'in_progress' END
                         FROM deployments WHERE event_id IN ('day 10', 'day 9', 'day 8', 'day 1')";
    database.sql.batch_execute(announcements).await.unwrap();
    assert_eq!(store.prune_old(OldRows::Untold, Retention::days(90), 1).await.unwrap(), 1, "one batch");
    assert_eq!(store.prune_old(OldRows::Untold, Retention::days(90), 9).await.unwrap(), 1);
    let left = "SELECT count(*) FROM github_deployments g JOIN deployments d ON d.id = g.deployment_id
                WHERE event_id IN ('day 9', 'day 1')";
    assert_eq!(database.count(left).await, 2, "what GitHub was told of, and what is young");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_costs_the_same_with_a_long_history() {
    let (database, store) = migrated("w").await;
    let (id, _) = deployed(&store).await;
    history(&database, id, 400, 100).await;
    let (changed, longest) = walk(&store, &keep(), 100).await;
    assert!(changed > 30_000, "{changed}");
    assert!(longest < Duration::from_secs(2), "one batch took {longest:?}");
    // Of a kind, what is too young isn't looked at.
    let begun = Instant::now();
    let mut steps = 0;
    let mut from = WalkPosition::default();
    while let Some(next) = store.prune_deployments(&keep(), &from, 100).await.unwrap().next {
        (from, steps) = (next, steps + 1);
    }
    assert!(steps < 500, "{steps} steps in {:?}", begun.elapsed());
}
