//! What one deployment, or one locked row, may not do to the others: keep their steps, their claims or their workers waiting.

use std::time::Duration;

use super::changed;
use super::failing::{accept_in, last_try, of, poison, results};
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, migrated, request};
use crate::services::vhost;

/// Steps are written together, and the leases of a group can't be renewed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_always_times_out_interrupts_nobody_else_and_is_given_up_by_name() {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let poisoned = accept_in(&store, &[of("poison")]).await[0];
    let others = accept_in(&store, &(0..16).map(|_| request(|_| {})).collect::<Vec<_>>()).await;
    let condition = format!("NEW.deployment_id = '{poisoned}'");
    poison(&database, "INSERT", "stage_journal", &condition, "PERFORM pg_sleep(60)").await;
    let options = WorkerOptions { lease: Duration::from_secs(4), concurrency: 8, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, changed(), options);
    let took = results(&mut outside, &others).await;
    assert!(took < Duration::from_secs(15), "the others took {took:?}");
    let interrupted = format!("SELECT count(*) FROM deployments WHERE interruptions > 0 AND id <> '{poisoned}'");
    assert_eq!(database.count(&interrupted).await, 0);
    eventually("it's shown", || async {
        let writes = store.failing_writes(10).await.unwrap().writes;
        writes.iter().any(|write| write.deployment == Some(poisoned) && write.reason.contains("statement timeout"))
    })
    .await;
    last_try(&database).await;
    let result = outside.result().await;
    assert_eq!(result["data"]["deployment_id"], poisoned.to_string());
    assert_eq!(result["data"]["failure"]["code"], "internal-error");
    assert!(result["data"]["failure"]["message"].as_str().unwrap().contains("statement timeout"), "{result:#}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_rows_of_some_deployments_keep_no_other_of_their_server_waiting() {
    let ((database, store), amqp) = (migrated("a").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let locked = accept_in(&store, &(0..3).map(|_| request(|_| {})).collect::<Vec<_>>()).await;
    let others = accept_in(&store, &(0..4).map(|_| request(|_| {})).collect::<Vec<_>>()).await;
    let lock = database.another().await;
    let ids: Vec<String> = locked.iter().map(|id| format!("'{id}'")).collect();
    let sql = format!("BEGIN; SELECT FROM deployments WHERE id IN ({}) FOR UPDATE", ids.join(", "));
    lock.batch_execute(&sql).await.unwrap();
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    results(&mut outside, &others).await;
    assert_eq!(store.failing_writes(1).await.unwrap().count, 0, "a locked row is no failure");
    drop(lock);
    results(&mut outside, &locked).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_of_one_worker_keeps_no_other_from_its_turn() {
    let (database, store) = migrated("a").await;
    let (other, turn) = (database.store("b"), Duration::from_millis(500));
    store.take_turn("1", turn).await.unwrap();
    other.take_turn("1", turn).await.unwrap();
    let lock = database.another().await;
    lock.batch_execute("BEGIN; SELECT FROM workers WHERE name = 'a' FOR UPDATE").await.unwrap();
    let waits = tokio::spawn(async move { store.take_turn("1", turn).await });
    let blocked = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("it waits for its row", || async { database.count(blocked).await == 1 }).await;
    tokio::time::timeout(Duration::from_secs(2), other.take_turn("1", turn)).await.unwrap().unwrap();
    // Nor does it whoever forgets what has been silent for long.
    let silent = "UPDATE workers SET seen_at = now() - interval '1 day', next_turn_at = now() - interval '1 day'
                  WHERE name = 'a'";
    lock.batch_execute(silent).await.unwrap();
    tokio::time::timeout(Duration::from_secs(2), other.take_turn("1", turn)).await.unwrap().unwrap();
    drop(lock);
    waits.await.unwrap().unwrap();
}
