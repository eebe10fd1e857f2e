//! Claims, leases and fences: one attempt at a time acts on a project, and one that lost its lease writes nothing.

use std::time::Duration;

use slipway_protocol::{Change, ErrorCode, Outcome, ProgressKind, Stage, StageSummary};
use slipway_worker::store::{
    AttemptSummary, Boundary, Claim, DeploymentEnd, InterruptOutcome, StageEnd, State, StoreError,
};

use super::{LONG, accept, claimed, ended_failed, failure, held_back, somebody_waits, state};
use crate::services::TestDatabase;
use crate::services::test_worker::{eventually, request};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_at_once_one_gets_the_project() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let project = serde_json::json!({ "id": uuid::Uuid::new_v4(), "slug": "shop" });
    let of_project = || request(|e| e["data"]["project"] = project.clone());
    accept(&store, &of_project()).await;
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
    accept(&store, &of_project()).await;
    assert_eq!(store.claim(LONG).await.unwrap(), None, "the project is held");
    store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
    let next = store.claim(LONG).await.unwrap().unwrap();
    assert_ne!(next.lease.deployment, claim.lease.deployment);
    assert!(next.lease.fence > claim.lease.fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_writes_nothing() {
    let (database, store) = TestDatabase::migrated("w").await;
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
        store
            .stage_finished(
                lease,
                StageEnd { summary: &summary, facts: &facts, digests: Some((project, &digests)) },
                None,
            )
            .await
            .unwrap_err(),
        store.stage_failed(lease, Stage::Preflight, &failure(), LONG, true).await.unwrap_err(),
        store.record_progress(lease, &[ProgressKind::Interrupted { attempt: 1 }]).await.unwrap_err(),
        store.retry(lease, failure(), LONG).await.unwrap_err(),
        store.interrupt(lease, 10).await.unwrap_err(),
        store.finish(lease, &ended_failed(), &AttemptSummary::default()).await.unwrap_err(),
        store.finish_superseded(lease, &AttemptSummary::default()).await.unwrap_err(),
    ];
    for error in lost {
        assert!(matches!(error, StoreError::LeaseLost), "{error:?}");
    }
    let after: String = database.sql.query_one(snapshot, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_can_not_write_once_another_deployment_holds_the_project() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let project = serde_json::json!({ "id": uuid::Uuid::new_v4(), "slug": "shop" });
    let of_project = || request(|e| e["data"]["project"] = project.clone());
    accept(&store, &of_project()).await;
    let zombie = store.claim(Duration::from_millis(100)).await.unwrap().unwrap();
    accept(&store, &of_project()).await;
    let mut next = None;
    while next.is_none() {
        next = store.claim(LONG).await.unwrap();
    }
    assert_ne!(next.unwrap().lease.deployment, zombie.lease.deployment);
    // Not reaped yet: its own row still says that it runs.
    assert_eq!(state(&store, zombie.lease.deployment).await, State::Running);
    let finished =
        store.finish(&zombie.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await;
    assert!(matches!(finished, Err(StoreError::LeaseLost)), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_grow_with_every_claim_and_are_never_behind_the_clock() {
    let (database, store) = TestDatabase::migrated("w").await;
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
    let (_database, store) = TestDatabase::migrated("w").await;
    let claim = claimed(&store).await;
    store.renew(&claim.lease, LONG).await.unwrap();
    assert_eq!(store.reap(10).await.unwrap(), None);
    assert_eq!(state(&store, claim.lease.deployment).await, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_comes_late_does_not_revive_a_lease_that_was_given_back() {
    let (database, store) = TestDatabase::migrated("w").await;
    let lease = claimed(&store).await.lease;
    let gate = held_back(&database, "project_leases", "%cancel_requested_at%").await;
    let late = tokio::spawn({
        let (store, lease) = (store.clone(), lease.clone());
        async move { store.renew(&lease, LONG).await }
    });
    somebody_waits(&database).await;
    store.finish(&lease, &ended_failed(), &AttemptSummary::default()).await.unwrap();
    drop(gate);
    let renewed = late.await.unwrap();
    assert!(matches!(renewed, Err(StoreError::LeaseLost)), "{renewed:?}");
    assert_eq!(database.count("SELECT count(*) FROM project_leases WHERE expires_at > now()").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_costs_no_attempt_but_ten_are_the_limit() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let (id, _) = accept(&store, &request(|_| {})).await;
    for interruption in 1..=11 {
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!(claim.attempt, 1);
        let became = store.interrupt(&claim.lease, 10).await.unwrap();
        let expected =
            if interruption <= 10 { InterruptOutcome::Released } else { InterruptOutcome::Ended(Outcome::Failed) };
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
async fn interrupted_too_often_it_is_claimed_once_more_if_something_is_to_be_restored() {
    let (_database, store) = TestDatabase::migrated("w").await;
    for cancelled in [false, true] {
        let (id, _) = accept(&store, &request(|_| {})).await;
        let claim = store.claim(LONG).await.unwrap().unwrap();
        store.stage_started(&claim.lease, Stage::Clone, b"x").await.unwrap();
        assert_eq!(store.interrupt(&claim.lease, 0).await.unwrap(), InterruptOutcome::Released);
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!((claim.attempt, claim.interruptions), (1, 1));
        if cancelled {
            store.cancel(id).await.unwrap();
        }
        let outcome = if cancelled { Outcome::Cancelled } else { Outcome::Failed };
        assert_eq!(store.interrupt(&claim.lease, 0).await.unwrap(), InterruptOutcome::Ended(outcome), "but no oftener");
        assert_eq!(state(&store, id).await, State::Ended(outcome));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answer_was_lost_is_written_once_and_answered_again() {
    let (database, store) = TestDatabase::migrated("w").await;
    let Claim { lease, .. } = claimed(&store).await;
    for _ in 0..2 {
        assert_eq!(store.finish(&lease, &ended_failed(), &AttemptSummary::default()).await.unwrap(), Outcome::Failed);
        assert_eq!(store.finish_superseded(&lease, &AttemptSummary::default()).await.unwrap(), Some(Outcome::Failed));
    }
    let results = "SELECT count(*) FROM outbox WHERE type = 'slipway.deployment.result.v1'";
    assert_eq!(database.count(results).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deployment_that_the_database_fails_at_keeps_no_other_from_its_turn() {
    is_left_out("RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deployment_that_ends_each_connection_keeps_no_other_from_its_turn() {
    is_left_out("PERFORM pg_terminate_backend(pg_backend_pid())", 8).await;
}

/// A deployment at which the database fails by `end` is left out after at most so many failures.
async fn is_left_out(end: &str, most: u32) {
    let (database, store) = TestDatabase::migrated("w").await;
    let slugged = |slug: &'static str| request(move |event| event["data"]["project"]["slug"] = slug.into());
    let (poison, _) = accept(&store, &slugged("poison")).await;
    let (other, _) = accept(&store, &slugged("other")).await;
    let fail = format!(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {end}; RETURN NEW; END $$;
         CREATE TRIGGER poison BEFORE UPDATE ON deployments FOR EACH ROW WHEN (NEW.project_slug = 'poison')
         EXECUTE FUNCTION poison()"
    );
    database.sql.batch_execute(&fail).await.unwrap();
    let (mut failures, mut claimed) = (0, Vec::new());
    loop {
        match store.claim(LONG).await {
            Ok(Some(claim)) => claimed.push(claim.lease.deployment),
            Ok(None) => break,
            Err(error) => {
                failures += 1;
                assert!(failures <= most, "{failures} failures, the last one: {error:?}");
            }
        }
    }
    assert_eq!((claimed, failures > 0), (vec![other], true), "the other one is left out for now");

    database.sql.batch_execute("DROP TRIGGER poison ON deployments").await.unwrap();
    let begin = format!("UPDATE deployments SET state = 'running', owner = 'dead', fence = 1 WHERE id = '{poison}'");
    database.sql.batch_execute(&begin).await.unwrap();
    database.sql.batch_execute("UPDATE project_leases SET expires_at = now()").await.unwrap();
    let (reaped, _) = store.reap(10).await.unwrap().unwrap();
    assert_eq!((reaped, store.reap(10).await.unwrap()), (other, None));
}
