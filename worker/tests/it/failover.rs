//! The database's machine dies, and its standby takes its place, while deployments run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;

use secrecy::SecretString;
use slipway_protocol::Change;
use slipway_worker::scheduler::Limits;
use slipway_worker::store::Store;
use tokio::sync::Semaphore;

use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, report, request,
};
use crate::services::{Postgres, TestDatabase, vhost};

#[tokio::test]
async fn a_host_that_is_silent_keeps_nobody_from_the_next_one() {
    let database = TestDatabase::new().await;
    // The kernel takes connections there, and nobody answers: so it is where a machine is frozen.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", silent.local_addr().unwrap().port(), database.port());
    let options = "target_session_attrs=read-write&sslmode=disable";
    let url: SecretString = format!("postgresql://slipway@{hosts}/{}?{options}", database.name).into();
    let store = Store::new(&url, None, "w").unwrap();
    store.migrate().await.unwrap();
    store.clock().await.unwrap();
    // Once it's known who answers, nobody else is tried first.
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.incoming().take_while(Result::is_ok).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_while_deployments_run_and_each_ends_with_one_result() {
    let mut primary = tokio::task::spawn_blocking(|| Postgres::start(|_| Vec::new())).await.unwrap();
    let database = TestDatabase::at(primary.port()).await;
    let standby = primary.standby().await;
    let (ports, name) = ([primary.port(), standby.port()], database.name.clone());
    let url: SecretString = format!(
        "postgresql://slipway@127.0.0.1:{},127.0.0.1:{}/{name}?target_session_attrs=read-write&sslmode=disable",
        ports[0], ports[1]
    )
    .into();
    let amqp = vhost();
    let mut client = TestClient::new(&amqp).await;
    let (gate, entered) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let stages = || {
        let (gate, entered) = (gate.clone(), entered.clone());
        ScriptedStages::new(move |_| {
            let (gate, entered) = (gate.clone(), entered.clone());
            async move {
                entered.add_permits(1);
                drop(gate.acquire().await.unwrap());
                Ok(report(Change::Changed))
            }
        })
    };
    let workers = ["w1", "w2"].map(|worker| {
        let store = Store::new(&url, None, worker).unwrap();
        (store, stages())
    });
    workers[0].0.migrate().await.unwrap();
    let limits = Limits { per_server: 100, per_registry: 100, ..Limits::default() };
    let options = || WorkerOptions { limits, ..WorkerOptions::default() };
    let workers = workers.map(|(store, stages)| TestWorker::start(store, &amqp, stages, options()));
    for _ in 0..6 {
        client.publish(&request(|_| {})).await;
    }
    drop(tokio::time::timeout(std::time::Duration::from_secs(30), entered.acquire_many(6)).await.unwrap().unwrap());

    // Six run, four more are asked for while nobody answers; the stages end before there is a database again.
    primary.kill();
    for _ in 0..4 {
        client.publish(&request(|_| {})).await;
    }
    gate.add_permits(1000);
    let promoted = TestDatabase::connected(ports[1], &name).await;
    promoted.batch_execute("SELECT pg_promote()").await.unwrap();

    let mut results: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while results.len() < 10 {
        let result = client.result().await;
        assert_eq!(result["data"]["outcome"], "succeeded", "{result}");
        results.entry(result["data"]["deployment_id"].to_string()).or_default().insert(result["id"].to_string());
    }
    let open = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
    eventually("everything is published", || async {
        promoted.query_one(open, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert!(results.values().all(|events| events.len() == 1), "{results:?}");
    let told = "SELECT count(*) FROM outbox WHERE type = 'slipway.deployment.result.v1'";
    assert_eq!(promoted.query_one(told, &[]).await.unwrap().get::<_, i64>(0), 10);
    let again = "SELECT count(*) FROM deployments WHERE state <> 'succeeded' OR attempt <> 1";
    assert_eq!(promoted.query_one(again, &[]).await.unwrap().get::<_, i64>(0), 0);
    for worker in workers {
        worker.stop().await;
    }
}
