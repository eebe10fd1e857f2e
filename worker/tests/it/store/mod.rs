//! The store on a real PostgreSQL: leases, sequences, transitions, migrations.

mod front_doors;
mod grouped;
mod leases;
mod numbers;
mod outbox;
mod owners;
mod push_histories;
mod pushes;
mod rows;
mod superseding;

use std::time::Duration;

use crate::services::TestDatabase;
use crate::services::test_worker::{eventually, incoming, request};
use slipway_protocol::{DeploymentId, ErrorCode, Failure, Stage, decode};
use slipway_worker::store::{Admission, Claim, DeploymentEnd, State, Store};

const LONG: Duration = Duration::from_secs(60);

async fn accept(store: &Store, body: &[u8]) -> (DeploymentId, Admission) {
    let incoming = incoming(body);
    let request = decode(body, &incoming.metadata()).unwrap();
    (request.deployment_id(), store.accept(&request, &incoming).await.unwrap())
}

async fn claimed(store: &Store) -> Claim {
    accept(store, &request(|_| {})).await;
    store.claim(LONG).await.unwrap().unwrap()
}

/// Holds the next statement on `table` that looks like `query`, once its `now()` stands and before it looks for its rows,
/// as a machine does that is short of time; it goes on when the connection that is given is dropped.
async fn held_back(database: &TestDatabase, table: &str, query: &str) -> tokio_postgres::Client {
    let gate = database.another().await;
    let trap = format!(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_query() LIKE '{query}' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION wait();
         SELECT pg_advisory_lock(1)"
    );
    gate.batch_execute(&trap).await.unwrap();
    gate
}

/// Waits until a statement is held.
async fn somebody_waits(database: &TestDatabase) {
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                   WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";
    eventually("a statement is held", || async { database.count(waiting).await == 1 }).await;
}

async fn state(store: &Store, id: DeploymentId) -> State {
    store.deployment(id).await.unwrap().unwrap().state
}

fn failure() -> Failure {
    Failure::new(ErrorCode::PullFailed, Some(Stage::Compose), "the registry hung up")
}

fn ended_failed() -> DeploymentEnd {
    DeploymentEnd::Failed { failure: failure(), missing_secret: None, reason: "exhausted" }
}
