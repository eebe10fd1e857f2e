//! Which of a project's requests wins, on a real PostgreSQL: whatever they tell about themselves and however they come.

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};
use slipway_protocol::{DeploymentId, ErrorCode, Failure, Outcome, decode};
use slipway_worker::store::{Admission, AttemptSummary, DeadLetterFilter, DeploymentEnd, ReplayVerdict, State, Store};
use uuid::Uuid;

/// A request of `project` with this number and of this second, where it tells them.
fn of(project: Uuid, sequence: Option<u64>, second: Option<i64>) -> Vec<u8> {
    request(|event| {
        event["data"]["project"] =
            serde_json::json!({ "id": project, "slug": format!("p{}", &project.simple().to_string()[..8]) });
        event["data"]["sequence"] = sequence.into();
        event["time"] = second.map(|s| jiff::Timestamp::from_second(1_700_000_000 + s).unwrap().to_string()).into();
        event.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        event["data"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    })
}

async fn accept(store: &Store, body: &[u8]) -> (DeploymentId, Admission) {
    let incoming = incoming(body);
    let request = decode(body, &incoming.metadata()).unwrap();
    (request.deployment_id(), store.accept(&request, &incoming).await.unwrap())
}

async fn is_superseded(store: &Store, id: DeploymentId) -> bool {
    store.deployment(id).await.unwrap().unwrap().state == State::Ended(Outcome::Superseded)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_tell_their_number_only_partly_leave_one_winner_however_they_come() {
    let (_database, store) = TestDatabase::migrated("w").await;
    // Five before six by number, six before the third by time, and the third before five by time.
    let told = [(Some(5), Some(30)), (Some(6), Some(15)), (None, Some(20)), (None, None)];
    for first in 0..4 {
        for second in (0..4).filter(|n| *n != first) {
            for third in (0..4).filter(|n| ![first, second].contains(n)) {
                let (project, last) = (Uuid::new_v4(), 6 - first - second - third);
                let mut open = Vec::new();
                for which in [first, second, third, last] {
                    let (sequence, time) = told[which];
                    let (id, _) = accept(&store, &of(project, sequence, time)).await;
                    open.push(id);
                    let mut left = Vec::new();
                    for id in open {
                        if !is_superseded(&store, id).await {
                            left.push(id);
                        }
                    }
                    open = left;
                    assert_eq!(open.len(), 1, "{first} {second} {third} {last}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_number_stands_behind_what_happened_before_it() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let project = Uuid::new_v4();
    let (seven, _) = accept(&store, &of(project, Some(7), Some(10))).await;
    let (stale, verdict) = accept(&store, &of(project, None, Some(5))).await;
    assert_eq!(verdict, Admission::Superseded(seven), "{stale} happened before");
    let (later, verdict) = accept(&store, &of(project, None, Some(20))).await;
    assert_eq!(verdict, Admission::New);
    assert_eq!(accept(&store, &of(project, Some(6), Some(30))).await.1, Admission::Superseded(later));
    assert_eq!(accept(&store, &of(project, Some(8), Some(25))).await.1, Admission::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_request_is_remembered_behind_any_number_of_stale_ones() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let project = Uuid::new_v4();
    let (newest, _) = accept(&store, &of(project, Some(1000), None)).await;
    let claim = store.claim(std::time::Duration::from_secs(60)).await.unwrap().unwrap();
    store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
    for stale in 0..250 {
        let (_, verdict) = accept(&store, &of(project, Some(stale), None)).await;
        assert_eq!(verdict, Admission::Superseded(newest), "{stale}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_told_what_is_newer_as_the_door_sees_it() {
    let (database, store) = TestDatabase::migrated("w").await;
    let project = Uuid::new_v4();
    let failure = || Failure::new(ErrorCode::PullFailed, None, "the registry hung up");
    let fails = async || {
        let claim = store.claim(std::time::Duration::from_secs(60)).await.unwrap().unwrap();
        let end = DeploymentEnd::Failed { failure: failure(), missing_secret: None, reason: "permanent" };
        store.finish(&claim.lease, &end, &AttemptSummary::default()).await.unwrap();
    };
    let verdicts = async || {
        let planned = store.plan_replay(&DeadLetterFilter::default(), 9).await.unwrap();
        planned.iter().map(|one| (DeploymentId(one.id), one.verdict, one.newer)).collect::<Vec<_>>()
    };
    let (five, _) = accept(&store, &of(project, Some(5), Some(10))).await;
    fails().await;
    assert_eq!(verdicts().await, [(five, ReplayVerdict::Ready, None)]);
    let (unnumbered, _) = accept(&store, &of(project, None, Some(20))).await;
    fails().await;
    // An older worker knows of no place for what has neither number nor time.
    database.sql.execute("UPDATE deployments SET event_time = NULL WHERE id = $1", &[&unnumbered.0]).await.unwrap();
    let expected = [(five, ReplayVerdict::Superseded, Some(unnumbered)), (unnumbered, ReplayVerdict::Ready, None)];
    assert_eq!(verdicts().await, expected);
    let (six, _) = accept(&store, &of(project, Some(6), Some(5))).await;
    let expected = [(five, ReplayVerdict::Superseded, Some(six)), (unnumbered, ReplayVerdict::Superseded, Some(six))];
    assert_eq!(verdicts().await, expected);
}
