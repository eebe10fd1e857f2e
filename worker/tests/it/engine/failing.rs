//! What the database always fails at once it was taken in, while it answers everybody else: claims, ends, and marks of what
//! was sent. It's found, shown and held, in all workers, and what is behind it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_protocol::DeploymentId;
use slipway_worker::store::{HeldWrite, Operator, RetryNowOutcome, State, Store};
use tokio::time::Instant;

use super::changed;
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, incoming, migrated, request};
use crate::services::{TestDatabase, vhost};

/// Makes each write of `event` to `table` come to `end` where `condition` holds.
pub(super) async fn poison(database: &TestDatabase, event: &str, table: &str, condition: &str, end: &str) {
    let sql = format!(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {end}; RETURN NEW; END $$;
         CREATE TRIGGER poison BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION poison()"
    );
    database.sql.batch_execute(&sql).await.unwrap();
}

pub(super) fn of(slug: &str) -> Vec<u8> {
    request(|event| event["data"]["project"]["slug"] = slug.into())
}

/// Waits for one result of each, and how long that takes.
pub(super) async fn results(outside: &mut TestClient, expected: &[DeploymentId]) -> Duration {
    let (begun, mut told) = (Instant::now(), BTreeMap::new());
    while told.len() < expected.len() {
        let result = outside.result().await;
        let id = result["data"]["deployment_id"].as_str().unwrap().to_owned();
        assert_eq!(told.insert(id, result["data"]["outcome"].clone()), None, "one result each");
    }
    for id in expected {
        assert_eq!(told[&id.to_string()], "succeeded");
    }
    begun.elapsed()
}

pub(super) async fn accept_in(store: &Store, bodies: &[Vec<u8>]) -> Vec<DeploymentId> {
    let mut ids = Vec::new();
    for body in bodies {
        let incoming = incoming(body);
        let request = slipway_protocol::decode(body, &incoming.metadata()).unwrap();
        store.accept(&request, &incoming).await.unwrap();
        ids.push(request.deployment_id());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_always_time_out_keep_no_worker_from_all_others() {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let poisoned = accept_in(&store, &[of("poison-a"), of("poison-b")]).await;
    let others = accept_in(&store, &(0..20).map(|_| request(|_| {})).collect::<Vec<_>>()).await;
    poison(&database, "UPDATE", "deployments", "NEW.project_slug LIKE 'poison%'", "PERFORM pg_sleep(60)").await;
    let workers = [(store.clone()), database.store("b")]
        .map(|store| TestWorker::start(store, &amqp, changed(), WorkerOptions::default()));
    let took = results(&mut outside, &others).await;
    assert!(took < Duration::from_secs(25), "the others took {took:?}");
    let held = || async { store.failing_writes(10).await.unwrap() };
    eventually("both are held", || async { held().await.count == 2 }).await;
    for write in held().await.writes {
        assert_eq!((write.what, poisoned.contains(&write.deployment.unwrap())), (HeldWrite::Deployment, true));
        assert!(write.reason.contains("statement timeout"), "{}", write.reason);
    }
    eventually("each worker shows them", || async {
        workers.iter().all(|worker| worker.readiness.report().held.is_some_and(|held| held.writes == 2))
    })
    .await;

    // What failed as the first one is tried at once when that succeeds.
    database.sql.batch_execute("DROP TRIGGER poison ON deployments").await.unwrap();
    let later = "UPDATE held_deployments SET tried_at = NULL, next_try_at = now() + CASE WHEN deployment_id = $1
                     THEN interval '0' ELSE interval '1 hour' END";
    database.sql.execute(later, &[&poisoned[0].0]).await.unwrap();
    results(&mut outside, &poisoned).await;
    eventually("none is held", || async { held().await.count == 0 }).await;
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_one_lease_interrupts_nobody_else() {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    // Its second deployment finds the lease of its first one, and somebody else's lock on that.
    let project = uuid::Uuid::new_v4().to_string();
    let locked = || {
        request(|event| {
            event["data"]["project"]["slug"] = "locked".into();
            event["data"]["project"]["id"] = project.as_str().into();
        })
    };
    let first = accept_in(&store, &[locked()]).await;
    let options = || WorkerOptions { lease: Duration::from_secs(4), ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, changed(), options());
    results(&mut outside, &first).await;
    worker.stop().await;
    let second = accept_in(&store, &[locked()]).await;
    let others = accept_in(&store, &(0..12).map(|_| request(|_| {})).collect::<Vec<_>>()).await;
    let lock = database.another().await;
    lock.batch_execute("BEGIN; SELECT FROM project_leases WHERE project_slug = 'locked' FOR UPDATE").await.unwrap();
    let worker = TestWorker::start(store.clone(), &amqp, changed(), options());
    let took = results(&mut outside, &others).await;
    assert!(took < Duration::from_secs(10), "the others took {took:?}");
    let interrupted = "SELECT count(*) FROM deployments WHERE interruptions > 0";
    assert_eq!(database.count(interrupted).await, 0);
    let held = store.failing_writes(10).await.unwrap();
    assert_eq!(held.writes.iter().map(|write| write.deployment).collect::<Vec<_>>(), [Some(second[0])]);
    assert!(held.writes[0].reason.contains("lock timeout"), "{}", held.writes[0].reason);
    drop(lock);
    database.sql.batch_execute("UPDATE held_deployments SET next_try_at = now(), tried_at = NULL").await.unwrap();
    results(&mut outside, &second).await;
    worker.stop().await;
}

/// Lets the last try of what is held be due, and fail.
pub(super) async fn last_try(database: &TestDatabase) {
    let sql = "UPDATE held_deployments SET tries = 5, next_try_at = now(), tried_at = NULL";
    eventually("it's held", || async { database.sql.execute(sql, &[]).await.unwrap() == 1 }).await;
}

/// Lets the last try of its end be due, and fail.
async fn last_end(database: &TestDatabase) {
    last_try(database).await;
    let sql = "UPDATE held_deployments SET tries = 11, next_try_at = now() WHERE tries = 7";
    eventually("its end has failed once", || async { database.sql.execute(sql, &[]).await.unwrap() == 1 }).await;
    let given_up = "SELECT count(*) FROM held_deployments WHERE next_try_at = 'infinity'";
    eventually("its end is tried no more", || async { database.count(given_up).await == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_can_never_begin_is_given_up_with_its_reason() {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let condition = "NEW.project_slug = 'poison' AND NEW.state = 'running'";
    poison(&database, "UPDATE", "deployments", condition, "RAISE EXCEPTION 'no, says the trigger'").await;
    let id = accept_in(&store, &[of("poison")]).await[0];
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    last_try(&database).await;
    let result = outside.result().await;
    assert_eq!(result["data"]["deployment_id"], id.to_string());
    assert_eq!(
        (&result["data"]["outcome"], &result["data"]["failure"]["code"]),
        (&"failed".into(), &"internal-error".into())
    );
    let message = result["data"]["failure"]["message"].as_str().unwrap();
    assert!(message.contains("at 6 tries") && message.contains("no, says the trigger"), "{message}");
    let letter = outside.dead_letter().await;
    assert_eq!(letter.headers["dlq-error-code"], "internal-error");
    eventually("none is held", || async { store.failing_writes(1).await.unwrap().count == 0 }).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_end_cant_be_written_either_waits_for_people() {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let id = accept_in(&store, &[of("poison")]).await[0];
    poison(&database, "UPDATE", "deployments", "NEW.project_slug = 'poison'", "RAISE EXCEPTION 'no'").await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    last_end(&database).await;
    let held = store.failing_writes(10).await.unwrap();
    assert_eq!((held.count, held.writes[0].deployment, held.writes[0].next_try_in), (1, Some(id), None));
    assert_eq!(store.deployment(id).await.unwrap().unwrap().state, State::Pending);

    let operator = Operator::new("ada", Some("the trigger is gone"));
    assert!(store.retry_now(id, &operator).await.is_err(), "it isn't gone yet");
    database.sql.batch_execute("DROP TRIGGER poison ON deployments").await.unwrap();
    assert_eq!(store.retry_now(id, &operator).await.unwrap(), RetryNowOutcome::Due);
    results(&mut outside, &[id]).await;
    worker.stop().await;
}

/// An end that can't be written is interrupted some times, and then held as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_whose_end_can_never_be_written_is_carried_out_so_often_and_no_more() {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let ended = "NEW.project_slug = 'poison' AND NEW.state NOT IN ('pending', 'running')";
    poison(&database, "UPDATE", "deployments", ended, "RAISE EXCEPTION 'no end, says the trigger'").await;
    let id = accept_in(&store, &[of("poison")]).await[0];
    let almost = "UPDATE deployments SET interruptions = 10";
    database.sql.batch_execute(almost).await.unwrap();
    let options = WorkerOptions { lease: Duration::from_secs(2), ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, changed(), options);
    last_end(&database).await;
    let held = &store.failing_writes(1).await.unwrap().writes[0];
    assert!(held.reason.contains("no end, says the trigger"), "{}", held.reason);
    assert_eq!((held.deployment, held.next_try_in), (Some(id), None));
    let other = accept_in(&store, &[request(|_| {})]).await;
    results(&mut outside, &other).await;

    // It still runs, as far as the database knows.
    database.sql.batch_execute("DROP TRIGGER poison ON deployments").await.unwrap();
    let operator = Operator::new("ada", Some("the trigger is gone"));
    assert_eq!(store.retry_now(id, &operator).await.unwrap(), RetryNowOutcome::Due);
    let result = outside.result().await;
    assert_eq!(result["data"]["deployment_id"], id.to_string());
    assert_eq!(result["data"]["failure"]["code"], "interrupted-too-often");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_marked_as_published_is_sent_once_and_others_go_on() {
    is_sent_once("RAISE EXCEPTION 'no mark, says the trigger'", "no mark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_to_be_marked_as_published_is_sent_once_and_others_go_on() {
    is_sent_once("PERFORM pg_sleep(60)", "statement timeout").await;
}

async fn is_sent_once(end: &str, said: &str) {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let poisoned = accept_in(&store, &[of("poison")]).await;
    let others = accept_in(&store, &(0..8).map(|_| request(|_| {})).collect::<Vec<_>>()).await;
    let condition = format!("NEW.deployment_id = '{}' AND NEW.published_at IS NOT NULL", poisoned[0]);
    poison(&database, "UPDATE", "outbox", &condition, end).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let all: Vec<DeploymentId> = poisoned.iter().chain(&others).copied().collect();
    let mut copies: BTreeMap<String, u32> = BTreeMap::new();
    let mut results = 0;
    while results < all.len() {
        let event = outside.event().await;
        results += usize::from(event["type"] == "slipway.deployment.result.v1");
        *copies.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let waiting =
        "SELECT count(*) FROM outbox WHERE published_at IS NULL AND position NOT IN (SELECT position FROM held_marks)";
    eventually("all else is marked", || async { database.count(waiting).await == 0 }).await;
    // All that has been sent meanwhile is here before this.
    outside.publish(&of("last")).await;
    loop {
        let event = outside.event().await;
        if event["type"] == "slipway.deployment.result.v1" && event["subject"] == "last" {
            break;
        }
        *copies.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = copies.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "sent more than once: {twice:?}");
    let held = store.failing_writes(100).await.unwrap();
    assert!(held.count > 0 && held.writes.iter().all(|write| write.deployment == Some(poisoned[0])), "{held:?}");
    assert!(held.writes.iter().all(|write| matches!(write.what, HeldWrite::Mark(_)) && write.reason.contains(said)));
    eventually("what was sent doesn't wait to be published", || async { store.backlog().await.unwrap().depth == 0 })
        .await;

    database.sql.batch_execute("DROP TRIGGER poison ON outbox").await.unwrap();
    let one = "UPDATE held_marks SET next_try_at = now() WHERE position = (SELECT min(position) FROM held_marks)";
    database.sql.batch_execute(one).await.unwrap();
    eventually("all is marked", || async {
        database.count("SELECT count(*) FROM outbox WHERE published_at IS NULL").await == 0
            && store.failing_writes(1).await.unwrap().count == 0
    })
    .await;
    worker.stop().await;
}
