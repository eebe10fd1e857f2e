//! The store on a real PostgreSQL: leases, sequences, transitions, migrations.

#![expect(clippy::unwrap_used, reason = "tests")]

mod leases;
mod outbox;
mod rows;
#[path = "../services/mod.rs"]
mod services;
mod superseding;

use std::time::Duration;

use services::rig::{incoming, request};
use slipway_protocol::{DeploymentId, ErrorCode, Failure, Stage, decode};
use slipway_worker::store::{Accepted, Claim, End, State, Store};

const LONG: Duration = Duration::from_secs(60);

async fn accept(store: &Store, body: &[u8]) -> (DeploymentId, Accepted) {
    let incoming = incoming(body);
    let request = decode(body, &incoming.metadata()).unwrap();
    (request.deployment_id(), store.accept(&request, &incoming).await.unwrap())
}

async fn claimed(store: &Store) -> Claim {
    accept(store, &request(|_| {})).await;
    store.claim(LONG).await.unwrap().unwrap()
}

async fn state(store: &Store, id: DeploymentId) -> State {
    store.deployment(id).await.unwrap().unwrap().state
}

fn failure() -> Failure {
    Failure::new(ErrorCode::PullFailed, Some(Stage::Compose), "the registry hung up")
}

fn ended_failed() -> End {
    End::Failed { failure: failure(), missing_secret: None, reason: "exhausted" }
}
