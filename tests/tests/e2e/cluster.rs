//! A RabbitMQ cluster of three loses one node after the other, the queues' leaders first, while a worker is at it:
//! nothing is lost, nothing is told twice under another id, and work goes on while a node is away.

use std::time::Duration;

use crate::services::ledger::{TOLD, TestLedger};
use crate::services::test_worker::{ScriptedStages, TestWorker, WorkerOptions, report, request};
use secrecy::SecretString;
use slipway_protocol::{Change, topology};
use slipway_tests::world::{Broker, CLUSTER, World, WorldOptions};
use slipway_worker::store::Store;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);
/// Requests before a node dies, and again while it's away.
const BURST: usize = 10;

async fn publish(ledger: &mut TestLedger) {
    let before = ledger.len();
    let bodies = (before..before + BURST)
        .map(|number| request(|event| event["data"]["project"]["slug"] = format!("p{number}").into()));
    ledger.publish(bodies.collect()).await;
}

/// Waits until every confirmed request has ended and everything about it is told.
async fn carried_out(store: &Store, ledger: &mut TestLedger) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (counts, waiting) = (store.counts().await.unwrap(), store.backlog().await.unwrap().depth);
        let known = store.deployments(&Default::default(), 10_000).await.unwrap().len();
        if known == ledger.len() && (counts.pending, counts.running, waiting) == (0, 0, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{known} of {}, {counts:?}, {waiting} to tell", ledger.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ledger.balance().await;
}

async fn lose_each(cluster: &Broker, database: &'static str) {
    let urls: SecretString = cluster.urls().into();
    let store = Store::new(&database.into(), None, "w").unwrap();
    store.migrate().await.unwrap();
    let mut ledger = TestLedger::open(urls.clone()).await;
    for queue in [topology::DEPLOYMENTS_QUEUE, topology::DEAD_LETTERS_QUEUE, topology::PARKED_QUEUE, TOLD] {
        assert_eq!(tokio::task::block_in_place(|| cluster.members(queue, 0)).unwrap(), CLUSTER, "members of {queue}");
    }
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &urls, pipeline, WorkerOptions::default());
    let leader = tokio::task::block_in_place(|| cluster.leader(topology::DEPLOYMENTS_QUEUE, 0)).unwrap();
    for victim in (0..CLUSTER).map(|turn| (leader + turn) % CLUSTER) {
        publish(&mut ledger).await;
        cluster.node(victim).kill().unwrap();
        publish(&mut ledger).await;
        carried_out(&store, &mut ledger).await;
        tokio::task::block_in_place(|| cluster.node(victim).start()).unwrap();
        let ready = tokio::time::timeout(PATIENCE, worker.readiness.ready()).await;
        assert!(ready.unwrap_or(false), "{:?}", worker.readiness.report());
    }
    worker.stop().await;
}

#[test]
fn a_cluster_may_lose_one_node_after_the_other_and_no_request_is_lost() {
    let world = World::start(WorldOptions { nodes: CLUSTER, database: true, ..WorldOptions::default() }).unwrap();
    world.block_on(lose_each(world.broker().unwrap(), world.database_url())).unwrap();
}
