//! Halves of requests on a database with a long history: each of the ways in which one is taken in, and what waits.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use slipway_protocol::{CONTENT_TYPE, ErrorCode, Failure, Message, PartialEnvelope, Request, decode, read};
use slipway_worker::message::Incoming;
use slipway_worker::scheduler::Order;
use slipway_worker::store::{ArrivingHalf, HalfOutcome, HalfStep, RefusedMessage, Store};
use uuid::Uuid;

use super::wrap::{ok, quick};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

const LONG: Duration = Duration::from_secs(3600);

fn code(project: &Value) -> Incoming {
    let event = json!({
        "specversion": "1.0", "type": "slipway.engineering.done.v1", "source": "/visits", "id": Uuid::new_v4(),
        "data": {
            "project": project, "modules": ["backend"],
            "repository": { "name": "acme/p0", "commit": "a".repeat(40), "branch": "main" },
        },
    });
    Incoming { content_type: Some(CONTENT_TYPE.to_owned()), ..incoming(event.to_string().as_bytes()) }
}

/// What both halves of the busy project ask for; each time it's another request.
fn whole(project: &Value) -> (Request, Incoming) {
    let body = request(|e| {
        e["data"]["project"] = project.clone();
        e["data"]["server"]["handle"] = "s0".into();
        e["data"]["repository"]["name"] = "acme/p0".into();
        e["data"].as_object_mut().unwrap().remove("sequence");
    });
    let incoming = incoming(&body);
    (decode(&body, &incoming.metadata()).unwrap(), incoming)
}

async fn take(store: &Store, message: &Incoming, step: HalfStep<'_>) -> HalfOutcome {
    let Message::Half(half) = read(&message.body, &message.metadata()).unwrap() else { panic!("no half") };
    let project = half.event.data.project();
    let known = ok(quick("what is known", store.known_halves(project, half.deployment_id())).await);
    assert!(!known.is_duplicate);
    let place = Order { sequence: None, time: Timestamp::now(), arrival: 1 };
    let arriving = ArrivingHalf { request: &half, incoming: message, place, known: &known };
    ok(quick("a half", store.take_half(arriving, step)).await)
}

pub async fn visits(store: &Store, database: &TestDatabase) {
    let id: Uuid = database.sql.query_one("SELECT md5('project 0')::uuid", &[]).await.unwrap().get(0);
    let project = json!({ "id": id, "slug": "p0" });
    let by = slipway_protocol::DeploymentId(id);
    for _ in 0..3 {
        let (request, message) = whole(&project);
        let joins = HalfStep::Joins { request: &request, incoming: &message, unbound_secrets: &[] };
        let outcome = take(store, &code(&project), joins).await;
        assert!(matches!(outcome, HalfOutcome::Joined(_)), "{outcome:?}");
        take(store, &code(&project), HalfStep::Waits(LONG)).await;
        take(store, &code(&project), HalfStep::Unchanged(by)).await;
        take(store, &code(&project), HalfStep::Stale(None)).await;
    }
    let (request, message) = whole(&project);
    let known = PartialEnvelope {
        source: Some("/visits".to_owned()),
        id: Some(request.event.id.clone()),
        project: Some(request.event.data.project.clone()),
        ..PartialEnvelope::default()
    };
    let failure = Failure::new(ErrorCode::InvalidField, None, "x");
    let refusal = RefusedMessage { failure, known, withhold: false };
    take(store, &code(&project), HalfStep::Fails { refusal: &refusal, incoming: &message }).await;

    ok(quick("halves without the other", store.lonely_halves(200)).await);
    let late = "UPDATE project_halves SET waits_until = now() WHERE waits_until < now() + interval '10 minutes'";
    database.sql.execute(late, &[]).await.unwrap();
    let overdue = ok(quick("what is overdue", store.overdue_halves(100)).await);
    assert_eq!(overdue.len(), 100);
    for (project, half) in &overdue[..3] {
        let known = PartialEnvelope {
            source: Some("/visits".to_owned()),
            id: Some(half.id.to_string()),
            ..PartialEnvelope::default()
        };
        let refusal = RefusedMessage { known, ..refusal.clone() };
        assert!(ok(quick("a missing half", store.miss_half(*project, half, &refusal)).await));
    }
    let waits = (Timestamp::now() + 1.hour()).to_string();
    database
        .sql
        .execute("UPDATE project_halves SET waits_until = $1::text::timestamptz WHERE waits_until <= now()", &[&waits])
        .await
        .unwrap();
    ok(quick("forgetting one", store.forget_half(overdue[4].1.id)).await);
}
