//! The numbers of a deployment's events: without gaps and each of one event, whoever tells at the same moment, and however many
//! events a row of the outbox has.

use futures_util::future::join_all;
use slipway_protocol::{Change, DeploymentId, ProgressKind, Stage, StageSummary};
use slipway_worker::store::{AttemptSummary, DeploymentEnd, Lease, StageEnd, StageIntent, Store, StoredEvent};

use super::{claimed, held_back, somebody_waits};
use crate::services::TestDatabase;

const ENDED: DeploymentEnd = DeploymentEnd::Succeeded { url: None };
/// As a worker of the version before tells of a step: by the number that the deployment's row has, and one row for each event.
const TOLD_BEFORE: &str = "
    WITH told AS (
        INSERT INTO outbox (deployment_id, sequence, type, told, must_route)
        SELECT id, next_sequence + n, 'slipway.deployment.progress.v1',
            convert_to('{\"kind\":\"attempt_started\",\"attempt\":' || 7 + n || '}', 'UTF8'), false
        FROM deployments, generate_series(0, 1) n WHERE id = $1)
    UPDATE deployments SET next_sequence = next_sequence + 2 WHERE id = $1";

/// Ends one stage and begins the next one.
async fn step(store: &Store, lease: &Lease, ended: Stage, next: Stage) {
    let summary = StageSummary { stage: ended, change: Change::Changed, duration_ms: 1 };
    let facts = serde_json::Map::new();
    let end = StageEnd { summary: &summary, facts: &facts, digests: None };
    store.stage_finished(lease, end, Some(StageIntent { stage: next, input_hash: b"x" })).await.unwrap();
}

async fn line(store: &Store, lease: &Lease, line: usize) {
    let lines = vec![format!("line {line}")];
    store.record_progress(lease, &[ProgressKind::Log { stage: Stage::Clone, lines }]).await.unwrap();
}

/// The kinds of a deployment's events, whose numbers and ids are right.
async fn kinds(store: &Store, id: DeploymentId) -> Vec<String> {
    let events = store.events(id, 0).await.unwrap();
    for (number, event) in (1..).zip(&events) {
        assert_eq!((event.sequence, &event.event["sequence"]), (number, &format!("{number:010}").into()));
        assert_eq!(event.event["id"], id.event_id(number).to_string());
    }
    let kind = |event: &StoredEvent| event.event["data"]["kind"].as_str().unwrap_or("result").to_owned();
    events.iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_tells_is_one_row_and_as_many_events_as_it_always_was() {
    let (database, store) = TestDatabase::migrated("w").await;
    let lease = claimed(&store).await.lease;
    store.stage_started(&lease, Stage::Preflight, b"x").await.unwrap();
    step(&store, &lease, Stage::Preflight, Stage::Clone).await;
    line(&store, &lease, 1).await;
    assert_eq!(database.count("SELECT count(*) FROM outbox").await, 5);
    store.finish(&lease, &ENDED, &AttemptSummary::default()).await.unwrap();
    let told = ["accepted", "attempt_started", "stage_started", "stage_finished", "stage_started", "log", "result"];
    assert_eq!(kinds(&store, lease.deployment).await, told);
    for after in 0..told.len() {
        let numbers: Vec<usize> =
            store.events(lease.deployment, after as u64).await.unwrap().iter().map(|e| e.sequence as usize).collect();
        assert_eq!(numbers, (after + 1..=told.len()).collect::<Vec<_>>(), "after {after}");
    }
    let page = store.waiting_messages(&[], &[], 10, u32::MAX).await.unwrap().rows;
    let ids: Vec<String> = page.iter().map(|row| row.message.message_id.clone()).collect();
    assert_eq!(ids, (1..=7).map(|number| lease.deployment.event_id(number).to_string()).collect::<Vec<_>>());
    assert_eq!(page[3].position, page[4].position);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_another_who_tells_takes_the_number_after_that() {
    let (database, store) = TestDatabase::migrated("w").await;
    let lease = claimed(&store).await.lease;
    store.stage_started(&lease, Stage::Preflight, b"x").await.unwrap();
    let gate = held_back(&database, "outbox", "WITH step%").await;
    let lines = (0..3).map(|at| {
        let (store, lease) = (store.clone(), lease.clone());
        tokio::spawn(async move { line(&store, &lease, at).await })
    });
    let lines: Vec<_> = lines.collect();
    let stepping = tokio::spawn({
        let (store, lease) = (store.clone(), lease.clone());
        async move { step(&store, &lease, Stage::Preflight, Stage::Clone).await }
    });
    somebody_waits(&database).await;
    drop(gate);
    stepping.await.unwrap();
    join_all(lines).await.into_iter().for_each(|line| line.unwrap());
    assert_eq!(kinds(&store, lease.deployment).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_the_version_before_tells_by_the_next_numbers_too() {
    let (database, store) = TestDatabase::migrated("w").await;
    let lease = claimed(&store).await.lease;
    store.stage_started(&lease, Stage::Preflight, b"x").await.unwrap();
    step(&store, &lease, Stage::Preflight, Stage::Clone).await;
    database.sql.execute(TOLD_BEFORE, &[&lease.deployment.0]).await.unwrap();
    step(&store, &lease, Stage::Clone, Stage::Env).await;
    store.finish(&lease, &ENDED, &AttemptSummary::default()).await.unwrap();
    assert_eq!(kinds(&store, lease.deployment).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_deployment_go_its_journal_and_its_events() {
    let (database, store) = TestDatabase::migrated("w").await;
    let (gone, stays) = (claimed(&store).await.lease, claimed(&store).await.lease);
    for lease in [&gone, &stays] {
        store.stage_started(lease, Stage::Preflight, b"x").await.unwrap();
    }
    database.sql.execute("DELETE FROM deployments WHERE id = $1", &[&gone.deployment.0]).await.unwrap();
    for table in ["stage_journal", "outbox"] {
        let others = format!("SELECT count(*) FROM {table} WHERE deployment_id <> '{}'", stays.deployment);
        assert_eq!(database.count(&others).await, 0, "{table}");
    }
    assert_eq!(kinds(&store, stays.deployment).await.len(), 3);
}
