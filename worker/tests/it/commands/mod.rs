//! Commands and cancel events on a real PostgreSQL: what they mean, what gives way to what, what is refused; and with
//! the engine on a real RabbitMQ, how they are told.

mod cancelling;
mod carried_out;
mod meaning;
mod order;

use std::time::Duration;

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};
use serde_json::{Value, json};
use slipway_protocol::{Action, Change, DeploymentId, Failure, Message, Outcome, Project, read};
use slipway_worker::store::{Admission, AttemptSummary, Claim, DeploymentEnd, StageEnd, State, Store};

const LONG: Duration = Duration::from_secs(60);
/// How many versions are offered.
const VERSIONS: u32 = 3;

/// A project with its own id, and requests about it.
struct Shop {
    store: Store,
    project: Project,
    _database: TestDatabase,
}

impl Shop {
    async fn new() -> Self {
        let (database, store) = TestDatabase::migrated("w").await;
        let project = json!({ "id": uuid::Uuid::new_v4(), "slug": "corner-shop" });
        Self { store, project: serde_json::from_value(project).unwrap(), _database: database }
    }

    /// A request to deploy `commit` on `server`.
    fn ready(&self, commit: char, server: &str) -> Vec<u8> {
        request(|e| {
            e["data"]["project"] = json!(self.project);
            e["data"]["repository"]["commit"] = commit.to_string().repeat(40).into();
            e["data"]["server"]["handle"] = server.into();
            e["data"].as_object_mut().unwrap().remove("sequence");
            e.as_object_mut().unwrap().remove("time");
        })
    }

    fn command(&self, action: Action, data: Value) -> Vec<u8> {
        command(&self.project, action, data)
    }

    async fn deploy(&self, commit: char, server: &str) -> DeploymentId {
        let body = self.ready(commit, server);
        assert_eq!(self.take_in(&body).await, Ok(Admission::New));
        id_of(&body)
    }

    /// Takes any request in, as the intake does.
    async fn take_in(&self, body: &[u8]) -> Result<Admission, Failure> {
        let incoming = incoming(body);
        match read(body, &incoming.metadata()).unwrap() {
            Message::Ready(request) => Ok(self.store.accept(&request, &incoming).await.unwrap()),
            Message::Command(request) => self.store.accept_command(&request, &incoming, VERSIONS).await.unwrap(),
            Message::Half(_) | Message::Cancel(_) | Message::Cordon(_) => panic!("no request about a project"),
        }
    }

    async fn claim(&self) -> Claim {
        self.store.claim(LONG).await.unwrap().expect("something is due")
    }

    /// Carries out what is due, with something to do.
    async fn carry_out(&self) -> DeploymentId {
        let claim = self.claim().await;
        self.end(&claim).await;
        claim.lease.deployment
    }

    async fn end(&self, claim: &Claim) {
        let stage = claim.action.stages()[0];
        self.store.stage_started(&claim.lease, stage, b"x").await.unwrap();
        let summary = slipway_protocol::StageSummary { stage, change: Change::Changed, duration_ms: 1 };
        self.store
            .stage_finished(
                &claim.lease,
                StageEnd { summary: &summary, facts: &serde_json::Map::new(), digests: None },
                None,
            )
            .await
            .unwrap();
        self.store
            .finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default())
            .await
            .unwrap();
    }

    /// Deploys one version after the other.
    async fn history(&self, commits: &str) -> Vec<DeploymentId> {
        let mut made = Vec::new();
        for commit in commits.chars() {
            self.deploy(commit, "one").await;
            made.push(self.carry_out().await);
        }
        made
    }

    async fn state(&self, id: DeploymentId) -> State {
        self.store.deployment(id).await.unwrap().unwrap().state
    }
}

fn command(project: &Project, action: Action, mut data: Value) -> Vec<u8> {
    data["project"] = json!(project);
    json!({
        "specversion": "1.0",
        "id": uuid::Uuid::new_v4(),
        "source": "/orchestrator",
        "type": format!("slipway.project.{action}.v1"),
        "data": data,
    })
    .to_string()
    .into_bytes()
}

fn id_of(body: &[u8]) -> DeploymentId {
    let event: Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None)
}

const COMMANDS: [Action; 4] = [Action::Stop, Action::Start, Action::Rollback, Action::Undeploy];
const SUPERSEDED: State = State::Ended(Outcome::Superseded);
