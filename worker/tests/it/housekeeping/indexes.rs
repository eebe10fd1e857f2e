//! A missing index is made beside the work of others, whatever transaction is open meanwhile.

use std::time::Duration;

use crate::logged::logged;
use crate::services::TestDatabase;
use crate::services::test_worker::{eventually, migrated};

const NAME: &str = "cancellations_by_time";
const MAKING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
                          AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event = 'virtualxid'";

async fn valid(database: &TestDatabase) -> i64 {
    database
        .count(&format!("SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = to_regclass('{NAME}')"))
        .await
}

/// Takes the index away, and begins a transaction that an index would have to wait for.
async fn hampered(database: &TestDatabase) -> tokio_postgres::Client {
    database.sql.batch_execute(&format!("DROP INDEX {NAME}")).await.unwrap();
    let other = database.another().await;
    let begin = "SET application_name = 'dump'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM deployments LIMIT 1";
    other.batch_execute(begin).await.unwrap();
    other
}

#[tokio::test]
async fn an_index_waits_for_older_transactions_tells_so_and_holds_up_nobody() {
    let (database, store) = migrated("w").await;
    let other = hampered(&database).await;
    let (log, _guard) = logged();
    let making = tokio::spawn(async move { store.make_indexes().await });
    eventually("it's told what it waits for", async || {
        log.lines(" INFO ", "an index waits for a transaction") > 0 && log.lines(NAME, "application=\"dump\"") > 0
    })
    .await;
    let insert = "SET lock_timeout = '100ms';
                  INSERT INTO cancellations (id, deployment_id, source, event_id, found)
                  VALUES (gen_random_uuid(), gen_random_uuid(), '', '', 'succeeded')";
    database.sql.batch_execute(insert).await.unwrap();
    // Longer than a statement of a worker may wait for a lock.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(!making.is_finished() && valid(&database).await == 0);
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(making.await.unwrap().unwrap(), [NAME]);
    assert_eq!(valid(&database).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_broken_off_is_made_anew_within_seconds() {
    let (database, store) = migrated("w").await;
    let other = hampered(&database).await;
    let making = tokio::spawn(async move { store.make_indexes().await });
    eventually("it waits", async || database.count(MAKING).await == 1).await;
    let cancel = MAKING.replace("count(*)", "pg_cancel_backend(pid)");
    database.sql.batch_execute(&cancel).await.unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(making.await.unwrap().unwrap(), [NAME]);
    assert_eq!(valid(&database).await, 1);
}
