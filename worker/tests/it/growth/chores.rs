//! What workers do beside deployments, on a database with a long history: looks at branches, turns of the fleet, pruning.

use serde_json::json;
use slipway_deploy::github::PushRuns;
use slipway_protocol::decode;
use slipway_worker::store::{
    BranchSeen, FleetTurn, LookOutcome, OldRows, Retention, Store, WalkPosition, WebhookDelivery,
};
use uuid::Uuid;

use std::time::Duration;

use super::wrap::{ok, quick};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub async fn pushes(store: &Store, database: &TestDatabase) {
    // The busy project's pushes are deployed by Slipway from now on.
    let id: Uuid = database.sql.query_one("SELECT md5('project 0')::uuid", &[]).await.unwrap().get(0);
    let body = request(|e| {
        e["data"]["project"] = json!({ "id": id, "slug": "p0" });
        e["data"]["server"]["handle"] = "s0".into();
        e["data"]["repository"]["name"] = "acme/p0".into();
        e["data"]["repository"]["pushes_deployed_by"] = "webhook".into();
        e["data"].as_object_mut().unwrap().remove("sequence");
    });
    let metadata = incoming(&body);
    ok(store.accept(&decode(&body, &metadata.metadata()).unwrap(), &metadata).await);
    let delivery = WebhookDelivery {
        id: "x",
        signature: "x",
        event: "push",
        action: None,
        repository: Some("acme/p0"),
        branch: None,
    };
    ok(quick("a webhook", store.take_delivery(&delivery)).await);
    let look = ok(quick("the next look", store.next_look()).await).expect("the branch is due");
    let seen = BranchSeen { head: "c".repeat(40).parse().unwrap(), etag: None, runs: Some(PushRuns::Succeeded) };
    let outcome = ok(quick("a look", store.finish_look(&look, &seen, DAY)).await);
    assert!(matches!(outcome, LookOutcome::Deployed(..)), "{outcome:?}");
    ok(store.watched_branches().await);
    ok(store.branch_counts(3, DAY, DAY).await);
    ok(store.catch_up(DAY).await);
}

pub async fn fleet(store: &Store) {
    for _ in 0..8 {
        ok(quick("a turn", store.take_turn("1", Duration::from_millis(1))).await);
    }
    assert!(store.takes_writes().await);
    let expired = FleetTurn { expires_in: Some(Duration::ZERO), ..FleetTurn::default() };
    let _ = tokio::time::timeout(Duration::from_millis(300), store.follow_turn(expired, Duration::from_secs(1))).await;
    ok(store.workers().await);
}

/// All at an age that everything has reached, in small batches: what each of their rows costs is bounded as a statement is.
pub async fn prune(store: &Store, database: &TestDatabase) {
    const BATCH: u32 = 5;
    let busy: Uuid = database.sql.query_one("SELECT md5('project 0')::uuid", &[]).await.unwrap().get(0);
    let at_the_busy = json!({ "project": busy, "server": "", "slug": "", "action": "", "end": "", "arrival": 0 });
    let keep = Retention {
        secrets: Duration::ZERO,
        journal: Duration::ZERO,
        deployments: Duration::ZERO,
        events: Duration::ZERO,
        dead_letters: Duration::ZERO,
        dead_letter_messages: Duration::ZERO,
        audit: Duration::ZERO,
        ids: Duration::ZERO,
        versions: 10,
    };
    ok(store.dead_letter_age(&[Uuid::new_v4()]).await);
    let journals = Retention { deployments: 9 * DAY, ..keep };
    for keep in [journals, keep] {
        let (mut from, mut changed): (WalkPosition, _) = (serde_json::from_value(at_the_busy.clone()).unwrap(), 0);
        for _ in 0..10 {
            let step = ok(quick("a step of the walk", store.prune_deployments(&keep, &from, BATCH)).await);
            changed += step.changed;
            let Some(next) = step.next else { break };
            from = next;
        }
        assert!(changed > 0, "nothing was pruned");
    }
    for rows in OldRows::ALL {
        ok(quick(rows.as_str(), store.prune_old(rows, Duration::ZERO, BATCH)).await);
    } // All of a project that is nowhere, with what is known of it.
    let forgotten = Uuid::new_v4();
    let row = "INSERT INTO deployments (id, source, event_id, project_id, project_slug, repository, commit_sha, server, request,
                   state, action, started_at, finished_at)
               VALUES ($1, '/forgotten', '', $1, 'forgotten', 'acme/forgotten', '', 's1', '{}', 'failed', 'deploy', now(), now())";
    database.sql.execute(row, &[&forgotten]).await.unwrap();
    let its = json!({ "project": forgotten, "server": "", "slug": "", "action": "", "end": "", "arrival": 0 });
    let from: WalkPosition = serde_json::from_value(its).unwrap();
    ok(quick("a forgotten project", store.prune_deployments(&keep, &from, BATCH)).await);
    let left = format!("SELECT count(*) FROM project_places WHERE project_id = '{forgotten}'");
    assert_eq!(database.count(&left).await, 0);
}
