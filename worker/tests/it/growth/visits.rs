//! Calls of the store on a database with a long history, so that each of its statements is run at least once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use slipway_protocol::{Action, DeploymentId, ErrorCode, Failure, PartialEnvelope, ProjectId, Stage, decode};
use slipway_worker::scheduler::Limits;
use slipway_worker::store::{
    AttemptSummary, Boundary, BrokerDeadLetter, CancelRequest, DeploymentEnd, HandOver, PlainRequest, RefusedMessage,
    Store,
};
use uuid::Uuid;

use super::plans::{NEWCOMER, VETERAN};
use super::requests::{LONG, Requests};
use super::wrap::{ok, quick};
use super::{chores, halves, notifications, operators};
use crate::services::TestDatabase;
use crate::services::test_worker::incoming;

pub async fn everything(database: &TestDatabase, store: &Store) {
    let id: Uuid = database.sql.query_one("SELECT md5('project 0')::uuid", &[]).await.unwrap().get(0);
    // The project with a tenth of all deployments.
    let busy = Requests::of(store, "p0", id, "s0");
    // So often that PostgreSQL would settle on plans which don't look at the values, if it meant to.
    for _ in 0..12 {
        Box::pin(busy.deploys_often()).await;
    }
    Box::pin(busy.deploys()).await;
    Box::pin(compare(database, &busy)).await;
    Box::pin(busy.gives_way()).await;
    Box::pin(busy.fails()).await;
    Box::pin(busy.waits_for_its_server(database)).await;
    Box::pin(busy.moves()).await;
    Box::pin(busy.finds_its_server(database)).await;
    Box::pin(busy.cant_be_carried_out(database)).await;
    Box::pin(busy.changes_hands(database)).await;
    Box::pin(busy.is_held(database)).await;
    Box::pin(halves::visits(store, database)).await;
    Box::pin(operators::look(store, database)).await;
    Box::pin(operators::replay(store, &busy.operator)).await;
    Box::pin(operators::send(store, &busy.operator)).await;
    Box::pin(chores::pushes(store, database)).await;
    Box::pin(chores::fleet(store)).await;
    Box::pin(notifications::replay(store)).await;
    Box::pin(notifications::tell(store, database)).await;
    Box::pin(chores::prune(store, database)).await;
}

/// A whole life of the busy project, and the same of one that has just come.
async fn compare(database: &TestDatabase, busy: &Requests<'_>) {
    let veteran = database.store(VETERAN);
    Box::pin(Requests { store: &veteran, ..busy.clone() }.is_told_what_to_do()).await;
    let newcomer = database.store(NEWCOMER);
    Box::pin(Requests::of(&newcomer, "newcomer", Uuid::new_v4(), "s1").is_told_what_to_do()).await;
}

impl Requests<'_> {
    /// What nearly every deployment is: accepted with others, claimed with others, carried out.
    async fn deploys_often(&self) {
        let body = self.request(|e| {
            // A project with an ordinary history: the busy one contends with itself.
            e["data"]["project"] = json!({ "id": Uuid::new_v4(), "slug": "often" });
            e["data"]["server"]["handle"] = "often".into();
            e["data"]["repository"]["name"] = "acme/often".into();
        });
        let bodies = [body, self.request(|_| {})];
        let incoming = bodies.each_ref().map(|body| incoming(body));
        let requests: Vec<_> =
            bodies.iter().zip(&incoming).map(|(body, incoming)| decode(body, &incoming.metadata()).unwrap()).collect();
        let plain: Vec<PlainRequest<'_>> = requests
            .iter()
            .zip(&incoming)
            .map(|(request, incoming)| PlainRequest { request, incoming, traceparent: None })
            .collect();
        let accepted = ok(quick("accept many", self.store.accept_plain(&plain, |_, _, _| true)).await);
        for (request, incoming) in
            requests.iter().zip(&incoming).zip(accepted).filter(|(_, done)| !done).map(|(r, _)| r)
        {
            drop(ok(quick("accept", self.store.accept(request, incoming)).await));
        }
        for claim in ok(quick("claim many", self.store.claim_many(&LONG.into(), 4)).await) {
            self.end_in_group(&claim).await;
        }
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
        ok(store.record_digests(&claim.lease, self.project.id, &BTreeMap::new()).await);
        ok(store.record_github_id(claim.lease.deployment, 1).await);
        ok(store.mark_announced(claim.lease.deployment, "in_progress", false).await);
        self.end(&claim, &success).await;
        drop(ok(quick("an announcement", store.next_announcement()).await));
        ok(store.record_announcement_failure(first, "x", None).await);
        ok(store.takes_over(first, &claim.lease).await);
        ok(store.github_digests(self.project.id, &self.server).await);
        ok(store.forget_github_digest(&self.project, &self.server, "DEPLOY_HOST", &self.operator).await);
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
        ok(quick("a retry at once", store.retry_now(newer, &self.operator)).await);
        ok(store.finish_superseded(&claim.lease, &AttemptSummary::default()).await);
        ok(store.cancel(newer).await);
        ok(store.settle_overtaking_cancels(newer).await);
        ok(store.request_cancel(&CancelRequest::of_operator(DeploymentId(Uuid::new_v4()), "ada", None)).await);
        ok(store.cancellations(newer).await);
    }

    /// A command supersedes what waits for its next attempt, and a cancellation finds what runs.
    async fn gives_way(&self) {
        let store = self.store;
        let failure = Failure::new(ErrorCode::PullFailed, Some(Stage::Compose), "x");
        self.accept(|_| {}).await;
        let claim = self.claim().await;
        ok(store.stage_started(&claim.lease, Stage::Compose, b"x").await);
        ok(store.retry(&claim.lease, failure, Duration::ZERO).await);
        self.command(Action::Stop).await;
        while let Some(claim) = ok(store.claim(LONG).await) {
            ok(quick("a cancellation", store.cancel_by_operator(claim.lease.deployment, &self.operator)).await);
            self.end(&claim, &DeploymentEnd::Cancelled).await;
        }
    }

    /// To another server, while the release on the old one is unproven: that is restored before anything else.
    async fn moves(&self) {
        let store = self.store;
        let failure = Failure::new(ErrorCode::PullFailed, Some(Stage::Compose), "x");
        let older = self.accept(|_| {}).await;
        let claim = self.claim().await;
        ok(store.stage_started(&claim.lease, Stage::Compose, b"x").await);
        ok(store.retry(&claim.lease, failure, LONG).await);
        let newer = self.accept(|e| e["data"]["server"]["handle"] = "s1".into()).await;
        let restored = AttemptSummary { restored: true, ..AttemptSummary::default() };
        for claim in [self.claim().await, self.claim().await] {
            if claim.lease.deployment == newer {
                self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
            } else {
                assert_eq!((claim.lease.deployment, claim.boundary), (older, Boundary::Superseded(newer)));
                ok(quick("giving way", store.finish_superseded(&claim.lease, &restored)).await);
            }
        }
    }

    /// A request that no worker of this version can read.
    async fn cant_be_carried_out(&self, database: &TestDatabase) {
        let unreadable = self.accept(|_| {}).await;
        let spoil = "UPDATE deployments SET request = '{}' WHERE id = $1";
        database.sql.execute(spoil, &[&unreadable.0]).await.unwrap();
        assert_eq!(ok(quick("what can't be read", self.store.claim(LONG)).await), None);
        let ended = format!("SELECT count(*) FROM deployments WHERE id = '{unreadable}' AND state = 'failed'");
        assert_eq!(database.count(&ended).await, 1);
    }

    async fn waits_for_its_server(&self, database: &TestDatabase) {
        let failure = || Failure::new(ErrorCode::ServerUnreachable, Some(Stage::Preflight), "x");
        let store = self.store;
        self.accept(|_| {}).await;
        let claim = self.claim().await;
        ok(store.stage_started(&claim.lease, Stage::Preflight, b"x").await);
        ok(store.stage_failed(&claim.lease, Stage::Preflight, &failure(), Duration::ZERO, false).await);
        ok(store.wait_for_server(&claim.lease, failure(), Duration::ZERO).await);
        let open =
            "UPDATE server_circuits SET since = now() - interval '1 day', open_until = now() + interval '1 hour',
                        failures = 9";
        database.sql.execute(open, &[]).await.unwrap();
        let limits = Limits { patience: Duration::ZERO, ..Limits::default() };
        assert!(ok(quick("giving up", store.give_up_unreachable(&limits)).await).is_some());
        database.sql.execute("DELETE FROM server_circuits", &[]).await.unwrap();
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
            project: Some(self.project.clone()),
            ..Default::default()
        };
        let refusal = |id: &str| {
            let known = PartialEnvelope { id: Some(id.to_owned()), ..known.clone() };
            RefusedMessage { failure: failure(), known, withhold: false }
        };
        ok(store.refuse(&refusal("refused"), &incoming).await);
        ok(store.hold(&known, &incoming, "x", Duration::ZERO).await);
        let held = ok(store.next_held(LONG).await).expect("it's due");
        ok(store.put_off_held(held.number, "x", LONG).await);
        ok(store.until_next_held().await);
        ok(store.held(10).await);
        ok(quick("giving up what is held", store.refuse_apart(&refusal("held"), &incoming)).await);
        ok(store.let_go_held(held.number).await);
        let given_up = BrokerDeadLetter {
            refusal: refusal("given up"),
            reason: "exhausted",
            incoming,
            published_as: vec![Uuid::new_v4()],
        };
        ok(quick("what the broker gave up", store.ingest(&given_up)).await);
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
