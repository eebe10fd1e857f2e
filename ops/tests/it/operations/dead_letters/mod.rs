//! Dead letters as operators handle them at night: each command of the runbook, on a real PostgreSQL. What the relay
//! and a worker do with a replay is done here by hand, so that it can be looked at in between. Here: what the tests
//! share.

mod edit;
mod guide;
mod handling;
mod many;
mod replay;

use serde_json::Value;
use slipway_protocol::{DeploymentId, ErrorCode, Metadata, decode};
use slipway_worker::message::{Incoming, Outgoing};
use slipway_worker::store::{Admission, Store};

use super::{accept, fail, json_of, operator, run, snapshot};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

/// A night's work: the commands of one operator on one database.
struct Night {
    database: TestDatabase,
    store: Store,
}

impl Night {
    async fn new() -> Self {
        let (database, store) = TestDatabase::migrated("w").await;
        Self { database, store }
    }

    /// A deployment of `slug` that has failed for good; `edit` changes its event.
    async fn failed(&self, slug: &str, code: ErrorCode, edit: impl FnOnce(&mut Value)) -> DeploymentId {
        let body = request(|event| {
            event["data"]["project"]["slug"] = slug.into();
            edit(event);
        });
        let id = accept(&self.store, &body).await;
        fail(&self.store, code).await;
        id
    }

    async fn says(&self, args: &str) -> String {
        let args: Vec<_> = ["dead-letters"].into_iter().chain(args.split(' ')).collect();
        run(operator(Some(&self.database), None), &args).await
    }

    async fn json(&self, args: &str) -> Value {
        let args: Vec<_> = ["dead-letters"].into_iter().chain(args.split(' ')).collect();
        json_of(operator(Some(&self.database), None), &args).await
    }

    /// What was sent again and waits for the relay.
    async fn sent(&self) -> Vec<Outgoing> {
        let waiting = self.store.waiting_messages(&[], &[], 1000, u32::MAX).await.unwrap();
        waiting.rows.into_iter().map(|row| row.message).filter(|m| m.exchange == "slipway.requests").collect()
    }

    /// What a worker makes of a message.
    async fn taken_in(&self, message: &Outgoing) -> (DeploymentId, Admission) {
        let incoming = Incoming { headers: message.headers.clone(), ..incoming(&message.body) };
        let metadata = Metadata { content_type: message.content_type.clone(), headers: message.headers.clone() };
        let request = decode(&message.body, &metadata).unwrap();
        (request.deployment_id(), self.store.accept(&request, &incoming).await.unwrap())
    }

    /// One value of a deployment's row.
    async fn value(&self, id: DeploymentId, column: &str) -> Option<String> {
        let sql = format!("SELECT {column}::text FROM deployments WHERE id = '{id}'");
        self.database.sql.query_one(&sql, &[]).await.unwrap().get(0)
    }

    async fn open(&self) -> i64 {
        self.database.count("SELECT count(*) FROM dead_letters WHERE state = 'open'").await
    }

    async fn records(&self) -> i64 {
        self.database.count("SELECT count(*) FROM operator_audit").await
    }
}

fn begins(id: DeploymentId) -> String {
    id.to_string()[..8].to_owned()
}
