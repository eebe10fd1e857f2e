//! What is noted of servers' front doors.

use serde_json::{Map, Value, json};
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Change, StageSummary};
use slipway_worker::store::{AttemptWriter, ServerDoor, StageEnd};

use super::*;

fn facts(not_after: &str) -> Value {
    json!({
        "version": "v2.11.4", "image": "docker.io/library/caddy:2", "projects": ["shop"],
        "certificates": [{ "domain": "shop.example.org", "not_after": not_after }],
    })
}

/// A stage that is done under this lease and has told this of the door.
async fn tells(store: &Store, claim: &Claim, stage: Stage, door: Option<Value>) {
    let summary = StageSummary { stage, change: Change::Unchanged, duration_ms: 1 };
    let facts: Map<String, Value> = door.into_iter().map(|door| ("front_door".to_owned(), door)).collect();
    let end = StageEnd { summary: &summary, facts: &facts, digests: None };
    store.stage_started(&claim.lease, stage, b"x").await.unwrap();
    match stage {
        Stage::Preflight => store.stage_finished(&claim.lease, end, None).await.unwrap(),
        _ => AttemptWriter::new(store.clone()).stage_finished(&claim.lease, end, None).await.unwrap(),
    };
}

async fn only(store: &Store) -> ServerDoor {
    let [door] = <[ServerDoor; 1]>::try_from(store.front_doors().await.unwrap()).unwrap();
    assert_eq!(store.front_door(&door.server).await.unwrap().as_ref(), Some(&door));
    door
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stages_tell_of_a_door_is_kept_with_its_age_until_it_is_gone() {
    let (database, store) = TestDatabase::migrated("w").await;
    let claim = claimed(&store).await;
    tells(&store, &claim, Stage::Preflight, None).await;
    assert_eq!(store.front_doors().await.unwrap(), []);
    tells(&store, &claim, Stage::Compose, Some(facts("2026-12-01T00:00:00Z"))).await;
    let door = only(&store).await;
    let seen = door.facts.as_ref().unwrap();
    assert_eq!(
        (door.server.as_str(), seen.version.as_str(), &seen.projects[..]),
        ("vps-267179", "v2.11.4", &["shop".to_owned()][..])
    );
    assert_eq!(seen.certificates[0].not_after, "2026-12-01T00:00:00Z".parse().unwrap());
    assert!(door.problem.is_none() && door.seen_at.is_some());

    // The same within a minute isn't written again, and something else is.
    let age = "UPDATE front_doors SET seen_at = now() - interval '10 seconds'";
    database.sql.execute(age, &[]).await.unwrap();
    let before = only(&store).await.seen_at;
    store.record_front_door(&door.server, &facts("2026-12-01T00:00:00Z")).await.unwrap();
    assert_eq!(only(&store).await.seen_at, before);
    store.record_front_door(&door.server, &facts("2027-03-01T00:00:00Z")).await.unwrap();
    assert!(only(&store).await.seen_at > before);
    // What this version can't read is shown as nothing, and holds nothing up.
    store.record_front_door(&door.server, &json!({ "version": 3 })).await.unwrap();
    assert_eq!(only(&store).await.facts, None);
    store.record_front_door(&door.server, &Value::Null).await.unwrap();
    assert_eq!(store.front_doors().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_fails_is_noted_until_somebody_sees_it_work() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let claim = claimed(&store).await;
    let server = ServerHandle::new("vps-267179").unwrap();
    let fails = async |code, stage, message: &str| {
        let failure = Failure::new(code, Some(stage), message);
        store.stage_started(&claim.lease, stage, b"x").await.unwrap();
        store.stage_failed(&claim.lease, stage, &failure, Duration::ZERO, true).await.unwrap();
    };
    fails(ErrorCode::PortOccupied, Stage::Preflight, "port 8080 is held").await;
    assert_eq!(store.front_door(&server).await.unwrap(), None);
    fails(ErrorCode::FrontDoorFailed, Stage::Env, "port 443 is held by nginx").await;
    let door = store.front_door(&server).await.unwrap().unwrap();
    let (since, why) = door.problem.unwrap();
    assert_eq!((why.as_str(), door.facts, door.seen_at), ("port 443 is held by nginx", None, None));
    fails(ErrorCode::FrontDoorFailed, Stage::Compose, "it doesn't answer").await;
    assert_eq!(
        store.front_door(&server).await.unwrap().unwrap().problem,
        Some((since, "it doesn't answer".to_owned()))
    );
    tells(&store, &claim, Stage::Firewall, Some(facts("2026-12-01T00:00:00Z"))).await;
    assert_eq!(store.front_door(&server).await.unwrap().unwrap().problem, None);
}
