//! Calls of the store on a database with a long history, so that each of its statements is run at least once.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{
    Action, Change, DeploymentId, ErrorCode, Failure, Message, PartialEnvelope, ProgressKind, Project, ProjectId,
    Stage, StageSummary, decode, read,
};
use slipway_worker::scheduler::Limits;
use slipway_worker::store::{
    AttemptSummary, CancelRequest, Claim, DeploymentEnd, HandOver, Operator, RefusedMessage, Store,
};
use uuid::Uuid;

use super::{Duration, TestDatabase, ok, operators, quick};
use crate::services::test_worker::{incoming, request};

const LONG: Duration = Duration::from_secs(60);
const VERSIONS: u32 = 10;

/// The project with a tenth of all deployments.
struct Busy<'a> {
    store: &'a Store,
    project: Project,
    server: ServerHandle,
    operator: Operator,
}

pub async fn everything(database: &TestDatabase, store: &Store) {
    let id: Uuid = database.sql.query_one("SELECT md5('project 0')::uuid", &[]).await.unwrap().get(0);
    let busy = Busy {
        store,
        project: Project { id: ProjectId(id), slug: Slug::new("p0").unwrap() },
        server: ServerHandle::new("s0").unwrap(),
        operator: Operator::new("ada", Some("why")),
    };
    busy.deploys().await;
    busy.is_told_what_to_do().await;
    busy.fails().await;
    busy.changes_hands(database).await;
    operators::look(store, database).await;
    operators::replay(store, database, &busy.operator).await;
    operators::send(store, database, &busy.operator).await;
}

impl Busy<'_> {
    fn request(&self, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
        request(|e| {
            e["data"]["project"] = json!(self.project);
            e["data"]["server"]["handle"] = json!(self.server);
            e["data"]["repository"]["name"] = "acme/p0".into();
            e["data"].as_object_mut().unwrap().remove("sequence");
            edit(e);
        })
    }

    async fn accept(&self, edit: impl FnOnce(&mut Value)) -> DeploymentId {
        let body = self.request(edit);
        let incoming = incoming(&body);
        let request = decode(&body, &incoming.metadata()).unwrap();
        ok(quick("accept", self.store.accept(&request, &incoming)).await);
        request.deployment_id()
    }

    async fn command(&self, action: Action) {
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

    async fn claim(&self) -> Claim {
        ok(quick("claim", self.store.claim(LONG)).await).expect("something is due")
    }

    async fn end(&self, claim: &Claim, end: &DeploymentEnd) {
        let (store, lease) = (self.store, &claim.lease);
        ok(store.history(lease).await);
        ok(store.completed_stages(lease, b"x").await);
        ok(store.renew(lease, LONG).await);
        let stages = [claim.action.stages()[0], *claim.action.stages().last().unwrap()];
        for stage in stages {
            ok(store.stage_started(lease, stage, b"x").await);
            let summary = StageSummary { stage, change: Change::Changed, duration_ms: 1 };
            let digests = BTreeMap::from([("DEPLOY_HOST".to_owned(), "y".to_owned())]);
            let digests = (stage == Stage::Secrets).then_some((self.project.id, &digests));
            ok(store.stage_finished(lease, &summary, &Map::new(), digests).await);
        }
        ok(store.record_progress(lease, vec![ProgressKind::AttemptStarted { attempt: 1 }]).await);
        ok(quick("finish", store.finish(lease, end, &AttemptSummary::default())).await);
    }

    async fn deploys(&self) {
        let store = self.store;
        let success = DeploymentEnd::Succeeded { url: None };
        let first = self.accept(|_| {}).await;
        self.accept(|_| {}).await;
        // One that comes late.
        self.accept(|e| e["time"] = "2020-01-01T00:00:00Z".into()).await;
        let claim = self.claim().await;
        drop(ok(store.next_announcement().await));
        ok(store.record_github_id(claim.lease.deployment, 1).await);
        ok(store.mark_announced(claim.lease.deployment, "in_progress", false).await);
        self.end(&claim, &success).await;
        drop(ok(quick("an announcement", store.next_announcement()).await));
        ok(store.record_announcement_failure(first, "x", None).await);
        ok(store.takes_over(first, &claim.lease).await);
        ok(store.reap(10).await);
        ok(store.give_up_unreachable(&Limits::default()).await);
        ok(quick("shares_repository", store.shares_repository(self.project.id, &self.server)).await);
        ok(store.earlier_requests(&self.project, &self.server).await);
        ok(store.recorded_images(claim.lease.deployment).await);
        ok(store.images_of_version(claim.lease.deployment).await);
        // A newer request while it runs, and a cancellation.
        self.accept(|_| {}).await;
        let claim = self.claim().await;
        let newer = self.accept(|_| {}).await;
        ok(store.finish_superseded(&claim.lease, &AttemptSummary::default()).await);
        ok(store.cancel(newer).await);
        ok(store.request_cancel(&CancelRequest::of_operator(DeploymentId(Uuid::new_v4()), "ada", None)).await);
        ok(store.cancellations(newer).await);
    }

    async fn is_told_what_to_do(&self) {
        // Something to go back from.
        self.accept(|e| e["data"]["repository"]["commit"] = "b".repeat(40).into()).await;
        let claim = self.claim().await;
        self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
        for action in [Action::Stop, Action::Start, Action::Rollback, Action::Undeploy] {
            self.command(action).await;
            let claim = self.claim().await;
            self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
        }
        self.accept(|_| {}).await;
        let claim = self.claim().await;
        self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
    }

    async fn fails(&self) {
        let failure = || Failure::new(ErrorCode::PullFailed, Some(Stage::Compose), "x");
        let store = self.store;
        self.accept(|_| {}).await;
        let claim = self.claim().await;
        ok(store.stage_started(&claim.lease, Stage::Compose, b"x").await);
        ok(store.stage_failed(&claim.lease, Stage::Compose, &failure(), Duration::ZERO, true).await);
        ok(store.retry(&claim.lease, failure(), Duration::ZERO).await);
        let claim = self.claim().await;
        ok(store.interrupt(&claim.lease, 10).await);
        let claim = self.claim().await;
        let end = DeploymentEnd::Failed { failure: failure(), missing_secret: None, reason: "exhausted" };
        self.end(&claim, &end).await;
        let body = b"{".to_vec();
        let incoming = incoming(&body);
        let known = PartialEnvelope {
            source: Some("/visits".to_owned()),
            id: Some("refused".to_owned()),
            project: Some(self.project.clone()),
            ..Default::default()
        };
        ok(store.refuse(&RefusedMessage { failure: failure(), known, withhold: false }, &incoming).await);
    }

    async fn changes_hands(&self, database: &TestDatabase) {
        let store = self.store;
        let other = ProjectId(Uuid::new_v4());
        let hand_over = |slug: bool, to| HandOver {
            slug: slug.then(|| (self.project.slug.clone(), self.server.clone())),
            repository: (!slug).then(|| "acme/p0".parse().unwrap()),
            to,
            from: None,
        };
        database
            .sql
            .execute(
                "INSERT INTO repository_owners VALUES ('acme/p0', $1) ON CONFLICT DO NOTHING",
                &[&self.project.id.0],
            )
            .await
            .unwrap();
        for to in [other, self.project.id] {
            for slug in [true, false] {
                ok(quick("a hand-over", store.hand_over(&hand_over(slug, to), &self.operator)).await);
            }
        }
    }
}
