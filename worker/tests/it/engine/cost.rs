//! What a deployment costs PostgreSQL and RabbitMQ when its stages cost nothing: bounds that hold on every machine. The
//! bench (`tests/bench engine`) tells what it comes to in time.

use std::time::Duration;

use slipway_protocol::EventType;
use slipway_worker::scheduler::Limits;

use super::changed;
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, request};
use crate::services::{Postgres, TestDatabase, vhost};

/// SQL statements, what begins and ends transactions included.
const STATEMENTS: f64 = 25.0;
/// Bytes of PostgreSQL's write-ahead log.
const WAL_BYTES: f64 = 23_500.0;
/// Messages: the request, `accepted`, `attempt_started`, two for each of seven stages, and the result.
const MESSAGES: f64 = 18.0;

/// Enough that what a worker does beside, each second, hardly counts.
const DEPLOYMENTS: u32 = 100;
const WARM_UP: u32 = 20;

const BEGIN: &str = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
const RESET: &str = "SELECT pg_stat_statements_reset()::text";
const STATEMENTS_SO_FAR: &str = "SELECT sum(calls)::bigint FROM pg_stat_statements";
/// What each statement took of that: calls, bytes of WAL, milliseconds, for a hundred deployments.
const PROFILE: &str = "
    SELECT string_agg(format(E'%s calls, %s B, %s ms: %s\n', calls, wal_bytes, round(total_exec_time::numeric, 1) || ' + ' || round(total_plan_time::numeric, 1),
        left(regexp_replace(query, '\\s+', ' ', 'g'), 150)), '' ORDER BY total_exec_time DESC)
    FROM (SELECT * FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 40) most";
const WAL_SO_FAR: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";

/// Publishes so many requests at once, waits for all results, and counts what was told meanwhile.
async fn deploy(outside: &mut TestClient, count: u32) -> u32 {
    for _ in 0..count {
        outside.publish(&request(|_| {})).await;
    }
    let (mut told, mut results) = (0, 0);
    while results < count {
        let event = outside.event().await;
        told += 1;
        if event["type"] == EventType::Result.as_str() {
            assert_eq!(event["data"]["outcome"], "succeeded", "{event}");
            results += 1;
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_costs_so_many_statements_bytes_of_wal_and_messages_at_most() {
    let settings = [
        "shared_preload_libraries=pg_stat_statements",
        "checkpoint_timeout=1h",
        "autovacuum=off",
        "pg_stat_statements.track_planning=on",
    ];
    let postgres =
        tokio::task::spawn_blocking(move || Postgres::start(|_| settings.map(str::to_owned).into())).await.unwrap();
    let (database, store) = TestDatabase::at(postgres.port()).await.with_schema("w").await;
    database.sql.batch_execute(BEGIN).await.unwrap();
    let amqp = vhost();
    let mut outside = TestClient::new(&amqp).await;
    // As many at once as in production, and no limit that makes them wait for each other.
    let limits = Limits { per_server: 1000, per_registry: 1000, ..Limits::default() };
    let options = WorkerOptions { limits, concurrency: 16, prefetch: 128, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, changed(), options);
    deploy(&mut outside, WARM_UP).await;
    let told = async || store.backlog().await.unwrap().depth == 0;
    eventually("all is noted as published", told).await;

    database.sql.batch_execute(RESET).await.unwrap();
    let wal = database.count(WAL_SO_FAR).await;
    let messages = deploy(&mut outside, DEPLOYMENTS).await + DEPLOYMENTS;
    // The marks of what was published come behind what was heard.
    tokio::time::sleep(Duration::from_millis(200)).await;
    eventually("all is noted as published", told).await;
    let each = |sum: i64| sum as f64 / f64::from(DEPLOYMENTS);
    let statements = each(database.count(STATEMENTS_SO_FAR).await);
    let wal = each(database.count(WAL_SO_FAR).await - wal);
    let profile: String = database.sql.query_one(PROFILE, &[]).await.unwrap().get(0);
    let messages = each(messages.into());
    worker.stop().await;
    let told = format!("each deployment: {statements} statements, {wal} bytes of WAL, {messages} messages\n{profile}");
    assert!(statements <= STATEMENTS && wal <= WAL_BYTES && messages <= MESSAGES, "{told}");
}
