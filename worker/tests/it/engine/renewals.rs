//! Leases of many attempts of one worker are renewed together, and none of them waits for another.

use std::sync::Arc;
use std::time::Duration;

use slipway_protocol::Change;
use slipway_worker::scheduler::Limits;
use tokio::sync::Semaphore;

use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};
use crate::services::{TestDatabase, vhost};

const LEASE: Duration = Duration::from_secs(2);

/// A worker whose attempts wait in their first stage until there are permits.
async fn held(database: &TestDatabase, count: usize) -> (TestWorker, TestClient, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let passed = gate.clone();
    let stages = ScriptedStages::new(move |_| {
        let gate = passed.clone();
        async move {
            drop(gate.acquire().await.unwrap());
            Ok(report(Change::Changed))
        }
    });
    let limits = Limits { per_server: 1000, per_registry: 1000, ..Limits::default() };
    let options = WorkerOptions { lease: LEASE, limits, concurrency: count, prefetch: 128, ..WorkerOptions::default() };
    let amqp = vhost();
    let outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(database.store("w"), &amqp, stages, options);
    for _ in 0..count {
        outside.publish(&request(|_| {})).await;
    }
    let begun = "SELECT count(*) FROM stage_journal";
    eventually("all are held", || async { database.count(begun).await == i64::try_from(count).unwrap() }).await;
    (worker, outside, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_all_attempts_of_a_worker_are_renewed_by_one_statement() {
    let (database, _) = migrated("outside").await;
    database.sql.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let (worker, mut outside, gate) = held(&database, 40).await;
    let renewals =
        "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                    WHERE datname = current_database() AND query LIKE '%UPDATE project_leases l SET expires_at%'";
    let before = database.count(renewals).await;
    tokio::time::sleep(LEASE * 2).await;
    let calls = database.count(renewals).await - before;
    // Five times for each lease, and those that were claimed at different times may be two groups.
    assert!((5..=25).contains(&calls), "{calls} statements in two leases' time");
    gate.add_permits(1000);
    for _ in 0..40 {
        assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    }
    assert_eq!(database.count("SELECT sum(interruptions)::bigint FROM deployments").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_somebody_else_has_locked_hold_up_no_others() {
    let (database, _) = migrated("outside").await;
    let (worker, mut outside, gate) = held(&database, 6).await;
    let locker = database.another().await;
    locker.batch_execute("BEGIN").await.unwrap();
    let lock = "SELECT project_slug FROM project_leases ORDER BY 1 LIMIT 3 FOR UPDATE";
    let locked: Vec<String> = locker.query(lock, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    tokio::time::sleep(LEASE * 2).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    gate.add_permits(1000);
    for _ in 0..6 {
        assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    }
    let interrupted = "SELECT project_slug FROM deployments WHERE interruptions > 0 ORDER BY 1";
    let interrupted = database.sql.query(interrupted, &[]).await.unwrap();
    let interrupted: Vec<String> = interrupted.iter().map(|row| row.get(0)).collect();
    assert_eq!(interrupted, locked);
    worker.stop().await;
}
