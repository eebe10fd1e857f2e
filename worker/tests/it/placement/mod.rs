//! Requests that leave their server to Slipway, on a real PostgreSQL: where they go, what is set aside, and what they wait for.

mod cordons;
mod crowd;
mod homes;
mod moves;
mod scale;
mod waiting;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_deploy::ServerMeasurement;
use slipway_protocol::{DeploymentId, decode};
use slipway_worker::scheduler::PlacementLimits;
use slipway_worker::store::{Admission, Claim, DeploymentEnd, Store};

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

const LONG: Duration = Duration::from_secs(60);

/// Small ones, so that servers fill.
fn limits() -> PlacementLimits {
    PlacementLimits { ports: "20000-20099".parse().unwrap(), ..PlacementLimits::DEFAULT }
}

/// What a server tells that has that much memory free, of 8 GiB.
fn facts(free_ram_mb: u32) -> ServerMeasurement {
    ServerMeasurement {
        ram_mb: 8192,
        free_ram_mb,
        disk_mb: 100_000,
        free_disk_mb: 50_000,
        free_inodes: Some(1_000_000),
        cpus: 4,
        load: 0.5,
        ports: [22, 80].into(),
        ..ServerMeasurement::default()
    }
}

/// Adds a server to the inventory, and tells what was seen of it.
async fn add_server(database: &TestDatabase, store: &Store, handle: &str, seen: &ServerMeasurement) {
    let sql = "INSERT INTO servers (handle, address, host_key) VALUES ($1, '203.0.113.7', 'ssh-ed25519 AAAA')";
    database.sql.execute(sql, &[&handle]).await.unwrap();
    tell(store, handle, seen).await;
}

async fn tell(store: &Store, handle: &str, seen: &ServerMeasurement) {
    store.record_server_facts(&handle.parse().unwrap(), Timestamp::now(), Ok(seen)).await.unwrap();
}

/// A request that names neither server nor ports; `edit` changes it.
fn unplaced(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    request(|event| {
        let data = event["data"].as_object_mut().unwrap();
        data.remove("server");
        data["allocations"] = json!([
            { "service": "db", "container_port": 5432 }, { "service": "backend", "container_port": 8000 },
        ]);
        edit(event);
    })
}

async fn accept(store: &Store, body: &[u8]) -> DeploymentId {
    let incoming = incoming(body);
    let request = decode(body, &incoming.metadata()).unwrap();
    assert_eq!(store.accept(&request, &incoming).await.unwrap(), Admission::New);
    request.deployment_id()
}

/// Gives servers to all that wait.
async fn place(store: &Store, limits: &PlacementLimits) {
    let mut after = Some(0);
    while let Some(from) = after {
        let pass = store.place_waiting(limits, from).await.unwrap();
        after = if pass.busy { Some(from) } else { pass.after };
        if pass.busy {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn server_of(store: &Store, id: DeploymentId) -> Option<String> {
    store.deployment(id).await.unwrap().unwrap().server
}

/// The ports of a deployment's request, in the order of its allocations.
async fn ports_of(store: &Store, id: DeploymentId) -> Vec<u16> {
    let request = store.deployment(id).await.unwrap().unwrap().request.unwrap();
    request.allocations.iter().map(|allocation| allocation.host_port.unwrap().get()).collect()
}

async fn end(store: &Store, claim: &Claim, end: DeploymentEnd) {
    store.finish(&claim.lease, &end, &slipway_worker::store::AttemptSummary::default()).await.unwrap();
}

async fn succeed(store: &Store) -> Claim {
    let claim = store.claim(LONG).await.unwrap().unwrap();
    end(store, &claim, DeploymentEnd::Succeeded { url: None }).await;
    claim
}
