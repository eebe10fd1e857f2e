//! The contract as others see it: schemas, frozen samples, and what bad input gets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slipway_protocol::{
    Action, CloudEvent, DeploymentCancel, DeploymentId, DeploymentResult, ErrorCode, EventType, MAX_MESSAGE_BYTES,
    Message, Metadata, Progress, ProjectCommand, ProjectRollback, ProjectStart, ProjectStop, ProjectUndeploy,
    Rejection, Version, decode, read, schema,
};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn sample() -> Value {
    serde_json::from_slice(include_bytes!("../samples/project-ready.v1.json")).expect("the sample is JSON")
}

fn refused(event: &Value) -> Rejection {
    let body = serde_json::to_vec(event).expect("a value serialises");
    decode(&body, &Metadata::default()).expect_err("the event must be refused")
}

#[test]
fn checked_in_schemas_are_those_of_the_types() {
    for event_type in EventType::ALL {
        let path = folder("schemas").join(schema::file_name(event_type));
        let generated = format!("{:#}\n", schema::of(event_type));
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &generated).expect("the schema can be written");
        }
        let checked_in = fs::read_to_string(&path).unwrap_or_default();
        assert!(checked_in == generated, "{} is old: run the tests once with UPDATE_SCHEMAS=1", path.display());
    }
}

#[test]
fn every_frozen_sample_is_valid_against_its_schema_and_decodes() {
    let mut seen = 0;
    for entry in fs::read_dir(folder("samples")).expect("samples are there") {
        let path = entry.expect("samples can be listed").path();
        let body = fs::read(&path).expect("the sample can be read");
        let value: Value = serde_json::from_slice(&body).expect("the sample is JSON");
        let event_type = EventType::ALL
            .into_iter()
            .find(|t| value["type"] == t.as_str())
            .unwrap_or_else(|| panic!("{} has an unknown type", path.display()));
        let validator = jsonschema::draft202012::new(&schema::of(event_type)).expect("the schema compiles");
        let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let again = match event_type {
            EventType::ProjectReady => {
                serde_json::to_value(decode(&body, &Metadata::default()).expect("the sample decodes").event)
            }
            EventType::ProjectStop => written_again::<ProjectStop>(&body),
            EventType::ProjectStart => written_again::<ProjectStart>(&body),
            EventType::ProjectRollback => written_again::<ProjectRollback>(&body),
            EventType::ProjectUndeploy => written_again::<ProjectUndeploy>(&body),
            EventType::DeploymentCancel => written_again::<DeploymentCancel>(&body),
            EventType::Progress => {
                serde_json::to_value(serde_json::from_slice::<CloudEvent<Progress>>(&body).expect("the sample decodes"))
            }
            EventType::Result => serde_json::to_value(
                serde_json::from_slice::<CloudEvent<DeploymentResult>>(&body).expect("the sample decodes"),
            ),
        };
        assert_eq!(again.expect("it serialises"), value, "{} changes on its way through", path.display());
        seen += 1;
    }
    assert!(seen >= 23, "only {seen} samples");
}

fn written_again<T: serde::Serialize + serde::de::DeserializeOwned>(body: &[u8]) -> serde_json::Result<Value> {
    read(body, &Metadata::default()).expect("the sample is a valid request");
    serde_json::to_value(serde_json::from_slice::<CloudEvent<T>>(body)?)
}

#[test]
fn unknown_fields_are_tolerated_and_never_written() {
    let mut event = sample();
    event["futureattribute"] = json!("x");
    event["data"]["future"] = json!({"x": 1});
    event["data"]["server"]["future"] = json!(1);
    let request = decode(&serde_json::to_vec(&event).expect("json"), &Metadata::default()).expect("it is tolerated");
    assert_eq!(serde_json::to_value(&request.event).expect("json"), sample());
}

#[test]
fn binary_mode_carries_the_same_request_under_each_header_prefix() {
    let structured = decode(&serde_json::to_vec(&sample()).expect("json"), &Metadata::default()).expect("valid");
    for prefix in ["cloudEvents_", "cloudEvents:", "ce-"] {
        let event = sample();
        let headers: BTreeMap<String, String> =
            ["specversion", "id", "source", "type", "subject", "time", "traceparent"]
                .into_iter()
                .map(|name| (format!("{prefix}{name}"), event[name].as_str().expect("text").to_owned()))
                .collect();
        let metadata = Metadata { content_type: Some("application/json; charset=utf-8".to_owned()), headers };
        let body = serde_json::to_vec(&event["data"]).expect("json");
        assert_eq!(decode(&body, &metadata).expect("valid").event, structured.event, "{prefix}");
    }
}

#[test]
fn a_replay_is_a_deployment_of_its_own() {
    let body = serde_json::to_vec(&sample()).expect("json");
    let replayed = |id: &str| {
        let headers = BTreeMap::from([("slipway-replay-id".to_owned(), id.to_owned())]);
        decode(&body, &Metadata { content_type: None, headers }).map(|r| r.deployment_id())
    };
    let first = decode(&body, &Metadata::default()).expect("valid").deployment_id();
    let one = replayed("7a4d3c52-6dd0-4a53-8a3e-0b8f3f2f7b10").expect("valid");
    let two = replayed("7a4d3c52-6dd0-4a53-8a3e-0b8f3f2f7b11").expect("valid");
    assert!(first != one && one != two);
    assert_eq!(replayed("nonsense").expect_err("refused").code, ErrorCode::InvalidField);
}

/// Sets the field at `pointer`, whether the sample has it or not.
fn put(event: &mut Value, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    event.pointer_mut(parent).expect("the sample has the parent")[field] = value;
}

/// Each row: what is changed in the sample, the code that it gets, the pointer that the message names.
fn broken() -> Vec<(&'static str, Value, ErrorCode, &'static str)> {
    use ErrorCode as E;
    let invalid = E::InvalidField;
    vec![
        ("/specversion", json!("0.3"), E::UnsupportedVersion, "/specversion"),
        ("/id", json!(""), invalid, "/id"),
        ("/id", json!(7), invalid, "/id"),
        ("/source", json!("a\nb"), invalid, "/source"),
        ("/type", json!("com.example.other.v1"), E::UnsupportedType, "/type"),
        ("/type", json!("slipway.project.ready.v2"), E::UnsupportedVersion, "/type"),
        ("/type", json!("slipway.deployment.result.v1"), E::UnsupportedType, "/type"),
        ("/time", json!("yesterday"), invalid, "/time"),
        ("/time", json!("-009998-01-01T00:00:00Z"), invalid, "/time"),
        ("/datacontenttype", json!("text/xml"), invalid, "/datacontenttype"),
        ("/data", json!([]), invalid, "/data"),
        ("/data/project/id", json!("not-a-uuid"), invalid, "/data/project/id"),
        ("/data/project/slug", json!("../../etc"), invalid, "/data/project/slug"),
        ("/data/project/slug", json!("shop;reboot"), invalid, "/data/project/slug"),
        ("/data/project/slug", json!("Shop"), invalid, "/data/project/slug"),
        ("/data/project/slug", json!("a".repeat(41)), invalid, "/data/project/slug"),
        ("/data/repository/name", json!("org"), invalid, "/data/repository/name"),
        ("/data/repository/name", json!("org/.."), invalid, "/data/repository/name"),
        ("/data/repository/name", json!("-org/x"), invalid, "/data/repository/name"),
        ("/data/repository/name", json!("org/x y"), invalid, "/data/repository/name"),
        ("/data/repository/commit", json!("main"), invalid, "/data/repository/commit"),
        (
            "/data/repository/commit",
            json!("0123456789ABCDEF0123456789abcdef01234567"),
            invalid,
            "/data/repository/commit",
        ),
        ("/data/repository/branch", json!("--upload-pack=x"), invalid, "/data/repository/branch"),
        ("/data/repository/branch", json!("a..b"), invalid, "/data/repository/branch"),
        ("/data/server/handle", json!("vps/1"), invalid, "/data/server/handle"),
        ("/data/server/address", json!("1.2.3.4 -oProxyCommand=x"), invalid, "/data/server/address"),
        ("/data/server/address", json!("999.1.1.1"), invalid, "/data/server/address"),
        ("/data/server/ssh_port", json!(0), invalid, "/data/server/ssh_port"),
        ("/data/allocations/1/health", json!({ "path": "health" }), invalid, "/data/allocations/1/health"),
        ("/data/allocations/1/health", json!({ "path": "/a b" }), invalid, "/data/allocations/1/health"),
        ("/data/allocations/1/health", json!({ "statuses": [99] }), invalid, "/data/allocations/1/health/statuses"),
        (
            "/data/allocations/1/health",
            json!({ "timeout_seconds": 0 }),
            invalid,
            "/data/allocations/1/health/timeout_seconds",
        ),
        ("/data/server/ssh_user", json!("root$(id)"), invalid, "/data/server/ssh_user"),
        ("/data/server/host_key", json!("ssh-ed25519 AAAA\nevil"), invalid, "/data/server/host_key"),
        ("/data/allocations", json!([]), invalid, "/data/allocations"),
        (
            "/data/allocations",
            json!([{"service": "backend", "host_port": 65536, "container_port": 8000}]),
            invalid,
            "/data/allocations/0/host_port",
        ),
        (
            "/data/allocations",
            json!([{"service": "backend", "host_port": "80", "container_port": 80}]),
            invalid,
            "/data/allocations/0/host_port",
        ),
        (
            "/data/allocations",
            json!([{"service": "backend", "host_port": 80, "container_port": 80}, {"service": "db", "host_port": 80, "container_port": 80}]),
            invalid,
            "/data/allocations/1/host_port",
        ),
        (
            "/data/allocations",
            json!([{"service": "db", "host_port": 80, "container_port": 80}, {"service": "db", "host_port": 81, "container_port": 80}]),
            invalid,
            "/data/allocations/1/service",
        ),
        (
            "/data/allocations",
            json!([{"service": "web`id`", "host_port": 80, "container_port": 80}]),
            invalid,
            "/data/allocations/0/service",
        ),
        ("/data/modules", json!([]), invalid, "/data/modules"),
        ("/data/modules", json!(["tg_bot"]), invalid, "/data/allocations"),
        ("/data/variables", json!({"PORT": "80"}), invalid, "/data/variables"),
        ("/data/variables", json!({"LD_PRELOAD": "/x"}), invalid, "/data/variables"),
        ("/data/variables", json!({"lower": "x"}), invalid, "/data/variables"),
        ("/data/variables", json!({"A": "x\u{0}y"}), invalid, "/data/variables/A"),
        ("/data/variables", json!({"A": 5}), invalid, "/data/variables/A"),
        ("/data/variables", json!({"DB_PASSWORD": "hunter2"}), E::PlaintextSecret, "/data/variables/DB_PASSWORD"),
        ("/data/variables", json!({"A": "ghp_0123456789abcdef"}), E::PlaintextSecret, "/data/variables/A"),
        ("/data/variables", json!({"A": "postgres://u:p@h/db"}), E::PlaintextSecret, "/data/variables/A"),
        ("/data/secrets/TELEGRAM_BOT_TOKEN", json!("hunter2"), E::PlaintextSecret, "/data/secrets/TELEGRAM_BOT_TOKEN"),
        (
            "/data/secrets/TELEGRAM_BOT_TOKEN",
            json!({"value": "hunter2"}),
            E::PlaintextSecret,
            "/data/secrets/TELEGRAM_BOT_TOKEN",
        ),
        (
            "/data/secrets/TELEGRAM_BOT_TOKEN",
            json!({"reference": "../hunter2"}),
            invalid,
            "/data/secrets/TELEGRAM_BOT_TOKEN",
        ),
        (
            "/data/secrets/TELEGRAM_BOT_TOKEN",
            json!({"sealed": {"key_id": "k", "sealed_box": "hunter2"}}),
            invalid,
            "/data/secrets/TELEGRAM_BOT_TOKEN",
        ),
        (
            "/data/secrets/TELEGRAM_BOT_TOKEN",
            json!(["hunter2"]),
            E::PlaintextSecret,
            "/data/secrets/TELEGRAM_BOT_TOKEN",
        ),
        ("/data/secrets", json!("hunter2"), E::PlaintextSecret, "/data/secrets"),
        ("/data/sequence", json!(-1), invalid, "/data/sequence"),
        ("/data/sequence", json!(9_007_199_254_740_992u64), invalid, "/data/sequence"),
        ("/data/expires_at", json!("soon"), invalid, "/data/expires_at"),
        ("/data/correlation", json!("c-1"), invalid, "/data/correlation"),
    ]
}

#[test]
fn every_broken_field_gets_its_code_and_pointer_and_keeps_the_ids() {
    for (pointer, value, code, named) in broken() {
        let mut event = sample();
        put(&mut event, pointer, value.clone());
        let rejection = refused(&event);
        assert_eq!(rejection.code, code, "{pointer} = {value}: {rejection}");
        assert!(rejection.pointer.as_deref().is_some_and(|p| p.starts_with(named)), "{pointer} = {value}: {rejection}");
        assert!(!rejection.message.contains("hunter2"), "{rejection}");
        if !pointer.starts_with("/id") && !pointer.starts_with("/source") {
            assert!(rejection.known.deployment_id().is_some(), "{pointer}");
        }
    }
}

#[test]
fn a_secret_in_plain_text_is_told_whatever_else_is_wrong() {
    for pointer in ["/id", "/type", "/specversion", "/data/project/slug", "/data/allocations"] {
        let mut event = sample();
        put(&mut event, pointer, json!("?"));
        put(&mut event, "/data/secrets/TELEGRAM_BOT_TOKEN", json!({"value": "hunter2"}));
        assert_eq!(refused(&event).code, ErrorCode::PlaintextSecret, "{pointer}");
    }
    let mut event = sample();
    put(&mut event, "/data/variables", json!({"DB_PASSWORD": 1234}));
    assert_eq!(refused(&event).code, ErrorCode::PlaintextSecret);
}

#[test]
fn binary_mode_keeps_the_ids_whatever_the_body_is() {
    let headers = [("specversion", "1.0"), ("id", "i"), ("source", "/s"), ("type", "slipway.project.ready.v1")]
        .map(|(name, value)| (format!("cloudEvents_{name}"), value.to_owned()));
    let metadata = Metadata { content_type: Some("application/json".to_owned()), headers: headers.into() };
    for body in [b"<project/>".to_vec(), vec![b' '; MAX_MESSAGE_BYTES + 1]] {
        let rejection = decode(&body, &metadata).expect_err("refused");
        assert!(rejection.known.deployment_id().is_some(), "{rejection}");
    }
}

#[test]
fn an_id_that_wasnt_utf_8_in_its_header_is_refused_since_others_look_the_same() {
    for (name, value) in [("id", "a\u{fffd}"), ("source", "\u{fffd}")] {
        let mut event = sample();
        event[name] = value.into();
        let rejection = refused(&event);
        assert_eq!(
            (rejection.code, rejection.pointer.as_deref()),
            (ErrorCode::InvalidField, Some(format!("/{name}").as_str()))
        );
        assert_eq!(rejection.known.deployment_id(), None);
    }
}

#[test]
fn every_missing_field_is_named() {
    let required = [
        "/specversion",
        "/id",
        "/source",
        "/type",
        "/data",
        "/data/project",
        "/data/project/id",
        "/data/project/slug",
        "/data/repository",
        "/data/repository/name",
        "/data/repository/commit",
        "/data/repository/branch",
        "/data/server",
        "/data/server/handle",
        "/data/allocations",
        "/data/allocations/0/service",
        "/data/allocations/0/host_port",
        "/data/allocations/0/container_port",
        "/data/modules",
    ];
    for pointer in required {
        let mut event = sample();
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        event.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(field);
        let rejection = refused(&event);
        let expected =
            if parent.is_empty() && field != "data" { ErrorCode::NotACloudEvent } else { ErrorCode::MissingField };
        assert_eq!((rejection.code, rejection.pointer.as_deref()), (expected, Some(pointer)));
    }
}

#[test]
fn what_is_no_event_at_all_is_told_apart() {
    let code = |body: &[u8]| decode(body, &Metadata::default()).expect_err("refused").code;
    assert_eq!(code(b""), ErrorCode::NotJson);
    assert_eq!(code(b"hello"), ErrorCode::NotJson);
    assert_eq!(code(b"\xff\xfe"), ErrorCode::NotJson);
    assert_eq!(code(b"[]"), ErrorCode::NotACloudEvent);
    assert_eq!(code(b"{}"), ErrorCode::NotACloudEvent);
    assert_eq!(code(&b"[".repeat(MAX_MESSAGE_BYTES)), ErrorCode::NotJson);
    assert_eq!(code(&vec![b' '; MAX_MESSAGE_BYTES + 1]), ErrorCode::MessageTooLarge);
}

#[test]
fn a_message_that_is_too_large_keeps_its_ids_and_nothing_that_is_large() {
    let mut event = sample();
    event["data"]["variables"]["FILLER"] = json!("x".repeat(5_000_000));
    let rejection = refused(&event);
    assert_eq!(rejection.code, ErrorCode::MessageTooLarge);
    let request = decode(&serde_json::to_vec(&sample()).expect("json"), &Metadata::default()).expect("valid");
    assert_eq!(rejection.known.deployment_id(), Some(request.deployment_id()));
    assert_eq!(rejection.known.project.as_ref(), Some(&request.event.data.project));
    assert_eq!(rejection.known.correlation, request.event.data.correlation);

    event["data"]["correlation"] = json!({ "filler": "x".repeat(100_000) });
    let rejection = refused(&event);
    assert!(rejection.known.deployment_id().is_some() && rejection.known.correlation.is_empty());
    event["data"]["variables"]["FILLER"] = json!("x".repeat(20_000_000));
    assert_eq!(refused(&event).known.deployment_id(), None);
}

#[test]
fn every_code_has_a_name_of_its_own_and_says_what_to_do() {
    let mut names = std::collections::BTreeSet::new();
    for code in ErrorCode::ALL {
        assert!(names.insert(code.as_str()), "{code} twice");
        assert_eq!(code.as_str().parse::<ErrorCode>(), Ok(*code));
        assert_eq!(serde_json::to_value(code).expect("json"), json!(code.as_str()));
        assert!(code.meaning().len() > 15 && code.next_action().len() > 10, "{code}");
    }
}

/// The frozen sample of a command.
fn command_sample(name: &str) -> Value {
    let body = fs::read(folder("samples").join(format!("{name}.v1.json"))).expect("the sample is there");
    serde_json::from_slice(&body).expect("the sample is JSON")
}

fn read_event(event: &Value) -> Result<Message, Rejection> {
    read(&serde_json::to_vec(event).expect("json"), &Metadata::default())
}

fn command(event: &Value) -> ProjectCommand {
    match read_event(event) {
        Ok(Message::Command(request)) => request.event.data,
        other => panic!("{other:?}"),
    }
}

const COMMANDS: [&str; 5] =
    ["project-stop", "project-start", "project-rollback", "project-undeploy", "deployment-cancel"];

#[test]
fn every_command_is_read_as_what_it_asks_for() {
    let stop = command(&command_sample("project-stop"));
    assert_eq!((stop.action, stop.server, stop.to, stop.remove_volumes), (Action::Stop, None, None, false));
    assert_eq!((stop.sequence, stop.reason.as_deref()), (Some(8), Some("the trial is over")));
    let start = command(&command_sample("project-start"));
    assert_eq!(start.action, Action::Start);
    assert_eq!(start.server.map(String::from).as_deref(), Some("vps-267179"));
    let mut rollback = command_sample("project-rollback");
    assert!(matches!(command(&rollback).to, Some(Version::Commit(sha)) if sha.as_str().starts_with("0123")));
    rollback["data"].as_object_mut().expect("an object").remove("to");
    assert_eq!((command(&rollback).action, command(&rollback).to), (Action::Rollback, None));
    let id = "3f1c8d2e-52b1-5c0e-8b0e-4c2f6d1a9b77".parse().expect("a UUID");
    assert_eq!(command(&command_sample("project-rollback-to-deployment")).to, Some(Version::Deployment(id)));
    let mut undeploy = command_sample("project-undeploy");
    assert!(command(&undeploy).remove_volumes);
    undeploy["data"].as_object_mut().expect("an object").remove("remove_volumes");
    assert!(!command(&undeploy).remove_volumes, "data are kept unless it's said otherwise");

    let cancelled = |name: &str| match read_event(&command_sample(name)) {
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
        let mut event = command_sample(name);
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
        ("deployment-cancel", "/data/deployment_id", json!("x"), invalid, "/data/deployment_id"),
        ("deployment-cancel", "/data/deployment_id", json!(null), invalid, "/data"),
        ("deployment-cancel", "/data/request", json!({ "source": "/o", "id": "1" }), invalid, "/data"),
        ("deployment-cancel-by-request", "/data/request/id", json!(""), invalid, "/data/request"),
        ("deployment-cancel-by-request", "/data/request/source", json!("x".repeat(201)), invalid, "/data/request"),
    ];
    for (name, pointer, value, code, named) in rows {
        let mut event = command_sample(name);
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
    for name in &COMMANDS[..4] {
        for field in ["id", "slug"] {
            let mut event = command_sample(name);
            event["data"]["project"].as_object_mut().expect("an object").remove(field);
            assert_eq!(read_event(&event).expect_err("refused").code, ErrorCode::MissingField, "{name} {field}");
        }
    }
}

#[test]
fn what_slipway_tells_is_never_taken_for_a_request() {
    for name in ["result-succeeded", "progress-log"] {
        assert_eq!(read_event(&command_sample(name)).expect_err("refused").code, ErrorCode::UnsupportedType);
    }
}
