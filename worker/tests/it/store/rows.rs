//! The schema and its rows: made once, read by every version, and rid of what no table may keep.

use slipway_protocol::{Failure, Outcome, decode};
use slipway_worker::store::{
    Admission, AttemptSummary, DeadLetterFilter, DeploymentEnd, InterruptOutcome, Operator, RefusedMessage, Replay,
    State,
};

use super::{LONG, accept, claimed, ended_failed, state};
use crate::services::TestDatabase;
use crate::services::test_worker::{eventually, incoming, request};

#[tokio::test(flavor = "multi_thread")]
async fn migrations_from_several_processes_at_once_all_succeed() {
    let database = TestDatabase::new().await;
    let migrations = (0..8).map(|i| {
        let store = database.store(&format!("w{i}"));
        tokio::spawn(async move { store.migrate().await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    assert_eq!(database.count("SELECT count(*) FROM refinery_schema_history").await, files as i64);
    let held = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE locktype = 'advisory' AND datname = current_database()";
    eventually("the lock is gone", || async { database.count(held).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_not_promoted_yet_is_waited_for() {
    let (database, store) = TestDatabase::migrated("w").await;
    let (id, _) = accept(&store, &request(|_| {})).await;
    let standby = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name);
    database.outside().await.batch_execute(&standby).await.unwrap();
    let refused = database.store("after the failover").cancel(id).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plaintext_secret_is_in_no_table_and_not_in_its_dead_letter() {
    let (database, store) = TestDatabase::migrated("w").await;
    let body = request(|e| e["data"]["secrets"] = serde_json::json!({ "API_TOKEN": "s3cret-value" }));
    let incoming = incoming(&body);
    let rejection = decode(&body, &incoming.metadata()).unwrap_err();
    let failure = Failure::new(rejection.code, None, rejection.message);
    let refusal = RefusedMessage { failure, known: *rejection.known, withhold: true };
    assert!(store.refuse(&refusal, &incoming).await.unwrap());
    assert!(!store.refuse(&refusal, &incoming).await.unwrap(), "its duplicate is recognised");
    let waiting = store.waiting_messages(&[], &[], 10, u32::MAX).await.unwrap().rows;
    let letter = waiting.iter().find(|row| row.message.exchange == "slipway.dead-letters").unwrap();
    let note: serde_json::Value = serde_json::from_slice(&letter.message.body).unwrap();
    assert_eq!(note["bytes"], body.len());
    assert_eq!(letter.message.headers["dlq-error-code"], "plaintext-secret");
    for table in ["deployments", "outbox", "dead_letters", "stage_journal"] {
        let found = format!(
            "SELECT count(*) FROM {table} t WHERE t::text LIKE '%s3cret-value%' \
             OR t::text LIKE '%' || encode('s3cret-value', 'hex') || '%'"
        );
        assert_eq!(database.count(&found).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_dead_letter_counts_its_replays() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let claim = claimed(&store).await;
    store.finish(&claim.lease, &ended_failed(), &AttemptSummary::default()).await.unwrap();
    let letter = store.dead_letter(claim.lease.deployment.0).await.unwrap().unwrap();
    assert_eq!(letter.replay_count, 0);
    let only = DeadLetterFilter { ids: vec![letter.id], ..DeadLetterFilter::default() };
    let ada = Operator::new("ada", None);
    let replay = store.replay_dead_letters(&only, Replay::default(), &ada, 10).await.unwrap()[0].replay;
    assert!(store.replay_dead_letters(&only, Replay::default(), &ada, 10).await.unwrap().is_empty(), "only once");
    let rows = store.waiting_messages(&[], &[], 100, u32::MAX).await.unwrap().rows;
    let sent = rows.into_iter().find(|row| row.message.exchange == "slipway.requests").unwrap().message;
    assert_eq!(Some(&sent.body), letter.body.as_ref());
    let again = slipway_worker::message::Incoming { headers: sent.headers, ..incoming(&sent.body) };
    let replayed = decode(&again.body, &again.metadata()).unwrap();
    assert_eq!(replayed.replay, Some(replay));
    assert_eq!(store.accept(&replayed, &again).await.unwrap(), Admission::New);
    let claim = store.claim(LONG).await.unwrap().unwrap();
    store.finish(&claim.lease, &ended_failed(), &AttemptSummary::default()).await.unwrap();
    let second = store.dead_letter(claim.lease.deployment.0).await.unwrap().unwrap();
    assert_eq!(second.replay_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_request_that_can_not_be_read_fails_and_lets_others_pass() {
    let (database, store) = TestDatabase::migrated("w").await;
    let (poison, _) = accept(&store, &request(|_| {})).await;
    database.sql.execute("UPDATE deployments SET request = '{}'", &[]).await.unwrap();
    let (healthy, _) = accept(&store, &request(|_| {})).await;
    assert_eq!(store.claim(LONG).await.unwrap(), None);
    assert_eq!(state(&store, poison).await, State::Ended(Outcome::Failed));
    assert_eq!(store.claim(LONG).await.unwrap().unwrap().lease.deployment, healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_can_not_be_read_stands_in_nobodys_way() {
    let (database, store) = TestDatabase::migrated("w").await;
    for spoil in ["correlation = '[]'", "commit_sha = 'x'"] {
        let (spoilt, _) = accept(&store, &request(|_| {})).await;
        let spoil = format!("UPDATE deployments SET {spoil} WHERE id = '{spoilt}'");
        database.sql.batch_execute(&spoil).await.unwrap();
    }
    let (healthy, _) = accept(&store, &request(|_| {})).await;
    let claim = store.claim(LONG).await.unwrap().unwrap();
    assert_eq!((claim.lease.deployment, store.claim(LONG).await.unwrap()), (healthy, None));
    // Their worker dies: the first by its arrival is one of the unreadable ones.
    let died = "UPDATE deployments SET state = 'running', fence = coalesce(fence, 1), owner = 'w';
                UPDATE project_leases SET expires_at = now()";
    database.sql.batch_execute(died).await.unwrap();
    assert_eq!(store.reap(10).await.unwrap(), Some((healthy, InterruptOutcome::Released)));
    assert_eq!(store.reap(10).await.unwrap(), None);
    // Their server is dead: the others are given up.
    let dead = "UPDATE deployments SET state = 'pending', accepted_at = now() - interval '2 h';
                INSERT INTO server_circuits SELECT DISTINCT server, 3, now() - interval '2 h', now() + interval '1 h'
                    FROM deployments";
    database.sql.batch_execute(dead).await.unwrap();
    let limits = slipway_worker::scheduler::Limits::default();
    assert_eq!(store.give_up_unreachable(&limits).await.unwrap(), Some(healthy));
    assert_eq!(store.give_up_unreachable(&limits).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_a_deployment_that_has_ended_is_kept_by_its_dead_letter_alone() {
    let (database, store) = TestDatabase::migrated("w").await;
    let kept = "SELECT count(*) FROM deployments WHERE body IS NOT NULL OR headers <> '{}'";
    for end in [ended_failed(), DeploymentEnd::Succeeded { url: None }] {
        let body = request(|_| {});
        let incoming = slipway_worker::message::Incoming {
            headers: [("tenant".to_owned(), "a".to_owned())].into(),
            ..incoming(&body)
        };
        let request = decode(&body, &incoming.metadata()).unwrap();
        store.accept(&request, &incoming).await.unwrap();
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!(database.count(kept).await, 1);
        store.finish(&claim.lease, &end, &AttemptSummary::default()).await.unwrap();
        assert_eq!(database.count(kept).await, 0);
        let letter = store.dead_letter(claim.lease.deployment.0).await.unwrap();
        assert_eq!(letter.is_some(), matches!(end, DeploymentEnd::Failed { .. }));
        assert!(letter.is_none_or(|l| l.body == Some(body) && l.headers == incoming.headers));
    }
}
