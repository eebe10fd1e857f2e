//! What the database always fails at, while it answers everybody else: it's held, given up with its reason, and can be
//! replayed; nobody waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_protocol::{PartialEnvelope, decode};
use slipway_worker::store::{DeadLetterFilter, DeadLetterState, Operator, Replay};

use super::{changed, id_of};
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, incoming, migrated, request};
use crate::services::vhost;

/// Makes every insert of project `poison` among the deployments come to `end`.
fn poison(end: &str) -> String {
    format!(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {end}; RETURN NEW; END $$;
         CREATE TRIGGER poison BEFORE INSERT ON deployments FOR EACH ROW WHEN (NEW.project_slug = 'poison')
         EXECUTE FUNCTION poison()"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_always_times_out_is_given_up_and_others_go_on() {
    let timeout = "RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'";
    is_given_up(timeout, "statement timeout").await;
}

/// As with PgBouncer's query_timeout and PostgreSQL's transaction_timeout, which take the connection with them.
#[tokio::test(flavor = "multi_thread")]
async fn what_always_ends_its_connection_is_given_up_and_others_go_on() {
    is_given_up("PERFORM pg_terminate_backend(pg_backend_pid())", "terminating connection").await;
}

async fn is_given_up(end: &str, said: &str) {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    database.sql.batch_execute(&poison(end)).await.unwrap();
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let project = uuid::Uuid::new_v4().to_string();
    let poisoned = || {
        request(|event| {
            event["data"]["project"]["slug"] = "poison".into();
            event["data"]["project"]["id"] = project.as_str().into();
        })
    };
    let (first, second) = (poisoned(), poisoned());
    let others = [request(|_| {}), request(|_| {}), request(|_| {})];
    outside.publish(&first).await;
    for other in &others {
        outside.publish(other).await;
    }
    outside.publish(&second).await;

    let mut outcomes = BTreeMap::new();
    while outcomes.len() < 5 {
        let result = outside.result().await;
        let id = result["data"]["deployment_id"].as_str().unwrap().to_owned();
        let told = (result["data"]["outcome"].clone(), result["data"]["failure"]["code"].clone());
        assert_eq!(outcomes.insert(id, told), None, "one result each");
    }
    for other in &others {
        assert_eq!(outcomes[&id_of(other).to_string()].0, "succeeded");
    }
    for body in [&first, &second] {
        let id = id_of(body);
        assert_eq!(outcomes[&id.to_string()], ("failed".into(), "intake-failed".into()));
        let letter = outside.dead_letter().await;
        assert_eq!(letter.headers["dlq-error-code"], "intake-failed");
        assert!(letter.headers["dlq-error-message"].contains(said), "{:?}", letter.headers);
        assert!([&first, &second].iter().any(|body| letter.body == **body), "byte for byte");
        let kept = store.dead_letter(id.0).await.unwrap().unwrap();
        assert_eq!(kept.state, DeadLetterState::Open);
    }
    eventually("none is held", || async { store.held(1).await.unwrap().count == 0 }).await;
    assert_eq!(store.counts().await.unwrap().open_dead_letters, 2);

    // A duplicate is recognised, also once the cause is gone.
    database.sql.batch_execute("DROP TRIGGER poison ON deployments").await.unwrap();
    outside.publish(&first).await;
    let last = request(|_| {});
    outside.publish(&last).await;
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&last).to_string());
    let only = DeadLetterFilter { ids: vec![id_of(&second).0], ..DeadLetterFilter::default() };
    let operator = Operator::new("ada", Some("the lock is gone"));
    let sent = store.replay_dead_letters(&only, Replay::default(), &operator, 1).await.unwrap();
    assert_eq!(sent.len(), 1);
    let result = outside.result().await;
    assert_eq!(result["data"]["outcome"], "succeeded");
    assert_eq!(result["data"]["project"]["slug"], "poison");
    worker.stop().await;
}

/// What is written besides may still fit into pages that are there.
#[tokio::test(flavor = "multi_thread")]
async fn what_finds_the_disk_full_is_waited_for_and_not_given_up() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    database.sql.batch_execute("CREATE SEQUENCE tries").await.unwrap();
    let full = "PERFORM nextval('tries'); RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'";
    database.sql.batch_execute(&poison(full)).await.unwrap();
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let body = request(|event| event["data"]["project"]["slug"] = "poison".into());
    outside.publish(&body).await;
    eventually("it's tried again and again", async || database.count("SELECT last_value FROM tries").await > 6).await;
    assert_eq!(store.held(1).await.unwrap().count, 0);
    database.sql.batch_execute("DROP TRIGGER poison ON deployments").await.unwrap();
    let result = outside.result().await;
    assert_eq!(
        (&result["data"]["outcome"], result["data"]["deployment_id"].as_str()),
        (&"succeeded".into(), Some(id_of(&body).to_string().as_str()))
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_held_messages_of_a_project_have_failed_as_often_as_one_of_them() {
    let (database, store) = migrated("w").await;
    let read = decode(&request(|_| {}), &incoming(b"").metadata()).unwrap();
    let project = PartialEnvelope { project: Some(read.event.data.project.clone()), ..PartialEnvelope::default() };
    let other = PartialEnvelope::default();
    for known in [&project, &project, &project, &other] {
        store.hold(known, &incoming(b"x"), "a lock", Duration::ZERO).await.unwrap();
    }
    let next = async || store.next_held(Duration::from_secs(60)).await.unwrap().unwrap().number;
    let fail = async |number| store.put_off_held(number, "a lock", Duration::ZERO).await.unwrap();
    let tries = "SELECT string_agg(tries::text, ' ' ORDER BY number) FROM held_messages";
    let told = async || database.sql.query_one(tries, &[]).await.unwrap().get::<_, String>(0);
    let first = next().await;
    fail(first).await;
    assert_eq!(told().await, "2 2 2 1");
    // What isn't due, or is being tried, hasn't failed with it.
    database
        .sql
        .execute("UPDATE held_messages SET next_try_at = now() + interval '1 hour' WHERE tries = 1", &[])
        .await
        .unwrap();
    assert_eq!(next().await, first);
    let second = next().await;
    fail(second).await;
    assert_eq!(told().await, "2 3 3 1");

    // However many come later, the oldest that is due is tried, and comes nearer to its end.
    for most in 4..7 {
        store.hold(&project, &incoming(b"x"), "a lock", Duration::ZERO).await.unwrap();
        assert_eq!(next().await, second);
        fail(second).await;
        assert_eq!(told().await.split(' ').nth(1), Some(most.to_string().as_str()));
    }
    // What is tried before them brings them no nearer.
    let later = "UPDATE held_messages SET next_try_at = now() + interval '1 hour' WHERE number <= $1";
    database.sql.execute(later, &[&(second + 1)]).await.unwrap();
    store.hold(&project, &incoming(b"x"), "a lock", Duration::ZERO).await.unwrap();
    let before = told().await;
    let newer = next().await;
    assert!(newer > second + 1);
    fail(newer).await;
    assert_eq!(told().await.split(' ').take(3).collect::<Vec<_>>(), before.split(' ').take(3).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waits_for_a_lock_is_told_and_taken_in_afterwards() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store, &amqp, changed(), WorkerOptions::default());
    assert!(worker.readiness.ready().await);
    let project = uuid::Uuid::new_v4().to_string();
    let body = request(|event| event["data"]["project"]["id"] = project.as_str().into());
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{project}', 0))");
    database.sql.batch_execute(&lock).await.unwrap();
    outside.publish(&body).await;
    let other = request(|_| {});
    outside.publish(&other).await;
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&other).to_string(), "nobody waits for it");
    let report = || serde_json::to_value(worker.readiness.report()).unwrap();
    eventually("it says what waits", || async { report()["held"]["messages"] == 1 }).await;
    assert!(report()["held"]["oldest"][0].as_str().unwrap().contains("has waited for"), "{}", report());
    assert!(worker.readiness.ready().await, "one project makes no worker unready");

    let runbook = include_str!("../../../../ops/runbook.md");
    let query = runbook.split_once("Who holds it: `").and_then(|(_, rest)| rest.split('`').next()).unwrap();
    let held: i32 = database.sql.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let another = database.another().await;
    eventually("who holds it, as the runbook says", || async {
        another.query(query, &[]).await.unwrap().iter().any(|row| row.get::<_, i32>("pid") == held)
    })
    .await;
    database.sql.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(outside.result().await["data"]["deployment_id"], id_of(&body).to_string());
    eventually("nothing is held", || async { report().get("held").is_none() }).await;
    worker.stop().await;
}
