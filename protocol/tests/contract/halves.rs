//! The halves of a request to deploy: what they are read as, and the request that they make.

use serde_json::{Value, json};
use slipway_protocol::{
    CloudEvent, DeploymentId, EngineeringDone, ErrorCode, HalfKind, Message, Metadata, ProjectHalf, ProjectReady,
    ResourcesAllocated, decode, join, read,
};

use super::{read_event, sample_of};

fn halves() -> [Value; 2] {
    ["engineering-done", "resources-allocated"].map(sample_of)
}

fn half(event: &Value) -> ProjectHalf {
    match read_event(event) {
        Ok(Message::Half(half)) => half.event.data,
        other => panic!("{other:?}"),
    }
}

fn joined(code: &Value, place: &Value) -> CloudEvent<ProjectReady> {
    let code: CloudEvent<EngineeringDone> = serde_json::from_value(code.clone()).expect("the code");
    let place: CloudEvent<ResourcesAllocated> = serde_json::from_value(place.clone()).expect("the place");
    join(&code, &place)
}

#[test]
fn halves_are_read_as_what_they_tell_in_both_modes() {
    for (event, kind) in halves().iter().zip(HalfKind::ALL) {
        let read_half = half(event);
        assert_eq!(
            (read_half.kind(), read_half.kind().event_type().as_str()),
            (kind, event["type"].as_str().unwrap_or(""))
        );
        assert_eq!(read_half.project().slug.as_str(), "corner-shop");
        assert_eq!(json!(read_half.correlation()), event["data"]["correlation"]);
        let headers = ["specversion", "id", "source", "type"]
            .map(|name| (format!("ce-{name}"), event[name].as_str().expect("text").to_owned()));
        let metadata =
            Metadata { content_type: Some("application/json".to_owned()), headers: headers.into_iter().collect() };
        let Ok(Message::Half(binary)) = read(event["data"].to_string().as_bytes(), &metadata) else {
            panic!("{event}")
        };
        assert_eq!(binary.event.data, read_half);
        let refused = decode(event.to_string().as_bytes(), &Metadata::default()).expect_err("it's half of a request");
        assert_eq!((refused.code, refused.pointer.as_deref()), (ErrorCode::UnsupportedType, Some("/type")));
    }
}

#[test]
fn two_halves_make_the_request_that_would_have_told_everything() {
    let [code, place] = halves();
    let whole = joined(&code, &place);
    let body = serde_json::to_vec(&whole).expect("json");
    let request = decode(&body, &Metadata::default()).expect("it's valid");
    assert_eq!(request.event, whole);
    let value = serde_json::to_value(&whole.data).expect("json");
    for field in ["repository", "modules", "variables", "secrets", "registry"] {
        assert_eq!(value[field], code["data"][field], "{field}");
    }
    for field in ["server", "allocations"] {
        assert_eq!(value[field], place["data"][field], "{field}");
    }
    assert_eq!((&value["sequence"], &json!(whole.time)), (&json!(8), &code["time"]), "as new as the newer one");
    assert_eq!(whole.source, code["source"]);
    assert_eq!(value["correlation"]["application_id"], 17);
    let mut both = place.clone();
    both["data"]["correlation"] = json!({ "run_id": "another", "x": 1 });
    both["data"]["expires_at"] = json!("2030-01-01T00:00:00Z");
    both["data"]["sequence"] = json!(9);
    both["time"] = json!("2026-11-30T00:00:00Z");
    let other = joined(&code, &both);
    assert_eq!((&other.data.correlation["run_id"], &other.data.correlation["x"]), (&json!("eng-41"), &json!(1)));
    assert_eq!(
        json!([other.data.expires_at, other.data.sequence, other.time]),
        json!(["2030-01-01T00:00:00Z", 9, "2026-11-30T00:00:00Z"])
    );
    assert_eq!(other.traceparent.as_deref(), place["traceparent"].as_str(), "the newer one's trace");
}

#[test]
fn the_id_of_what_halves_make_follows_from_both_and_never_changes() {
    let [code, place] = halves();
    let whole = joined(&code, &place);
    assert_eq!(whole.id, "joined-939a177a-7940-529a-9a63-077182a4bf96");
    let id = DeploymentId::of(&whole.source, &whole.id, None).to_string();
    assert_eq!(id, "4b62c8a5-e32c-5262-98d0-f49c7df55257");
    for field in ["id", "source"] {
        for which in 0..2 {
            let mut changed = halves();
            changed[which][field] = json!("another");
            let [code, place] = &changed;
            assert_ne!(joined(code, place).id, whole.id, "{field}");
        }
    }
}

#[test]
fn a_half_keeps_the_rules_of_the_request_about_what_it_tells() {
    type Edit = fn(&mut Value);
    let rows: [(usize, Edit, ErrorCode, &str); 10] = [
        (0, |e| e["data"]["modules"] = json!([]), ErrorCode::InvalidField, "/data/modules"),
        (0, |e| e["data"]["repository"]["commit"] = json!("main"), ErrorCode::InvalidField, "/data/repository/commit"),
        (0, |e| e["data"]["secrets"]["X"] = json!("hunter2"), ErrorCode::PlaintextSecret, "/data/secrets/X"),
        (0, |e| e["data"]["registry"]["password"] = json!("x"), ErrorCode::PlaintextSecret, "/data/registry/password"),
        (
            0,
            |e| drop(e["data"].as_object_mut().map(|d| d.remove("repository"))),
            ErrorCode::MissingField,
            "/data/repository",
        ),
        (0, |e| e["data"]["sequence"] = json!(1u64 << 53), ErrorCode::InvalidField, "/data/sequence"),
        (1, |e| e["data"]["allocations"] = json!([]), ErrorCode::InvalidField, "/data/allocations"),
        (
            1,
            |e| e["data"]["allocations"][1]["host_port"] = json!(8080),
            ErrorCode::InvalidField,
            "/data/allocations/1/host_port",
        ),
        (1, |e| drop(e["data"].as_object_mut().map(|d| d.remove("server"))), ErrorCode::MissingField, "/data/server"),
        (
            1,
            |e| e["data"]["correlation"]["token"] = json!("ghp_0123456789abcdefghijklmnopqrstuvwxyz"),
            ErrorCode::PlaintextSecret,
            "/data/correlation/token",
        ),
    ];
    for (which, edit, code, pointer) in rows {
        let mut event = halves()[which].clone();
        edit(&mut event);
        let refused = read_event(&event).expect_err(pointer);
        assert_eq!((refused.code, refused.pointer.as_deref()), (code, Some(pointer)), "{refused}");
        assert_eq!(refused.known.project.map(|p| p.slug.to_string()).as_deref(), Some("corner-shop"));
    }
    // What only both together show.
    let [code, mut place] = halves();
    place["data"]["allocations"][1]["domains"] = json!(["bot.example.org"]);
    assert!(read_event(&place).is_ok());
    let body = serde_json::to_vec(&joined(&code, &place)).expect("json");
    let refused = decode(&body, &Metadata::default()).expect_err("a bot has no domain");
    assert_eq!(refused.pointer.as_deref(), Some("/data/allocations/1/domains"));
}
