//! What operators ask for, and the relay, on a database with a long history.

use serde_json::json;
use slipway_protocol::{DeploymentId, Outcome, decode};
use slipway_worker::store::{
    AuditFilter, BlamedMessage, DeadLetterFilter, DeadLetterState, DeploymentFilter, Operator, OperatorAction,
    OrderingKey, PublishOutcome, Replay, State, Store,
};
use uuid::Uuid;

use std::time::Duration;

use super::wrap::{ok, quick};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

const LONG: Duration = Duration::from_secs(60);

pub async fn look(store: &Store, database: &TestDatabase) {
    let filter = |state: Option<State>, project: Option<&str>, server: Option<&str>| DeploymentFilter {
        state,
        project: project.map(str::to_owned),
        server: server.map(str::to_owned),
        before: None,
    };
    let [failed, succeeded, rare] = [Outcome::Failed, Outcome::Succeeded, Outcome::MissingSecret].map(State::Ended);
    let filters = [
        filter(None, None, None),
        filter(Some(State::Pending), None, None),
        filter(Some(failed), None, None),
        filter(Some(rare), None, None),
        filter(None, Some("p0"), None),
        filter(None, Some("p0"), Some("s0")),
        filter(None, Some("p0"), Some("s7")),
        filter(Some(rare), Some("p0"), None),
        filter(Some(failed), Some("p0"), None),
        filter(Some(State::Pending), Some("p0"), None),
        filter(Some(succeeded), Some("p0"), Some("s0")),
        filter(None, Some("p7"), None),
        filter(Some(failed), Some("p7"), Some("s7")),
        filter(Some(State::Running), None, Some("s7")),
        filter(None, None, Some("s7")),
        filter(Some(rare), None, Some("s0")),
    ];
    for filter in filters {
        let first = ok(quick(&format!("{filter:?}"), store.deployments(&filter, 20)).await);
        let Some(last) = first.last() else { continue };
        let next = DeploymentFilter { before: Some(last.id), ..filter };
        let second = ok(quick(&format!("{next:?}"), store.deployments(&next, 20)).await);
        assert!(second.iter().all(|d| d.accepted_at <= last.accepted_at && !first.contains(d)), "{next:?}");
    }
    let some: Uuid = database.sql.query_one("SELECT md5('deployment 777')::uuid", &[]).await.unwrap().get(0);
    assert!(ok(quick("a prefix", store.deployments_like(&some.to_string()[..9])).await).contains(&DeploymentId(some)));
    ok(store.deployment(DeploymentId(some)).await).unwrap();
    ok(store.journal(DeploymentId(some)).await);
    ok(store.events(DeploymentId(some), 0).await);
    ok(store.deployment_subject(DeploymentId(some)).await);
    let slug = "p0".parse().unwrap();
    let called = ok(quick("projects_called", store.projects_called(&slug)).await);
    ok(store.project_subject(called[0].id).await);
    for place in ok(quick("places", store.places(&slug)).await) {
        ok(quick("versions", store.versions(&place.project, &place.server, 100)).await);
    }
    ok(quick("counts", store.counts()).await);
    for filter in [
        AuditFilter::default(),
        AuditFilter { who: Some("ada".to_owned()), subject: Some("x".to_owned()), ..AuditFilter::default() },
        AuditFilter { dead_letter: Some(some), ..AuditFilter::default() },
    ] {
        ok(store.audit(&filter, 20).await);
    }
}

pub async fn replay(store: &Store, operator: &Operator) {
    let open = DeadLetterFilter { state: Some(DeadLetterState::Open), ..DeadLetterFilter::default() };
    let text = |value: &str| Some(value.to_owned());
    let filters = [
        DeadLetterFilter::default(),
        open.clone(),
        DeadLetterFilter { code: text("no-such"), ..DeadLetterFilter::default() },
        DeadLetterFilter { code: text("crash-loop"), ..open.clone() },
        DeadLetterFilter { project: text("p7"), ..DeadLetterFilter::default() },
        DeadLetterFilter { stage: text("env"), ..DeadLetterFilter::default() },
        DeadLetterFilter { class: text("engine"), ..DeadLetterFilter::default() },
    ];
    for filter in &filters {
        let what = format!("{filter:?}");
        ok(quick(&what, store.dead_letters(filter, 20)).await);
        ok(quick(&what, store.dead_letter_ids(filter, 20)).await);
    }
    let latest = DeadLetterFilter { ids: ok(store.dead_letter_ids(&open, 1).await), ..open.clone() };
    for rare in [&filters[2], &filters[4], &latest] {
        let what = format!("{rare:?}");
        ok(quick(&what, store.plan_replay(rare, 20)).await);
        ok(quick(&what, store.replay_dead_letters(rare, Replay::default(), operator, 2)).await);
    }
    let crashed = &filters[3];
    ok(quick("groups", store.dead_letter_groups(crashed, true)).await);
    ok(quick("a dry run", store.plan_replay(crashed, 20)).await);
    let planned = ok(store.plan_replay(crashed, 3).await);
    let behind = DeadLetterFilter { after: planned.last().map(|last| (last.failed_at, last.id)), ..crashed.clone() };
    ok(quick("its next page", store.plan_replay(&behind, 3)).await);
    let sent = ok(quick("a replay", store.replay_dead_letters(crashed, Replay::default(), operator, 2)).await);
    let forced = Replay { force: true, ..Replay::default() };
    let sent =
        sent.into_iter().chain(ok(store.replay_dead_letters(crashed, forced, operator, 2).await)).next().unwrap();
    ok(store.sender_of_replay(sent.replay, b"{}").await);
    ok(store.sender_of_edited(sent.replay, "/history").await);
    let one = DeadLetterFilter { ids: ok(store.dead_letter_ids(&open, 1).await), ..DeadLetterFilter::default() };
    let id = one.ids[0];
    ok(store.dead_letters_like(&id.to_string()[..9]).await);
    ok(store.note_dead_letter(id, "x", operator).await);
    ok(store.archive_dead_letters(&one, operator, 9).await);
    ok(store.restore_dead_letters(&one, operator, 9).await);
    ok(store.record_export(&[id], "/tmp/x", operator).await);
    let number = ok(store.record_beforehand(OperatorAction::Submit, "x", operator, &json!({})).await);
    ok(store.record_failure(number, "x").await);
    let body = request(|_| {});
    let edited = decode(&body, &incoming(&body).metadata()).unwrap();
    ok(store.replay_edited(id, &edited, body, true, operator).await);
    // What a replay makes of it when it's accepted.
    let body = request(|e| e["id"] = sent.replay.to_string().into());
    let metadata = incoming(&body);
    ok(store.accept(&decode(&body, &metadata.metadata()).unwrap(), &metadata).await);
}

pub async fn send(store: &Store, operator: &Operator) {
    let lease = ok(quick("the relay's lease", store.take_or_renew_relay_lease(None, LONG)).await).lease.unwrap();
    let page = ok(quick("a page", store.waiting_messages(&[], &[], 100, 1 << 20)).await);
    let held: Vec<OrderingKey> = page.rows.iter().take(2).map(|row| row.ordering_key).collect();
    let known: Vec<i64> = (1..800).map(|number| -number).collect();
    ok(quick("a page beside others", store.waiting_messages(&held, &known, 100, 1 << 20)).await);
    let sent: Vec<PublishOutcome> =
        page.rows.iter().skip(2).map(|row| PublishOutcome { position: row.position, routed: true }).collect();
    let (together, alone) = sent.split_at(sent.len() / 2);
    ok(quick("a mark", store.mark_published(lease, alone)).await);
    ok(quick("a mark and a page", store.mark_and_read(lease, together, &held, &known, 100, 1 << 20)).await);
    let blamed: Vec<BlamedMessage> = page.rows[..2]
        .iter()
        .map(|row| BlamedMessage { position: row.position, reason: "x".to_owned(), hopeless: true })
        .collect();
    ok(store.blame_messages(lease, &blamed).await);
    ok(store.set_aside_messages(10).await);
    ok(store.resend_set_aside(blamed[0].position, operator).await);
    ok(store.drop_set_aside(blamed[1].position, operator).await);
    ok(quick("the backlog", store.backlog()).await);
}
