//! Which of a project's requests goes on: the latest, once what the others touched is seen to.

use slipway_protocol::{DeploymentId, Outcome, Stage, decode};
use slipway_worker::store::{
    Admission, AttemptSummary, Boundary, DeploymentEnd, InterruptOutcome, PlainRequest, RenewOutcome, RetryOutcome,
    State,
};

use super::{LONG, accept, claimed, failure, state};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_request_wins() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let of = project();
    let at = |sequence| of("one", sequence);
    let (second, _) = accept(&store, &at(2)).await;
    let running = store.claim(LONG).await.unwrap().unwrap();
    let (fourth, _) = accept(&store, &at(4)).await;
    let (third, verdict) = accept(&store, &at(3)).await;
    assert_eq!(verdict, Admission::Superseded(fourth));
    assert_eq!(state(&store, third).await, State::Ended(Outcome::Superseded));
    let (fifth, verdict) = accept(&store, &at(5)).await;
    assert_eq!(verdict, Admission::New);
    let superseded = store.deployment(fourth).await.unwrap().unwrap();
    assert_eq!(superseded.state, State::Ended(Outcome::Superseded));
    assert_eq!(superseded.result.unwrap().superseded_by, Some(fifth));
    assert_eq!(store.dead_letter(fourth.0).await.unwrap(), None);
    // The running one stops at its next boundary.
    assert_eq!(running.lease.deployment, second);
    let boundary = store.stage_started(&running.lease, Stage::Clone, b"x").await.unwrap();
    assert_eq!(boundary, Boundary::Superseded(fifth));
    assert_eq!(store.retry(&running.lease, failure(), LONG).await.unwrap(), RetryOutcome::Superseded(fifth));
    assert_eq!(
        store.finish_superseded(&running.lease, &AttemptSummary::default()).await.unwrap(),
        Some(Outcome::Superseded)
    );
    assert_eq!(state(&store, second).await, State::Ended(Outcome::Superseded));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_that_it_comes_from_the_future_is_no_newer_than_what_comes_after_it() {
    let (database, store) = TestDatabase::migrated("w").await;
    for alone in [true, false] {
        let id = uuid::Uuid::new_v4().to_string();
        let of = |time: Option<&str>| {
            request(|e| {
                e["data"]["project"] = serde_json::json!({ "id": id, "slug": format!("shop-{}", &id[..4]) });
                e["data"]["repository"]["name"] = format!("acme/{}", &id[..4]).into();
                e["time"] = time.into();
            })
        };
        let body = of(Some("2099-01-01T00:00:00Z"));
        let incoming = incoming(&body);
        let request = decode(&body, &incoming.metadata()).unwrap();
        if alone {
            assert_eq!(store.accept(&request, &incoming).await.unwrap(), Admission::New);
        } else {
            let plain = PlainRequest { request: &request, incoming: &incoming, traceparent: None };
            assert_eq!(store.accept_plain(&[plain], |_, _, _| true).await.unwrap(), [true]);
        }
        let (later, verdict) = accept(&store, &of(None)).await;
        assert_eq!(verdict, Admission::New, "alone: {alone}");
        let earlier = store.deployment(request.deployment_id()).await.unwrap().unwrap();
        assert_eq!(earlier.result.unwrap().superseded_by, Some(later));
    }
    assert_eq!(database.count("SELECT count(*) FROM deployments WHERE event_time > now()").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_interrupted_deployment_has_ended_unless_it_is_to_be_restored() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let of = project();
    let at = |sequence| of("one", sequence);
    let (first, _) = accept(&store, &at(1)).await;
    let claim = store.claim(LONG).await.unwrap().unwrap();
    let (second, _) = accept(&store, &at(2)).await;
    assert_eq!(store.interrupt(&claim.lease, 10).await.unwrap(), InterruptOutcome::Ended(Outcome::Superseded));
    let ended = store.deployment(first).await.unwrap().unwrap();
    assert_eq!(ended.state, State::Ended(Outcome::Superseded));
    assert_eq!(ended.result.unwrap().superseded_by, Some(second));

    let claim = store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(claim.lease.deployment, second);
    let (third, _) = accept(&store, &at(3)).await;
    store.cancel(second).await.unwrap();
    assert_eq!(store.interrupt(&claim.lease, 10).await.unwrap(), InterruptOutcome::Released);
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
    let (_database, store) = TestDatabase::migrated("w").await;
    let (of, seen) = (project(), AttemptSummary::default());
    accept(&store, &of("one", 1)).await;
    let older = store.claim(LONG).await.unwrap().unwrap();
    store.stage_started(&older.lease, Stage::Clone, b"x").await.unwrap();
    let (second, _) = accept(&store, &of("one", 2)).await;
    assert_eq!(store.finish_superseded(&older.lease, &seen).await.unwrap(), Some(Outcome::Superseded));
    assert_eq!(store.cancel(second).await.unwrap(), Some(State::Running));
    let claim = store.claim(LONG).await.unwrap().unwrap();
    assert_eq!((claim.lease.deployment, claim.boundary), (second, Boundary::Cancelled));
    assert!(claim.history.unproven);
    let restored = AttemptSummary { restored: true, ..seen.clone() };
    assert_eq!(store.finish(&claim.lease, &DeploymentEnd::Cancelled, &restored).await.unwrap(), Outcome::Cancelled);
    let (third, _) = accept(&store, &of("one", 3)).await;
    assert_eq!(store.cancel(third).await.unwrap(), Some(State::Pending), "nothing is left");

    // As long as somebody is at it, it's theirs; and what was to give way goes on.
    accept(&store, &of("one", 4)).await;
    let running = store.claim(LONG).await.unwrap().unwrap().lease;
    store.stage_started(&running, Stage::Clone, b"x").await.unwrap();
    let (fifth, _) = accept(&store, &of("one", 5)).await;
    assert_eq!(store.stage_started(&running, Stage::Env, b"x").await.unwrap(), Boundary::Superseded(fifth));
    assert_eq!(store.cancel(fifth).await.unwrap(), Some(State::Pending));
    assert_eq!(store.finish_superseded(&running, &seen).await.unwrap(), None, "the newer one was called off meanwhile");
    assert_eq!(store.stage_started(&running, Stage::Env, b"x").await.unwrap(), Boundary::GoOn);
    store.finish(&running, &DeploymentEnd::Succeeded { url: None }, &seen).await.unwrap();
    let (sixth, _) = accept(&store, &of("one", 6)).await;
    assert_eq!(store.cancel(sixth).await.unwrap(), Some(State::Pending), "success leaves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_touched_on_another_server_than_the_newer_one_is_restored_before_the_end() {
    let (_database, store) = TestDatabase::migrated("w").await;
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
            assert_eq!(store.interrupt(&claim.lease, 10).await.unwrap(), InterruptOutcome::Released);
        }
        let claims = [store.claim(LONG).await.unwrap().unwrap(), store.claim(LONG).await.unwrap().unwrap()];
        let settling = claims.iter().find(|claim| claim.lease.deployment == older).unwrap();
        assert_eq!(settling.boundary, Boundary::Superseded(newer));
        assert!(!store.takes_over(newer, &settling.lease).await.unwrap());
        let restored = AttemptSummary { restored: true, ..AttemptSummary::default() };
        assert_eq!(store.finish_superseded(&settling.lease, &restored).await.unwrap(), Some(Outcome::Superseded));
        let newer = claims.iter().find(|claim| claim.lease.deployment == newer).unwrap();
        store.finish(&newer.lease, &DeploymentEnd::Cancelled, &restored).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_what_waits_and_stops_what_runs_at_a_boundary() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let running = claimed(&store).await.lease;
    let (waiting, _) = accept(&store, &request(|_| {})).await;
    assert_eq!(store.cancel(waiting).await.unwrap(), Some(State::Pending));
    assert_eq!(state(&store, waiting).await, State::Ended(Outcome::Cancelled));
    assert_eq!(store.renew(&running, LONG).await.unwrap(), RenewOutcome::GoOn);
    assert_eq!(store.cancel(running.deployment).await.unwrap(), Some(State::Running));
    assert_eq!(store.renew(&running, LONG).await.unwrap(), RenewOutcome::Cancel);
    // It may have touched something: that is put back before it ends.
    assert_eq!(store.retry(&running, failure(), LONG).await.unwrap(), RetryOutcome::Cancelled);
    assert_eq!(state(&store, running.deployment).await, State::Running);
    assert_eq!(store.stage_started(&running, Stage::Clone, b"x").await.unwrap(), Boundary::Cancelled);
    assert_eq!(store.cancel(DeploymentId::of("a", "b", None)).await.unwrap(), None);
}
