//! The commands: what they are read as, and what bad ones get.

use serde_json::{Value, json};
use slipway_protocol::{
    Action, DeploymentId, ErrorCode, Message, Metadata, MoveData, ProjectCommand, Version, decode, read,
};

use super::{put, read_event, sample, sample_of};

fn command(event: &Value) -> ProjectCommand {
    match read_event(event) {
        Ok(Message::Command(request)) => request.event.data,
        other => panic!("{other:?}"),
    }
}

/// The names of their frozen samples, of those about a project first.
pub(super) const COMMANDS: [&str; 7] = [
    "project-stop",
    "project-start",
    "project-rollback",
    "project-undeploy",
    "project-move",
    "deployment-cancel",
    "server-cordon",
];

#[test]
fn every_command_is_read_as_what_it_asks_for() {
    let stop = command(&sample_of("project-stop"));
    assert_eq!((stop.action, stop.server, stop.to, stop.remove_volumes), (Action::Stop, None, None, false));
    assert_eq!((stop.sequence, stop.reason.as_deref()), (Some(8), Some("the trial is over")));
    let start = command(&sample_of("project-start"));
    assert_eq!(start.action, Action::Start);
    assert_eq!(start.server.map(String::from).as_deref(), Some("vps-267179"));
    let mut rollback = sample_of("project-rollback");
    assert!(matches!(command(&rollback).to, Some(Version::Commit(sha)) if sha.as_str().starts_with("0123")));
    rollback["data"].as_object_mut().expect("an object").remove("to");
    assert_eq!((command(&rollback).action, command(&rollback).to), (Action::Rollback, None));
    let id = "3f1c8d2e-52b1-5c0e-8b0e-4c2f6d1a9b77".parse().expect("a UUID");
    assert_eq!(command(&sample_of("project-rollback-to-deployment")).to, Some(Version::Deployment(id)));
    let mut undeploy = sample_of("project-undeploy");
    assert!(command(&undeploy).remove_volumes);
    undeploy["data"].as_object_mut().expect("an object").remove("remove_volumes");
    assert!(!command(&undeploy).remove_volumes, "data are kept unless it's said otherwise");

    let mut moved = sample_of("project-move");
    let all = command(&moved);
    assert_eq!((all.action, all.move_to.map(String::from).as_deref()), (Action::Move, Some("vps-301422")));
    assert_eq!(all.move_data, MoveData::Copy);
    for field in ["to", "data"] {
        moved["data"].as_object_mut().expect("an object").remove(field);
    }
    assert_eq!((command(&moved).move_to, command(&moved).move_data), (None, MoveData::Refuse), "data aren't touched");

    let cancelled = |name: &str| match read_event(&sample_of(name)) {
        Ok(Message::Cancel(request)) => request.event.data.deployment(),
        other => panic!("{other:?}"),
    };
    assert_eq!(cancelled("deployment-cancel"), Some(id));
    let ready = sample();
    let of = |name: &str| ready[name].as_str().expect("text");
    assert_eq!(
        cancelled("deployment-cancel-by-request"),
        Some(DeploymentId::of(of("source"), of("id"), None)),
        "whoever knows the event knows the deployment"
    );
}

#[test]
fn a_command_carries_its_ids_also_in_binary_mode_and_tolerates_unknown_fields() {
    for name in COMMANDS {
        let mut event = sample_of(name);
        let structured = read_event(&event).expect("valid");
        event["data"]["future"] = json!({ "x": 1 });
        assert_eq!(read_event(&event).expect("tolerated"), structured, "{name}");
        let headers = ["specversion", "id", "source", "type", "subject", "time", "traceparent"]
            .map(|name| (format!("ce-{name}"), event[name].as_str().expect("text").to_owned()));
        let metadata = Metadata { content_type: Some("application/json".to_owned()), headers: headers.into() };
        let body = serde_json::to_vec(&event["data"]).expect("json");
        assert_eq!(read(&body, &metadata).expect("valid"), structured, "{name}");
        assert_eq!(decode(&body, &metadata).expect_err("not a deployment").code, ErrorCode::UnsupportedType);
    }
}

#[test]
fn every_broken_field_of_a_command_gets_its_code_and_pointer_and_keeps_the_ids() {
    let invalid = ErrorCode::InvalidField;
    let long = "x".repeat(501);
    let rows = [
        ("project-stop", "/type", json!("slipway.project.stop.v2"), ErrorCode::UnsupportedVersion, "/type"),
        ("project-stop", "/type", json!("slipway.project.restart.v1"), ErrorCode::UnsupportedType, "/type"),
        ("project-stop", "/data/project/slug", json!("../etc"), invalid, "/data/project/slug"),
        ("project-stop", "/data/server", json!("vps/1"), invalid, "/data/server"),
        ("project-stop", "/data/server", json!({ "handle": "vps" }), invalid, "/data/server"),
        ("project-stop", "/data/reason", json!(""), invalid, "/data/reason"),
        ("project-stop", "/data/reason", json!("two\nlines"), invalid, "/data/reason"),
        ("project-start", "/data/reason", json!(long), invalid, "/data/reason"),
        (
            "project-start",
            "/data/reason",
            json!("it was ghp_hunter2hunter2"),
            ErrorCode::PlaintextSecret,
            "/data/reason",
        ),
        ("project-start", "/data/sequence", json!(9_007_199_254_740_992u64), invalid, "/data/sequence"),
        ("project-start", "/data/expires_at", json!("soon"), invalid, "/data/expires_at"),
        ("project-rollback", "/data/to", json!("v1"), invalid, "/data/to"),
        ("project-rollback", "/data/to", json!({ "branch": "main" }), invalid, "/data/to"),
        ("project-rollback", "/data/to", json!({ "commit": "main" }), invalid, "/data/to"),
        ("project-rollback", "/data/to", json!({ "deployment": "x" }), invalid, "/data/to"),
        ("project-undeploy", "/data/remove_volumes", json!("yes"), invalid, "/data/remove_volumes"),
        ("project-undeploy", "/data/correlation", json!([]), invalid, "/data/correlation"),
        ("project-move", "/data/to", json!("vps/1"), invalid, "/data/to"),
        ("project-move", "/data/data", json!("leave"), invalid, "/data/data"),
        ("deployment-cancel", "/data/deployment_id", json!("x"), invalid, "/data/deployment_id"),
        ("deployment-cancel", "/data/deployment_id", json!(null), invalid, "/data"),
        ("deployment-cancel", "/data/request", json!({ "source": "/o", "id": "1" }), invalid, "/data"),
        ("server-cordon", "/data/server", json!("vps/1"), invalid, "/data/server"),
        ("server-cordon", "/data/cordoned", json!("yes"), invalid, "/data/cordoned"),
        ("server-cordon", "/data/reason", json!("two\nlines"), invalid, "/data/reason"),
        ("deployment-cancel-by-request", "/data/request/id", json!(""), invalid, "/data/request"),
        ("deployment-cancel-by-request", "/data/request/source", json!("x".repeat(201)), invalid, "/data/request"),
    ];
    for (name, pointer, value, code, named) in rows {
        let mut event = sample_of(name);
        put(&mut event, pointer, value.clone());
        let rejection = read_event(&event).expect_err("it must be refused");
        assert_eq!(rejection.code, code, "{name} {pointer} = {value}: {rejection}");
        assert!(rejection.pointer.as_deref().is_some_and(|p| p.starts_with(named)), "{name} {pointer}: {rejection}");
        assert!(!rejection.message.contains("hunter2"), "{rejection}");
        assert!(rejection.known.deployment_id().is_some(), "{name} {pointer}");
        if pointer != "/type" {
            assert_eq!(Some(rejection.known.action().as_str()), name.split('-').nth(1), "{name}");
        }
    }
    for name in &COMMANDS[..5] {
        for field in ["id", "slug"] {
            let mut event = sample_of(name);
            event["data"]["project"].as_object_mut().expect("an object").remove(field);
            assert_eq!(read_event(&event).expect_err("refused").code, ErrorCode::MissingField, "{name} {field}");
        }
    }
}
