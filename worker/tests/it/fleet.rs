//! A fleet: what it asks of the database while nothing happens, and how soon it goes on when one of its workers dies.

use std::time::{Duration, Instant};

use slipway_protocol::{Change, PartialEnvelope, Stage};
use slipway_worker::process::Condition;
use slipway_worker::store::Store;

use crate::halves::HalvedProject;
use crate::services::test_worker::{
    ScriptedStages, StageCall, TestClient, TestWorker, WorkerOptions, eventually, incoming, migrated, report, request,
};
use crate::services::{Postgres, TestDatabase, vhost};

/// How long statements are counted.
const COUNTED: Duration = Duration::from_secs(10);

fn options(lease: Duration) -> WorkerOptions {
    WorkerOptions { lease, ..WorkerOptions::default() }
}

fn done() -> ScriptedStages {
    ScriptedStages::new(|_| async { Ok(report(Change::Changed)) })
}

/// The statements of workers since the last reset, or a list of them.
async fn statements(database: &TestDatabase) -> (i64, String) {
    let counted =
        "SELECT coalesce(sum(calls), 0)::bigint, coalesce(string_agg(calls || ' ' || left(query, 120), E'\n'), '')
                   FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                   WHERE datname = current_database() AND query NOT LIKE '%pg_stat_statements%'";
    let row = database.sql.query_one(counted, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// An idle fleet asks no more than once a second, however many it is.
async fn idles(size: usize) {
    let (database, _) = migrated("outside").await;
    database.sql.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let amqp = vhost();
    let workers: Vec<TestWorker> = (0..size)
        .map(|i| TestWorker::start(database.store(&format!("w{i}")), &amqp, done(), options(Duration::from_secs(4))))
        .collect();
    for worker in &workers {
        worker.readiness.until(Condition::BrokerPublisher, true).await;
    }
    // A deployment wakes all parts once.
    let mut client = TestClient::new(&amqp).await;
    client.publish(&request(|_| {})).await;
    client.result().await;
    eventually("every worker lives", || async {
        database.count("SELECT count(*) FROM workers").await == i64::try_from(size).unwrap()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    database
        .sql
        .execute(
            "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)",
            &[],
        )
        .await
        .unwrap();
    tokio::time::sleep(COUNTED).await;
    let (count, list) = statements(&database).await;
    assert!(count <= i64::try_from(COUNTED.as_secs()).unwrap(), "{count} statements of {size} workers:\n{list}");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_asks_the_database_once_a_second_at_most() {
    idles(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_fleet_asks_no_more_than_a_single_worker() {
    idles(4).await;
}

/// A worker that is the relay dies in the middle of a deployment: the other one goes on with both, and tells it.
async fn is_taken_over(lease: Duration) {
    let (database, _) = migrated("outside").await;
    let amqp = vhost();
    let hangs = ScriptedStages::new(|call: StageCall| async move {
        if call.stage == Stage::Compose {
            std::future::pending::<()>().await;
        }
        Ok(report(Change::Changed))
    });
    let first = TestWorker::start(database.store("first"), &amqp, hangs, options(lease));
    first.readiness.until(Condition::BrokerConsumer, true).await;
    let mut client = TestClient::new(&amqp).await;
    client.publish(&request(|_| {})).await;
    while client.event().await["data"]["stage"] != "env" {}
    let second = TestWorker::start(database.store("second"), &amqp, done(), options(lease));
    second.readiness.until(Condition::BrokerPublisher, true).await;
    eventually("both live", || async { database.count("SELECT count(*) FROM workers").await == 2 }).await;
    first.kill().await;
    let killed = Instant::now();
    while client.event().await["data"]["kind"] != "interrupted" {}
    let told = killed.elapsed();
    assert!(told <= lease + Duration::from_secs(2), "told after {told:?} with a lease of {lease:?}");
    assert_eq!(client.result().await["data"]["outcome"], "succeeded");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_relay_ran_is_taken_over_and_told_within_six_seconds() {
    is_taken_over(Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_lease_of_a_second_a_takeover_is_told_within_three() {
    is_taken_over(Duration::from_secs(1)).await;
}

/// What another worker has left is nobody's alone: whoever has the next turn goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_and_what_waits_alone_is_gone_on_with_by_the_next_turn() {
    let (database, store) = migrated("outside").await;
    let amqp = vhost();
    let worker = TestWorker::start(database.store("w"), &amqp, done(), options(Duration::from_secs(4)));
    let mut client = TestClient::new(&amqp).await;
    client.publish(&request(|_| {})).await;
    client.result().await;
    let half = HalvedProject::new("lonely").code('a', |_| {});
    client.publish(half.to_string().as_bytes()).await;
    eventually("it waits", || async { database.count("SELECT count(*) FROM project_halves").await == 1 }).await;

    let body = request(|_| {});
    let message = incoming(&body);
    store.hold(&PartialEnvelope::default(), &message, "a lock", Duration::ZERO).await.unwrap();
    database.sql.execute("UPDATE project_halves SET waits_until = now() + interval '1 second'", &[]).await.unwrap();
    let begun = Instant::now();
    let outcomes = [client.result().await, client.result().await].map(|event| event["data"]["outcome"].to_string());
    assert!(outcomes.contains(&"\"succeeded\"".to_owned()) && outcomes.contains(&"\"failed\"".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(15), "after {:?}", begun.elapsed());
    worker.stop().await;
}

#[tokio::test]
async fn who_asks_before_its_turn_keeps_it() {
    let (database, _) = migrated("outside").await;
    let stores = ["a", "b", "c"].map(|name| database.store(name));
    let turns = async || {
        for store in &stores {
            store.take_turn("1", Duration::from_secs(60)).await.unwrap();
        }
        let sql = "SELECT array_agg(extract(epoch FROM next_turn_at - min) :: integer ORDER BY name) || '{}'::integer[]
                   FROM workers, (SELECT min(next_turn_at) FROM workers) first";
        database.sql.query_one(sql, &[]).await.unwrap().get::<_, Vec<i32>>(0)
    };
    assert_eq!(turns().await, [0, 60, 120]);
    assert_eq!(turns().await, [0, 60, 120], "as when all have lost their notifications");
    let ahead = "UPDATE workers SET next_turn_at = next_turn_at + interval '1 hour';
                 UPDATE fleet SET last_turn_at = last_turn_at + interval '1 hour'";
    database.sql.batch_execute(ahead).await.unwrap();
    turns().await;
    let far = "SELECT count(*) FROM workers WHERE next_turn_at > now() + interval '3 minutes'";
    assert_eq!(database.count(far).await, 0, "after a failover to a server whose clock is behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_of_an_idle_fleet_notices_at_once_that_the_database_has_gone() {
    let mut postgres = tokio::task::spawn_blocking(|| Postgres::start(|_| Vec::new())).await.unwrap();
    let (database, _) = TestDatabase::at(postgres.port()).await.with_schema("outside").await;
    let amqp = vhost();
    let workers: Vec<TestWorker> = (0..4)
        .map(|i| TestWorker::start(database.store(&format!("w{i}")), &amqp, done(), options(Duration::from_secs(4))))
        .collect();
    for worker in &workers {
        worker.readiness.until(Condition::BrokerConsumer, true).await;
    }
    eventually("all have their turns", || async { database.count("SELECT count(*) FROM workers").await == 4 }).await;
    postgres.kill();
    let killed = Instant::now();
    for worker in &workers {
        worker.readiness.until(Condition::Database, false).await;
    }
    assert!(killed.elapsed() < Duration::from_secs(4), "after {:?}", killed.elapsed());
    for worker in workers {
        worker.kill().await;
    }
}

/// A server that was demoted answers on, but takes no writes: connections to it aren't used again, and the URL's other
/// host is.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_demoted_server_are_given_up_and_the_other_host_is_used() {
    let start = || tokio::task::spawn_blocking(|| Postgres::start(|_| Vec::new()));
    let (first, second) = tokio::join!(start(), start());
    let (first, second) = (first.unwrap(), second.unwrap());
    let (before, _) = TestDatabase::at(first.port()).await.with_schema("outside").await;
    let (after, _) = TestDatabase::at(second.port()).await.with_schema("outside").await;
    let one_name = format!("ALTER DATABASE {} RENAME TO {}", after.name, before.name);
    let admin = after.outside().await;
    let ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 't%'";
    admin.batch_execute(ends).await.unwrap();
    eventually("the database has the other's name", || async { admin.batch_execute(&one_name).await.is_ok() }).await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", first.port(), second.port());
    let url = format!("postgresql://slipway@{hosts}/{}?target_session_attrs=read-write", before.name);
    let store = Store::new(&url.into(), None, "w").unwrap();
    store.take_turn("1", Duration::from_secs(1)).await.unwrap();
    assert_eq!(before.count("SELECT count(*) FROM workers").await, 1);
    before.sql.execute("ALTER SYSTEM SET default_transaction_read_only = on", &[]).await.unwrap();
    before.sql.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    eventually("it writes to the other host", || async {
        let _ = store.take_turn("1", Duration::from_secs(1)).await;
        let other = TestDatabase::connected(second.port(), &before.name).await;
        other.query_one("SELECT count(*) FROM workers", &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
}
