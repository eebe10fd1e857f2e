//! The store on a real PostgreSQL: leases, sequences, transitions, migrations.

#![expect(clippy::unwrap_used, reason = "tests")]

mod services;

use std::time::Duration;

use services::Database;
use services::rig::{eventually, incoming, request};
use slipway_protocol::{Change, DeploymentId, ErrorCode, Failure, Outcome, ProgressKind, Stage, StageSummary, decode};
use slipway_worker::store::{
    Accepted, Boundary, Claim, Course, DeadLetterFilter, End, Interrupted, Operator, Refusal, Replay, Scheduled,
    StageEnd, State, Store, StoreError,
};

const LONG: Duration = Duration::from_secs(60);

async fn accept(store: &Store, body: &[u8]) -> (DeploymentId, Accepted) {
    let incoming = incoming(body);
    let request = decode(body, &incoming.metadata()).unwrap();
    (request.deployment_id(), store.accept(&request, &incoming).await.unwrap())
}

async fn claimed(store: &Store) -> Claim {
    accept(store, &request(|_| {})).await;
    store.claim(LONG).await.unwrap().unwrap()
}

async fn state(store: &Store, id: DeploymentId) -> State {
    store.deployment(id).await.unwrap().unwrap().state
}

fn failure() -> Failure {
    Failure::new(ErrorCode::PullFailed, Some(Stage::Compose), "the registry hung up")
}

fn ended_failed() -> End {
    End::Failed { failure: failure(), missing_secret: None, reason: "exhausted" }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_from_several_processes_at_once_all_succeed() {
    let database = Database::new().await;
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
async fn of_many_claims_at_once_one_gets_the_project() {
    let (_database, store) = Database::migrated("w").await;
    accept(&store, &request(|_| {})).await;
    // Another project by its id, but the same directory on the same server.
    accept(&store, &request(|_| {})).await;
    let claims = (0..12).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.claim(LONG).await.unwrap() })
    });
    let mut won = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        won.extend(claim.await.unwrap());
    }
    assert_eq!(won.len(), 1, "{won:?}");
    let claim = won.remove(0);
    store.finish(&claim.lease, &End::Succeeded { url: None }, &StageEnd::default()).await.unwrap();
    let next = store.claim(LONG).await.unwrap().unwrap();
    assert_ne!(next.lease.deployment, claim.lease.deployment);
    assert!(next.lease.fence > claim.lease.fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_writes_nothing() {
    let (database, store) = Database::migrated("w").await;
    accept(&store, &request(|_| {})).await;
    let old = store.claim(Duration::from_millis(100)).await.unwrap().unwrap();
    assert_eq!(store.stage_started(&old.lease, Stage::Preflight, b"x").await.unwrap(), Boundary::GoOn);
    eventually("the lease is reaped", || async { store.reap(10).await.unwrap().is_some() }).await;
    let new = store.claim(LONG).await.unwrap().unwrap();
    assert_eq!((new.lease.deployment, new.attempt, new.interruptions), (old.lease.deployment, 1, 1));
    assert!(new.lease.fence > old.lease.fence);

    let snapshot = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM
        (SELECT d::text FROM deployments d UNION ALL SELECT o::text FROM outbox o
         UNION ALL SELECT j::text FROM stage_journal j UNION ALL SELECT l::text FROM project_leases l
         UNION ALL SELECT x::text FROM dead_letters x UNION ALL SELECT g::text FROM github_digests g) t";
    let before: String = database.sql.query_one(snapshot, &[]).await.unwrap().get(0);
    let summary = StageSummary { stage: Stage::Preflight, change: Change::Changed, duration_ms: 1 };
    let facts = serde_json::Map::new();
    let digests = [("A".to_owned(), "b".to_owned())].into();
    let project = old.event.data.project.id;
    let lease = &old.lease;
    let lost = [
        store.renew(lease, LONG).await.unwrap_err(),
        store.stage_started(lease, Stage::Clone, b"x").await.unwrap_err(),
        store.stage_finished(lease, &summary, &facts, Some((project, &digests))).await.unwrap_err(),
        store.stage_failed(lease, Stage::Preflight, &failure(), LONG, true).await.unwrap_err(),
        store.tell(lease, vec![ProgressKind::Interrupted { attempt: 1 }]).await.unwrap_err(),
        store.retry(lease, failure(), LONG).await.unwrap_err(),
        store.interrupt(lease, 10).await.unwrap_err(),
        store.finish(lease, &ended_failed(), &StageEnd::default()).await.unwrap_err(),
        store.give_way(lease, &StageEnd::default()).await.unwrap_err(),
    ];
    for error in lost {
        assert!(matches!(error, StoreError::LeaseLost), "{error:?}");
    }
    let after: String = database.sql.query_one(snapshot, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_can_not_write_once_another_deployment_holds_the_project() {
    let (_database, store) = Database::migrated("w").await;
    accept(&store, &request(|_| {})).await;
    accept(&store, &request(|_| {})).await;
    let zombie = store.claim(Duration::from_millis(100)).await.unwrap().unwrap();
    let mut next = None;
    while next.is_none() {
        next = store.claim(LONG).await.unwrap();
    }
    assert_ne!(next.unwrap().lease.deployment, zombie.lease.deployment);
    // Not reaped yet: its own row still says that it runs.
    assert_eq!(state(&store, zombie.lease.deployment).await, State::Running);
    let finished = store.finish(&zombie.lease, &End::Succeeded { url: None }, &StageEnd::default()).await;
    assert!(matches!(finished, Err(StoreError::LeaseLost)), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_grow_with_every_claim_and_are_never_behind_the_clock() {
    let (database, store) = Database::migrated("w").await;
    accept(&store, &request(|_| {})).await;
    let first = store.claim(LONG).await.unwrap().unwrap().lease;
    let epoch = database.count("SELECT extract(epoch FROM now())::bigint").await;
    assert!((epoch - 60..=epoch).contains(&first.fence.get()), "{first:?}");
    store.retry(&first, failure(), Duration::ZERO).await.unwrap();
    let second = store.claim(LONG).await.unwrap().unwrap().lease;
    assert!(second.fence > first.fence, "also within one second");
    store.retry(&second, failure(), Duration::ZERO).await.unwrap();
    // A backup knows nothing of what was claimed since: servers have seen `second` and would refuse less.
    database.sql.execute("UPDATE project_leases SET fence = 1", &[]).await.unwrap();
    let restored = store.claim(LONG).await.unwrap().unwrap().lease;
    assert!(restored.fence.get() >= epoch, "{restored:?}");
    store.retry(&restored, failure(), Duration::ZERO).await.unwrap();
    // A clock that is set back doesn't make them smaller.
    database.sql.execute("UPDATE project_leases SET fence = fence + 100000", &[]).await.unwrap();
    let ahead = store.claim(LONG).await.unwrap().unwrap().lease;
    assert_eq!(ahead.fence.get(), restored.fence.get() + 100_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_is_not_reaped() {
    let (_database, store) = Database::migrated("w").await;
    let claim = claimed(&store).await;
    store.renew(&claim.lease, LONG).await.unwrap();
    assert_eq!(store.reap(10).await.unwrap(), None);
    assert_eq!(state(&store, claim.lease.deployment).await, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_have_no_gaps_and_ids_are_derived_even_when_many_write_at_once() {
    let (_database, store) = Database::migrated("w").await;
    let claim = claimed(&store).await;
    let id = claim.lease.deployment;
    let tellers = (0..10).map(|i| {
        let (store, lease) = (store.clone(), claim.lease.clone());
        tokio::spawn(async move {
            let lines = vec![format!("line {i}")];
            store.tell(&lease, vec![ProgressKind::Log { stage: Stage::Clone, lines }]).await.unwrap();
        })
    });
    for teller in tellers.collect::<Vec<_>>() {
        teller.await.unwrap();
    }
    store.retry(&claim.lease, failure(), Duration::ZERO).await.unwrap();
    let claim = store.claim(LONG).await.unwrap().unwrap();
    store.finish(&claim.lease, &ended_failed(), &StageEnd::default()).await.unwrap();
    let events = store.events(id, 0).await.unwrap();
    let sequences: Vec<u64> = events.iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    // accepted, started, ten lines, scheduled, started, result
    assert_eq!(events.len(), 15);
    for event in &events {
        assert_eq!(event.event["sequence"], format!("{:010}", event.sequence));
        assert_eq!(event.event["id"], id.event_id(event.sequence).to_string());
    }
    assert_eq!(events.last().unwrap().event_type, "slipway.deployment.result.v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_costs_no_attempt_but_ten_are_the_limit() {
    let (_database, store) = Database::migrated("w").await;
    let (id, _) = accept(&store, &request(|_| {})).await;
    for interruption in 1..=11 {
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!(claim.attempt, 1);
        let became = store.interrupt(&claim.lease, 10).await.unwrap();
        let expected = if interruption <= 10 { Interrupted::Released } else { Interrupted::Ended(Outcome::Failed) };
        assert_eq!(became, expected, "{interruption}");
    }
    let deployment = store.deployment(id).await.unwrap().unwrap();
    assert_eq!(deployment.state, State::Ended(Outcome::Failed));
    assert_eq!(deployment.failure.unwrap().code, ErrorCode::InterruptedTooOften);
    assert_eq!((deployment.attempt, deployment.interruptions), (1, 11));
    let letter = store.dead_letter(id.0).await.unwrap().unwrap();
    assert_eq!((letter.reason.as_str(), letter.attempts), ("interrupted", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_too_often_is_claimed_once_more_if_it_left_something_to_be_put_back() {
    let (_database, store) = Database::migrated("w").await;
    for cancelled in [false, true] {
        let (id, _) = accept(&store, &request(|_| {})).await;
        let claim = store.claim(LONG).await.unwrap().unwrap();
        store.stage_started(&claim.lease, Stage::Clone, b"x").await.unwrap();
        assert_eq!(store.interrupt(&claim.lease, 0).await.unwrap(), Interrupted::Released);
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!((claim.attempt, claim.interruptions), (1, 1));
        if cancelled {
            store.cancel(id).await.unwrap();
        }
        let outcome = if cancelled { Outcome::Cancelled } else { Outcome::Failed };
        assert_eq!(store.interrupt(&claim.lease, 0).await.unwrap(), Interrupted::Ended(outcome), "but no oftener");
        assert_eq!(state(&store, id).await, State::Ended(outcome));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answer_was_lost_is_written_once_and_answered_again() {
    let (database, store) = Database::migrated("w").await;
    let Claim { lease, .. } = claimed(&store).await;
    for _ in 0..2 {
        assert_eq!(store.finish(&lease, &ended_failed(), &StageEnd::default()).await.unwrap(), Outcome::Failed);
        assert_eq!(store.give_way(&lease, &StageEnd::default()).await.unwrap(), Some(Outcome::Failed));
    }
    let results = "SELECT count(*) FROM outbox WHERE type = 'slipway.deployment.result.v1'";
    assert_eq!(database.count(results).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_not_promoted_yet_is_waited_for() {
    let (database, store) = Database::migrated("w").await;
    let (id, _) = accept(&store, &request(|_| {})).await;
    let standby = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name);
    database.outside().await.batch_execute(&standby).await.unwrap();
    let refused = database.store("after the failover").cancel(id).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_request_wins() {
    let (_database, store) = Database::migrated("w").await;
    let project = uuid::Uuid::new_v4().to_string();
    let at = |sequence: u64| {
        request(|e| {
            e["data"]["project"]["id"] = project.clone().into();
            e["data"]["sequence"] = sequence.into();
        })
    };
    let (second, _) = accept(&store, &at(2)).await;
    let running = store.claim(LONG).await.unwrap().unwrap();
    let (fourth, _) = accept(&store, &at(4)).await;
    let (third, verdict) = accept(&store, &at(3)).await;
    assert_eq!(verdict, Accepted::Superseded(fourth));
    assert_eq!(state(&store, third).await, State::Ended(Outcome::Superseded));
    let (fifth, verdict) = accept(&store, &at(5)).await;
    assert_eq!(verdict, Accepted::New);
    let superseded = store.deployment(fourth).await.unwrap().unwrap();
    assert_eq!(superseded.state, State::Ended(Outcome::Superseded));
    assert_eq!(superseded.result.unwrap().superseded_by, Some(fifth));
    assert_eq!(store.dead_letter(fourth.0).await.unwrap(), None);
    // The running one stops at its next boundary.
    assert_eq!(running.lease.deployment, second);
    let boundary = store.stage_started(&running.lease, Stage::Clone, b"x").await.unwrap();
    assert_eq!(boundary, Boundary::Superseded(fifth));
    assert_eq!(store.retry(&running.lease, failure(), LONG).await.unwrap(), Scheduled::Superseded(fifth));
    assert_eq!(store.give_way(&running.lease, &StageEnd::default()).await.unwrap(), Some(Outcome::Superseded));
    assert_eq!(state(&store, second).await, State::Ended(Outcome::Superseded));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_deployment_that_is_superseded_has_ended_unless_it_is_to_be_put_back() {
    let (_database, store) = Database::migrated("w").await;
    let project = uuid::Uuid::new_v4().to_string();
    let at = |sequence: u64| {
        request(|e| {
            e["data"]["project"]["id"] = project.clone().into();
            e["data"]["sequence"] = sequence.into();
        })
    };
    let (first, _) = accept(&store, &at(1)).await;
    let claim = store.claim(LONG).await.unwrap().unwrap();
    let (second, _) = accept(&store, &at(2)).await;
    assert_eq!(store.interrupt(&claim.lease, 10).await.unwrap(), Interrupted::Ended(Outcome::Superseded));
    let ended = store.deployment(first).await.unwrap().unwrap();
    assert_eq!(ended.state, State::Ended(Outcome::Superseded));
    assert_eq!(ended.result.unwrap().superseded_by, Some(second));

    let claim = store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(claim.lease.deployment, second);
    let (third, _) = accept(&store, &at(3)).await;
    store.cancel(second).await.unwrap();
    assert_eq!(store.interrupt(&claim.lease, 10).await.unwrap(), Interrupted::Released);
    assert_eq!((state(&store, second).await, state(&store, third).await), (State::Pending, State::Pending));
}

/// Requests of one project, for a server and with a number.
fn project() -> impl Fn(&str, u64) -> Vec<u8> {
    let id = uuid::Uuid::new_v4().to_string();
    move |server, sequence| {
        request(|e| {
            e["data"]["project"]["id"] = id.clone().into();
            e["data"]["server"]["handle"] = server.into();
            e["data"]["sequence"] = sequence.into();
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_that_never_began_is_claimed_only_to_settle_what_others_left() {
    let (_database, store) = Database::migrated("w").await;
    let (of, seen) = (project(), StageEnd::default());
    accept(&store, &of("one", 1)).await;
    let older = store.claim(LONG).await.unwrap().unwrap();
    store.stage_started(&older.lease, Stage::Clone, b"x").await.unwrap();
    let (second, _) = accept(&store, &of("one", 2)).await;
    assert_eq!(store.give_way(&older.lease, &seen).await.unwrap(), Some(Outcome::Superseded));
    assert_eq!(store.cancel(second).await.unwrap(), Some(State::Running));
    let claim = store.claim(LONG).await.unwrap().unwrap();
    assert_eq!((claim.lease.deployment, claim.boundary), (second, Boundary::Cancelled));
    assert!(store.history(&claim.lease).await.unwrap().unsettled);
    let settled = StageEnd { settled: true, ..seen.clone() };
    assert_eq!(store.finish(&claim.lease, &End::Cancelled, &settled).await.unwrap(), Outcome::Cancelled);
    let (third, _) = accept(&store, &of("one", 3)).await;
    assert_eq!(store.cancel(third).await.unwrap(), Some(State::Pending), "nothing is left");

    // As long as somebody is at it, it's theirs; and what was to give way goes on.
    accept(&store, &of("one", 4)).await;
    let running = store.claim(LONG).await.unwrap().unwrap().lease;
    store.stage_started(&running, Stage::Clone, b"x").await.unwrap();
    let (fifth, _) = accept(&store, &of("one", 5)).await;
    assert_eq!(store.stage_started(&running, Stage::Env, b"x").await.unwrap(), Boundary::Superseded(fifth));
    assert_eq!(store.cancel(fifth).await.unwrap(), Some(State::Pending));
    assert_eq!(store.give_way(&running, &seen).await.unwrap(), None, "the newer one was called off meanwhile");
    assert_eq!(store.stage_started(&running, Stage::Env, b"x").await.unwrap(), Boundary::GoOn);
    store.finish(&running, &End::Succeeded { url: None }, &seen).await.unwrap();
    let (sixth, _) = accept(&store, &of("one", 6)).await;
    assert_eq!(store.cancel(sixth).await.unwrap(), Some(State::Pending), "success leaves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_touched_on_another_server_than_the_newer_requests_is_settled_before_the_end() {
    let (_database, store) = Database::migrated("w").await;
    let of = project();
    // One that waits for its next attempt, one whose worker stops.
    for (sequence, waits) in [(1, true), (3, false)] {
        let (older, _) = accept(&store, &of("one", sequence)).await;
        let claim = store.claim(LONG).await.unwrap().unwrap();
        store.stage_started(&claim.lease, Stage::Clone, b"x").await.unwrap();
        if waits {
            store.retry(&claim.lease, failure(), LONG).await.unwrap();
        }
        let (newer, _) = accept(&store, &of("two", sequence + 1)).await;
        if !waits {
            assert_eq!(store.interrupt(&claim.lease, 10).await.unwrap(), Interrupted::Released);
        }
        let claims = [store.claim(LONG).await.unwrap().unwrap(), store.claim(LONG).await.unwrap().unwrap()];
        let settling = claims.iter().find(|claim| claim.lease.deployment == older).unwrap();
        assert_eq!(settling.boundary, Boundary::Superseded(newer));
        assert!(!store.takes_over(newer, &settling.lease).await.unwrap());
        let settled = StageEnd { settled: true, ..StageEnd::default() };
        assert_eq!(store.give_way(&settling.lease, &settled).await.unwrap(), Some(Outcome::Superseded));
        let newer = claims.iter().find(|claim| claim.lease.deployment == newer).unwrap();
        store.finish(&newer.lease, &End::Cancelled, &settled).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plaintext_secret_stays_in_no_table_once_its_dead_letter_is_published() {
    let (database, store) = Database::migrated("w").await;
    let body = request(|e| e["data"]["secrets"] = serde_json::json!({ "API_TOKEN": "s3cret-value" }));
    let incoming = incoming(&body);
    let rejection = decode(&body, &incoming.metadata()).unwrap_err();
    let failure = Failure::new(rejection.code, None, rejection.message);
    let refusal = Refusal { failure, known: *rejection.known, withhold: true };
    assert!(store.refuse(&refusal, &incoming).await.unwrap());
    assert!(!store.refuse(&refusal, &incoming).await.unwrap(), "its duplicate is recognised");
    let waiting = store.waiting_messages(&[], 10, u32::MAX).await.unwrap().rows;
    let letter = waiting.iter().find(|row| row.message.exchange == "slipway.dead-letters").unwrap();
    assert_eq!(letter.message.body, body);
    assert_eq!(letter.message.headers["dlq-error-code"], "plaintext-secret");
    let lease = store.lease_relay(None, LONG).await.unwrap().unwrap();
    let sent: Vec<_> =
        waiting.iter().map(|row| slipway_worker::store::Sent { position: row.position, routed: true }).collect();
    store.mark_published(lease, &sent).await.unwrap();
    for table in ["deployments", "outbox", "dead_letters", "stage_journal"] {
        let found = format!(
            "SELECT count(*) FROM {table} t WHERE t::text LIKE '%s3cret-value%' \
             OR t::text LIKE '%' || encode('s3cret-value', 'hex') || '%'"
        );
        assert_eq!(database.count(&found).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relays_lease_has_one_holder_and_a_stale_one_marks_nothing() {
    let (_database, first) = Database::migrated("a").await;
    let second = first.clone();
    let old = first.lease_relay(None, Duration::from_millis(50)).await.unwrap().unwrap();
    eventually("the second takes over", || async { second.lease_relay(None, LONG).await.unwrap().is_some() }).await;
    assert_eq!(first.lease_relay(Some(old), LONG).await.unwrap(), None);
    let marked = first.mark_published(old, &[]).await;
    assert!(matches!(marked, Err(StoreError::LeaseLost)), "{marked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_dead_letter_counts_its_replays() {
    let (_database, store) = Database::migrated("w").await;
    let claim = claimed(&store).await;
    store.finish(&claim.lease, &ended_failed(), &StageEnd::default()).await.unwrap();
    let letter = store.dead_letter(claim.lease.deployment.0).await.unwrap().unwrap();
    assert_eq!(letter.replay_count, 0);
    let only = DeadLetterFilter { ids: vec![letter.id], ..DeadLetterFilter::default() };
    let ada = Operator { who: "ada".to_owned(), why: None };
    let replay = store.replay_dead_letters(&only, Replay::default(), &ada, 10).await.unwrap()[0].replay;
    assert!(store.replay_dead_letters(&only, Replay::default(), &ada, 10).await.unwrap().is_empty(), "only once");
    let rows = store.waiting_messages(&[], 100, u32::MAX).await.unwrap().rows;
    let sent = rows.into_iter().find(|row| row.message.exchange == "slipway.requests").unwrap().message;
    assert_eq!(Some(&sent.body), letter.body.as_ref());
    let again = slipway_worker::message::Incoming { headers: sent.headers, ..incoming(&sent.body) };
    let replayed = decode(&again.body, &again.metadata()).unwrap();
    assert_eq!(replayed.replay, Some(replay));
    assert_eq!(store.accept(&replayed, &again).await.unwrap(), Accepted::New);
    let claim = store.claim(LONG).await.unwrap().unwrap();
    store.finish(&claim.lease, &ended_failed(), &StageEnd::default()).await.unwrap();
    let second = store.dead_letter(claim.lease.deployment.0).await.unwrap().unwrap();
    assert_eq!(second.replay_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_request_that_can_not_be_read_fails_and_lets_others_pass() {
    let (database, store) = Database::migrated("w").await;
    let (poison, _) = accept(&store, &request(|_| {})).await;
    database.sql.execute("UPDATE deployments SET request = '{}'", &[]).await.unwrap();
    let (healthy, _) = accept(&store, &request(|_| {})).await;
    assert_eq!(store.claim(LONG).await.unwrap(), None);
    assert_eq!(state(&store, poison).await, State::Ended(Outcome::Failed));
    assert_eq!(store.claim(LONG).await.unwrap().unwrap().lease.deployment, healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_can_not_be_read_stands_in_nobodys_way() {
    let (database, store) = Database::migrated("w").await;
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
    assert_eq!(store.reap(10).await.unwrap(), Some((healthy, Interrupted::Released)));
    assert_eq!(store.reap(10).await.unwrap(), None);
    // Their server is dead: the others are given up.
    let dead = "UPDATE deployments SET state = 'pending', accepted_at = now() - interval '2 h';
                INSERT INTO server_circuits SELECT DISTINCT server, 3, now() - interval '2 h', now() + interval '1 h'
                    FROM deployments";
    database.sql.batch_execute(dead).await.unwrap();
    let limits = slipway_worker::scheduler::Limits::default();
    assert_eq!(store.give_up(&limits).await.unwrap(), Some(healthy));
    assert_eq!(store.give_up(&limits).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_a_deployment_that_has_ended_is_kept_by_its_dead_letter_alone() {
    let (database, store) = Database::migrated("w").await;
    let kept = "SELECT count(*) FROM deployments WHERE body IS NOT NULL OR headers <> '{}'";
    for end in [ended_failed(), End::Succeeded { url: None }] {
        let body = request(|_| {});
        let incoming = slipway_worker::message::Incoming {
            headers: [("tenant".to_owned(), "a".to_owned())].into(),
            ..incoming(&body)
        };
        let request = decode(&body, &incoming.metadata()).unwrap();
        store.accept(&request, &incoming).await.unwrap();
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!(database.count(kept).await, 1);
        store.finish(&claim.lease, &end, &StageEnd::default()).await.unwrap();
        assert_eq!(database.count(kept).await, 0);
        let letter = store.dead_letter(claim.lease.deployment.0).await.unwrap();
        assert_eq!(letter.is_some(), matches!(end, End::Failed { .. }));
        assert!(letter.is_none_or(|l| l.body == Some(body) && l.headers == incoming.headers));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_what_waits_and_stops_what_runs_at_a_boundary() {
    let (_database, store) = Database::migrated("w").await;
    let running = claimed(&store).await.lease;
    let (waiting, _) = accept(&store, &request(|_| {})).await;
    assert_eq!(store.cancel(waiting).await.unwrap(), Some(State::Pending));
    assert_eq!(state(&store, waiting).await, State::Ended(Outcome::Cancelled));
    assert_eq!(store.renew(&running, LONG).await.unwrap(), Course::GoOn);
    assert_eq!(store.cancel(running.deployment).await.unwrap(), Some(State::Running));
    assert_eq!(store.renew(&running, LONG).await.unwrap(), Course::Cancel);
    // It may have touched something: that is put back before it ends.
    assert_eq!(store.retry(&running, failure(), LONG).await.unwrap(), Scheduled::Cancelled);
    assert_eq!(state(&store, running.deployment).await, State::Running);
    assert_eq!(store.stage_started(&running, Stage::Clone, b"x").await.unwrap(), Boundary::Cancelled);
    assert_eq!(store.cancel(DeploymentId::of("a", "b", None)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_outbox_is_bounded_in_bytes_and_says_whether_more_waits() {
    let (database, store) = Database::migrated("w").await;
    let letters = "INSERT INTO outbox (message_id, type, exchange, routing_key, body, must_route)
                   SELECT i::text, '', '', '', convert_to(repeat('x', size), 'UTF8'), true
                   FROM unnest(ARRAY[10, 700, 600, 9000, 1]) WITH ORDINALITY AS l(size, i) ORDER BY i";
    database.sql.execute(letters, &[]).await.unwrap();
    let mut held = Vec::new();
    for (sizes, more) in [(&[10, 700, 600][..], true), (&[9000], true), (&[1], false), (&[], false)] {
        let page = store.waiting_messages(&held, 10, 1000).await.unwrap();
        assert_eq!(page.rows.iter().map(|row| row.message.body.len()).collect::<Vec<_>>(), sizes);
        assert_eq!(page.more, more);
        held.extend(page.rows.iter().map(|row| row.line));
    }
    let page = store.waiting_messages(&[], 2, 1000).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_removed_in_batches_and_wait_for_nobody() {
    const MANY: u64 = 100_000;
    let (database, store) = Database::migrated("w").await;
    let ended = claimed(&store).await.lease;
    store.finish(&ended, &End::Succeeded { url: None }, &StageEnd::default()).await.unwrap();
    let running = claimed(&store).await.lease;
    let old = "INSERT INTO outbox (deployment_id, sequence, message_id, type, exchange, routing_key, body, must_route,
                   published_at)
               SELECT $1, s, s::text, 't', 'e', 'k', 'body', false, now() - interval '40 days'
               FROM generate_series(1000, 999 + $2::bigint) s";
    database.sql.execute(old, &[&ended.deployment.0, &i64::try_from(MANY).unwrap()]).await.unwrap();
    database.sql.execute(old, &[&running.deployment.0, &7_i64]).await.unwrap();
    database
        .sql
        .batch_execute("UPDATE outbox SET published_at = now() WHERE sequence < 1000; ANALYZE outbox")
        .await
        .unwrap();
    let mut other = database.another().await;
    let lock = other.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM outbox WHERE sequence < 1003 AND sequence >= 1000 FOR UPDATE", &[]).await.unwrap();

    let month = Duration::from_secs(30 * 24 * 3600);
    let (mut removed, mut longest) = (0, Duration::ZERO);
    loop {
        let begun = std::time::Instant::now();
        let batch = store.prune_events(month, 5_000).await.unwrap();
        longest = longest.max(begun.elapsed());
        assert!(batch <= 5_000);
        removed += batch;
        if batch == 0 {
            break;
        }
    }
    // Three are locked; a locked row is somebody's work, and a running deployment's events are still read.
    assert_eq!(removed, MANY - 3);
    lock.rollback().await.unwrap();
    assert_eq!(store.prune_events(month, 5_000).await.unwrap(), 3);
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE published_at < now() - interval '30 days'").await, 7);
    assert!(longest < Duration::from_secs(5), "one batch took {longest:?}");
    assert!(store.backlog().await.unwrap().depth == 0);
}
