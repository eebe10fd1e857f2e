//! The requests of one project, as a producer sends them and a worker carries them out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{
    Action, Change, DeploymentId, Message, ProgressKind, Project, ProjectId, Stage, StageSummary, decode, read,
};
use slipway_worker::store::{
    AttemptSummary, AttemptWriter, Claim, DeploymentEnd, Operator, StageEnd, StageIntent, Store,
};
use uuid::Uuid;

use super::wrap::{ok, quick};
use crate::services::test_worker::{incoming, request};

pub(super) const LONG: Duration = Duration::from_secs(60);
const VERSIONS: u32 = 10;

/// Who asks for them, through which store.
#[derive(Clone)]
pub(super) struct Requests<'a> {
    pub store: &'a Store,
    pub project: Project,
    pub server: ServerHandle,
    pub operator: Operator,
}

impl<'a> Requests<'a> {
    pub fn of(store: &'a Store, slug: &str, id: Uuid, server: &str) -> Self {
        Self {
            store,
            project: Project { id: ProjectId(id), slug: Slug::new(slug).unwrap() },
            server: ServerHandle::new(server).unwrap(),
            operator: Operator::new("ada", Some("why")),
        }
    }

    pub fn request(&self, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
        request(|e| {
            e["data"]["project"] = json!(self.project);
            e["data"]["server"]["handle"] = json!(self.server);
            e["data"]["repository"]["name"] = format!("acme/{}", self.project.slug).into();
            e["data"].as_object_mut().unwrap().remove("sequence");
            edit(e);
        })
    }

    pub async fn accept(&self, edit: impl FnOnce(&mut Value)) -> DeploymentId {
        let body = self.request(edit);
        let incoming = incoming(&body);
        let request = decode(&body, &incoming.metadata()).unwrap();
        ok(quick("accept", self.store.accept(&request, &incoming)).await);
        request.deployment_id()
    }

    pub async fn command(&self, action: Action) {
        let event = json!({
            "specversion": "1.0", "type": format!("slipway.project.{action}.v1"), "source": "/visits",
            "id": Uuid::new_v4(), "data": { "project": self.project },
        });
        let body = event.to_string().into_bytes();
        let incoming = incoming(&body);
        let Message::Command(request) = read(&body, &incoming.metadata()).unwrap() else { panic!("no command") };
        ok(quick("a command", self.store.accept_command(&request, &incoming, VERSIONS)).await).unwrap();
        let basis = quick("its basis", self.store.rollback_basis(&request.event.data, VERSIONS)).await;
        drop(ok(basis));
    }

    pub async fn claim(&self) -> Claim {
        ok(quick("claim", self.store.claim(LONG)).await).expect("something is due")
    }

    pub async fn end(&self, claim: &Claim, end: &DeploymentEnd) {
        let (store, lease) = (self.store, &claim.lease);
        ok(store.completed_stages(lease, b"x").await);
        ok(store.renew(lease, LONG).await);
        ok(quick("renewals", store.renew_many(std::slice::from_ref(lease), LONG)).await);
        let stages = claim.action.stages();
        ok(quick("a stage", store.stage_started(lease, stages[0], b"x")).await);
        for (at, stage) in stages.iter().enumerate() {
            let summary = StageSummary { stage: *stage, change: Change::Changed, duration_ms: 1 };
            let digests = BTreeMap::from([("DEPLOY_HOST".to_owned(), "y".to_owned())]);
            let digests = (*stage == Stage::Secrets).then_some((self.project.id, &digests));
            let end = StageEnd { summary: &summary, facts: &Map::new(), digests };
            let next = stages.get(at + 1).map(|stage| StageIntent { stage: *stage, input_hash: b"x" });
            ok(quick("a stage's end", store.stage_finished(lease, end, next)).await);
        }
        ok(store.record_progress(lease, &[ProgressKind::AttemptStarted { attempt: 1 }]).await);
        ok(quick("finish", store.finish(lease, end, &AttemptSummary::default())).await);
    }

    /// As [`Self::end`], with the statements of those who write together.
    pub async fn end_in_group(&self, claim: &Claim) {
        let (writer, lease) = (AttemptWriter::new(self.store.clone()), &claim.lease);
        ok(quick("a group's stage", writer.stage_started(lease, Stage::Preflight, b"x")).await);
        let summary = StageSummary { stage: Stage::Preflight, change: Change::Changed, duration_ms: 1 };
        let end = StageEnd { summary: &summary, facts: &Map::new(), digests: None };
        let next = Some(StageIntent { stage: Stage::Secrets, input_hash: b"x" });
        ok(quick("a group's stages", writer.stage_finished(lease, end, next)).await);
        let success = DeploymentEnd::Succeeded { url: None };
        ok(quick("a group's end", writer.finish(lease, &success, &AttemptSummary::default())).await);
    }

    /// Every command, from success to success.
    pub async fn is_told_what_to_do(&self) {
        // Something to go back to, and something to go back from.
        for (commit, domains) in [("a", vec![format!("{}.example.org", self.project.slug)]), ("b", Vec::new())] {
            self.accept(|e| {
                e["data"]["repository"]["commit"] = commit.repeat(40).into();
                e["data"]["allocations"][1]["domains"] = json!(domains);
            })
            .await;
            let claim = self.claim().await;
            self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
        }
        for action in [Action::Stop, Action::Start, Action::Rollback, Action::Undeploy] {
            self.command(action).await;
            let claim = self.claim().await;
            self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
        }
        self.accept(|_| {}).await;
        let claim = self.claim().await;
        self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
    }
}
