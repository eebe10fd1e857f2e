//! What attempts write at the same time goes together, and comes to what it would come to one by one.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, Value};
use slipway_protocol::{Change, DeploymentId, Outcome, ProgressKind, Stage, StageSummary};
use slipway_worker::scheduler::Limits;
use slipway_worker::store::{
    AttemptSummary, AttemptWriter, Boundary, Claim, ClaimOptions, DeploymentEnd, Lease, StageEnd, StageIntent, Store,
    StoreError,
};

use super::{LONG, accept, claimed};
use crate::services::TestDatabase;
use crate::services::test_worker::{eventually, request};

const SUCCEEDED: DeploymentEnd = DeploymentEnd::Succeeded { url: None };

async fn claims(store: &Store, count: usize) -> Vec<Claim> {
    for _ in 0..count {
        accept(store, &request(|e| e["data"]["server"]["handle"] = uuid::Uuid::new_v4().to_string().into())).await;
    }
    let limits = Limits { per_registry: u32::MAX, ..Limits::default() };
    let claims = store.claim_many(&ClaimOptions { limits, ..LONG.into() }, count).await.unwrap();
    assert_eq!(claims.len(), count);
    claims
}

/// Carries a deployment out, as far as the database sees it, with `change` in its second stage.
macro_rules! carry_out {
    ($store:expr, $alone:expr, $lease:expr, $change:expr) => {{
        let (store, lease): (_, &Lease) = ($store, $lease);
        assert_eq!(store.stage_started(lease, Stage::Preflight, b"x").await.unwrap(), Boundary::GoOn);
        for (stage, next, change) in [
            (Stage::Preflight, Some(Stage::Clone), Change::Unchanged),
            (Stage::Clone, Some(Stage::Secrets), $change),
            (Stage::Secrets, None, Change::Unchanged),
        ] {
            let lines = vec![format!("{stage} ends")];
            $alone.record_progress(lease, &[ProgressKind::Log { stage, lines }]).await.unwrap();
            let summary = StageSummary { stage, change, duration_ms: 1 };
            let facts = Map::from_iter([("fact".to_owned(), Value::from(stage.as_str()))]);
            let end = StageEnd { summary: &summary, facts: &facts, digests: None };
            let next = next.map(|stage| StageIntent { stage, input_hash: b"x" });
            assert_eq!(store.stage_finished(lease, end, next).await.unwrap(), Boundary::GoOn);
        }
        store.finish(lease, &SUCCEEDED, &AttemptSummary::default()).await.unwrap()
    }};
}

/// What is known of a deployment, without what differs each time.
async fn seen(store: &Store, id: DeploymentId) -> Vec<Value> {
    const DIFFERS: [&str; 10] = [
        "id",
        "time",
        "subject",
        "causationid",
        "deployment_id",
        "project",
        "repository",
        "server",
        "accepted_at",
        "finished_at",
    ];
    fn without(value: &mut Value) {
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| !DIFFERS.contains(&name.as_str()));
            fields.values_mut().for_each(without);
        }
    }
    let events = store.events(id, 0).await.unwrap().into_iter().map(|event| event.event);
    let journal = store.journal(id).await.unwrap().into_iter();
    let journal = journal.map(|entry| format!("{:?}", (entry.stage, entry.outcome, entry.change, entry.facts)).into());
    let state = store.deployment(id).await.unwrap().unwrap().state.as_str().into();
    let mut seen: Vec<Value> = events.chain(journal).chain([state]).collect();
    seen.iter_mut().for_each(without);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_write_together_leave_what_each_leaves_alone() {
    let (database, store) = TestDatabase::migrated("w").await;
    let writer = AttemptWriter::new(store.clone());
    let (together, alone) = (claims(&store, 12).await, claims(&store, 2).await);
    let change = |at: usize| if at.is_multiple_of(2) { Change::Changed } else { Change::Unchanged };
    let outcomes = join_all(together.iter().enumerate().map(|(at, claim)| {
        let (writer, store) = (writer.clone(), store.clone());
        async move { carry_out!(&writer, store, &claim.lease, change(at)) }
    }))
    .await;
    let mut expected = Vec::new();
    for (at, claim) in alone.iter().enumerate() {
        carry_out!(&store, store, &claim.lease, change(at));
        expected.push(seen(&store, claim.lease.deployment).await);
    }
    for (at, claim) in together.iter().enumerate() {
        let outcome = if at.is_multiple_of(2) { Outcome::Succeeded } else { Outcome::AlreadyDeployed };
        assert_eq!(outcomes[at], outcome);
        let seen = seen(&store, claim.lease.deployment).await;
        let differs: Vec<_> = seen.iter().zip(&expected[at % 2]).filter(|(one, other)| one != other).collect();
        assert!(differs.is_empty() && seen.len() == expected[at % 2].len(), "{differs:#?}");
    }
    let held = "SELECT count(*) FROM project_leases WHERE expires_at > now() OR unsettled";
    assert_eq!(database.count(held).await, 0, "all leases are given back");
    let commits = "SELECT count(DISTINCT created_at) FROM outbox o JOIN deployments d ON d.id = o.deployment_id
                   WHERE o.type LIKE '%result%' AND d.server IN (SELECT server FROM project_leases)";
    assert!(database.count(commits).await < 14, "some have ended in one transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_whoever_lost_its_lease_writes_nothing_and_the_others_do() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let writer = AttemptWriter::new(store.clone());
    let held = claims(&store, 6).await;
    accept(&store, &request(|_| {})).await;
    let lost = store.claim(Duration::from_millis(100)).await.unwrap().unwrap().lease;
    eventually("the lease is reaped", || async { store.reap(10).await.unwrap().is_some() }).await;
    let leases: Vec<Lease> = held.iter().map(|claim| claim.lease.clone()).chain([lost.clone()]).collect();
    let before = store.events(lost.deployment, 0).await.unwrap();
    let started = join_all(leases.iter().map(|lease| writer.stage_started(lease, Stage::Preflight, b"x"))).await;
    let ended = join_all(
        leases.iter().map(|lease| async { writer.finish(lease, &SUCCEEDED, &AttemptSummary::default()).await }),
    )
    .await;
    for ((lease, started), ended) in leases.iter().zip(started).zip(ended) {
        if *lease == lost {
            assert!(matches!(started, Err(StoreError::LeaseLost)), "{started:?}");
            assert!(matches!(ended, Err(StoreError::LeaseLost)), "{ended:?}");
        } else {
            assert_eq!(started.unwrap(), Boundary::GoOn);
            assert_eq!(ended.unwrap(), Outcome::AlreadyDeployed);
        }
    }
    assert_eq!(store.events(lost.deployment, 0).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_does_not_wait_for_one_whose_row_is_locked() {
    let (database, store) = TestDatabase::migrated("w").await;
    let writer = AttemptWriter::new(store.clone());
    let (locked, others) = (claimed(&store).await.lease, claims(&store, 4).await);
    let mut elsewhere = database.another().await;
    let lock = elsewhere.transaction().await.unwrap();
    lock.execute("SELECT FROM deployments WHERE id = $1 FOR UPDATE", &[&locked.deployment.0]).await.unwrap();
    let (waiting, lease) = (writer.clone(), locked.clone());
    let waiting = tokio::spawn(async move { waiting.stage_started(&lease, Stage::Preflight, b"x").await });
    let started = join_all(others.iter().map(|claim| writer.stage_started(&claim.lease, Stage::Preflight, b"x"))).await;
    assert!(started.into_iter().all(|started| started.unwrap() == Boundary::GoOn));
    assert!(!waiting.is_finished(), "the locked one waits alone");
    lock.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Boundary::GoOn);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_waits_for_no_row_beside_its_own_that_somebody_has_locked() {
    let (database, store) = TestDatabase::migrated("w").await;
    let writer = AttemptWriter::new(store.clone());
    let mut elsewhere = database.another().await;
    for row in [
        "SELECT FROM server_circuits WHERE server = $1 FOR UPDATE",
        "SELECT FROM slug_owners WHERE server = $1 FOR SHARE",
        "SELECT FROM project_places WHERE server = $1 FOR UPDATE",
    ] {
        let claims = claims(&store, 5).await;
        let servers = "INSERT INTO server_circuits (server, failures, since)
                       SELECT server, 1, now() FROM deployments WHERE state = 'running'";
        database.sql.batch_execute(servers).await.unwrap();
        let lock = elsewhere.transaction().await.unwrap();
        lock.execute(row, &[&claims[0].lease.server.as_str()]).await.unwrap();
        let mut ends = claims.into_iter().map(|claim| {
            let (store, writer) = (store.clone(), writer.clone());
            tokio::spawn(async move {
                let (lease, facts) = (&claim.lease, Map::new());
                store.stage_started(lease, Stage::Preflight, b"x").await.unwrap();
                let summary = StageSummary { stage: Stage::Preflight, change: Change::Changed, duration_ms: 1 };
                let end = StageEnd { summary: &summary, facts: &facts, digests: None };
                writer.stage_finished(lease, end, None).await.unwrap();
                writer.finish(lease, &SUCCEEDED, &AttemptSummary::default()).await.unwrap()
            })
        });
        let waits = ends.next().unwrap();
        let others = tokio::time::timeout(Duration::from_secs(6), join_all(ends)).await;
        let others = others.unwrap_or_else(|_| panic!("others wait for {row}"));
        assert!(others.into_iter().all(|end| end.unwrap() == Outcome::Succeeded));
        lock.rollback().await.unwrap();
        assert_eq!(waits.await.unwrap(), Outcome::Succeeded);
    }
}
