//! Limits over all workers and the circuits of servers: claims on a real PostgreSQL, and the engine on top of it.

mod circuits;
mod filling;

use std::time::Duration;

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};
use slipway_protocol::{DeploymentId, decode};
use slipway_worker::scheduler::Limits;
use slipway_worker::store::{AttemptSummary, Claim, ClaimOptions, DeploymentEnd, Lease, Store};

const LONG: Duration = Duration::from_secs(60);

fn terms(per_server: u32, per_registry: u32, registry: &str) -> ClaimOptions {
    let limits = Limits { per_server, per_registry, ..Limits::default() };
    ClaimOptions { lease: LONG, limits, registry: registry.to_owned() }
}

/// A request for a project of its own on `server`.
fn body(server: &str) -> Vec<u8> {
    request(|e| {
        e["data"]["server"]["handle"] = server.into();
        e["data"]["project"]["slug"] = format!("p{}", &uuid::Uuid::new_v4().simple().to_string()[..8]).into();
    })
}

async fn accept(store: &Store, server: &str) -> DeploymentId {
    let body = body(server);
    let incoming = incoming(&body);
    let request = decode(&body, &incoming.metadata()).unwrap();
    store.accept(&request, &incoming).await.unwrap();
    request.deployment_id()
}

async fn succeed(store: &Store, lease: &Lease) {
    store.finish(lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
}

/// Claims by eight workers at once, until none of them gets one.
async fn claimed_by_eight(database: &TestDatabase, terms: &ClaimOptions) -> Vec<Claim> {
    let workers = (0..8).map(|i| {
        let (store, terms) = (database.store(&format!("w{i}")), terms.clone());
        tokio::spawn(async move {
            let mut claims = Vec::new();
            while let Some(claim) = store.claim(terms.clone()).await.unwrap() {
                claims.push(claim);
            }
            claims
        })
    });
    let mut claims = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        claims.extend(worker.await.unwrap());
    }
    claims
}
