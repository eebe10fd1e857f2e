//! The store's side of dead letters, on a real PostgreSQL: which can be sent again, and that each is sent once.

use std::time::Duration;

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};
use slipway_protocol::{DeploymentId, ErrorCode, Failure, Stage, decode};
use slipway_worker::store::{
    AttemptSummary, DeadLetterFilter, DeadLetterState, DeploymentEnd, Operator, Replay, ReplayVerdict, Store,
};

fn ada() -> Operator {
    Operator::new("ada", Some("a test"))
}

/// A deployment that has failed for good.
async fn failed(store: &Store, edit: impl FnOnce(&mut serde_json::Value)) -> DeploymentId {
    let body = request(edit);
    let incoming = incoming(&body);
    let request = decode(&body, &incoming.metadata()).unwrap();
    store.accept(&request, &incoming).await.unwrap();
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    let failure = Failure::new(ErrorCode::ImageNotFound, Some(Stage::Compose), "no such image");
    let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "exhausted" };
    store.finish(&claim.lease, &end, &AttemptSummary::default()).await.unwrap();
    claim.lease.deployment
}

async fn verdict(store: &Store, id: DeploymentId) -> ReplayVerdict {
    let only = DeadLetterFilter { ids: vec![id.0], ..DeadLetterFilter::default() };
    store.plan_replay(&only, 1).await.unwrap()[0].verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_open_kept_in_time_and_newest_is_sent_again() {
    let (database, store) = TestDatabase::migrated("w").await;
    let project = uuid::Uuid::new_v4().to_string();
    let at = |time: &'static str| {
        let project = project.clone();
        move |event: &mut serde_json::Value| {
            event["data"]["project"]["id"] = project.as_str().into();
            event["data"]["sequence"] = serde_json::Value::Null;
            event["time"] = time.into();
        }
    };
    let older = failed(&store, at("2026-11-20T09:00:00Z")).await;
    let newer = failed(&store, at("2026-11-20T10:00:00Z")).await;
    let withheld = failed(&store, |_| {}).await;
    let expired = failed(&store, |e| e["data"]["expires_at"] = "2999-01-01T00:00:00Z".into()).await;
    let archived = failed(&store, |_| {}).await;
    let aged = failed(&store, |_| {}).await;
    let spoil = format!(
        "UPDATE dead_letters SET body = NULL WHERE id = '{withheld}';
         UPDATE deployments SET request = jsonb_set(request, '{{data,expires_at}}', '\"2020-01-01T00:00:00Z\"')
         WHERE id = '{expired}';
         UPDATE dead_letters SET code = 'expired-event' WHERE id IN ('{expired}', '{aged}')"
    );
    database.sql.batch_execute(&spoil).await.unwrap();
    let one = DeadLetterFilter { ids: vec![archived.0], ..DeadLetterFilter::default() };
    assert_eq!(store.archive_dead_letters(&one, &ada(), 10).await.unwrap(), [archived.0]);
    assert!(store.archive_dead_letters(&one, &ada(), 10).await.unwrap().is_empty());

    for (id, expected) in [
        (older, ReplayVerdict::Superseded),
        (newer, ReplayVerdict::Ready),
        (withheld, ReplayVerdict::Withheld),
        (expired, ReplayVerdict::Expired),
        (archived, ReplayVerdict::NotOpen),
        (aged, ReplayVerdict::Ready),
    ] {
        assert_eq!(verdict(&store, id).await, expected);
    }
    let all = DeadLetterFilter::default();
    let forced = Replay { force: true, ..Replay::default() };
    let sent = |sent: Vec<slipway_worker::store::SentReplay>| sent.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(sent(store.replay_dead_letters(&all, Replay::default(), &ada(), 10).await.unwrap()), [newer.0, aged.0]);
    assert_eq!(sent(store.replay_dead_letters(&all, forced, &ada(), 10).await.unwrap()), [older.0]);
    assert!(store.replay_dead_letters(&all, forced, &ada(), 10).await.unwrap().is_empty());
    assert_eq!(store.restore_dead_letters(&one, &ada(), 10).await.unwrap(), [archived.0]);
    assert_eq!(verdict(&store, archived).await, ReplayVerdict::Ready);
    // A cancelled newer request stands in nobody's way.
    database
        .sql
        .batch_execute(&format!("UPDATE deployments SET state = 'cancelled' WHERE id = '{newer}'"))
        .await
        .unwrap();
    let back = format!("UPDATE dead_letters SET state = 'open' WHERE id = '{older}'");
    database.sql.batch_execute(&back).await.unwrap();
    assert_eq!(verdict(&store, older).await, ReplayVerdict::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_who_replay_everything_at_once_send_every_message_once() {
    const LETTERS: i64 = 400;
    let (database, store) = TestDatabase::migrated("w").await;
    let template = failed(&store, |_| {}).await;
    let copies = format!(
        "INSERT INTO dead_letters (id, body, headers, reason, stage, code, class, message, attempts, original_exchange,
             original_routing_key, worker)
         SELECT gen_random_uuid(), body, headers, reason, stage, code, class, message, attempts, original_exchange,
             original_routing_key, worker
         FROM dead_letters, generate_series(1, {LETTERS} - 1) WHERE id = '{template}'"
    );
    database.sql.batch_execute(&copies).await.unwrap();
    let replay = |store: Store| async move {
        let open = DeadLetterFilter { state: Some(DeadLetterState::Open), ..DeadLetterFilter::default() };
        let mut sent = 0;
        while !store.dead_letter_ids(&open, 1).await.unwrap().is_empty() {
            sent += store.replay_dead_letters(&open, Replay::default(), &ada(), 30).await.unwrap().len();
        }
        sent
    };
    let (one, other) = tokio::join!(tokio::spawn(replay(store.clone())), tokio::spawn(replay(database.store("other"))));
    assert_eq!(i64::try_from(one.unwrap() + other.unwrap()).unwrap(), LETTERS);
    let messages = "SELECT count(DISTINCT message_id) FROM outbox WHERE exchange = 'slipway.requests'";
    assert_eq!(database.count(messages).await, LETTERS);
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE exchange = 'slipway.requests'").await, LETTERS);
    assert_eq!(database.count("SELECT count(*) FROM operator_audit WHERE who = 'ada'").await, LETTERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_letters_that_cant_be_sent_hides_none_that_can() {
    let (database, store) = TestDatabase::migrated("w").await;
    let last = failed(&store, |_| {}).await;
    let copies = format!(
        "INSERT INTO dead_letters (id, headers, reason, stage, code, class, message, attempts, original_exchange,
             original_routing_key, worker, last_failed_at)
         SELECT gen_random_uuid(), headers, reason, stage, code, class, message, attempts, original_exchange,
             original_routing_key, worker, last_failed_at - (i / 7) * interval '1 minute'
         FROM dead_letters, generate_series(7, 256) i WHERE id = '{last}'"
    );
    database.sql.batch_execute(&copies).await.unwrap();
    let mut open = DeadLetterFilter { state: Some(DeadLetterState::Open), ..DeadLetterFilter::default() };
    let sent = store.replay_dead_letters(&open, Replay::default(), &ada(), 1).await.unwrap();
    assert_eq!(sent.iter().map(|one| one.id).collect::<Vec<_>>(), [last.0]);
    assert!(store.replay_dead_letters(&open, Replay::default(), &ada(), 1).await.unwrap().is_empty());
    // Page by page each is told once.
    let (mut told, mut pages) = (Vec::new(), 0);
    loop {
        let page = store.plan_replay(&open, 100).await.unwrap();
        let Some(end) = page.last() else { break };
        open.after = Some((end.failed_at, end.id));
        pages += 1;
        assert!(page.iter().all(|one| one.verdict == ReplayVerdict::Withheld));
        told.extend(page.iter().map(|one| one.id));
    }
    told.sort();
    told.dedup();
    assert_eq!((told.len(), pages), (250, 3));
}
