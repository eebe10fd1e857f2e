//! A request to deploy, field by field.

use serde_json::{Value, json};
use slipway_protocol::{ErrorCode, Metadata, decode};

use super::{put, read_event, refused, sample};

#[test]
fn unknown_fields_are_tolerated_and_never_written() {
    let mut event = sample();
    event["futureattribute"] = json!("x");
    event["data"]["future"] = json!({"x": 1});
    event["data"]["server"]["future"] = json!(1);
    let request = decode(&serde_json::to_vec(&event).expect("json"), &Metadata::default()).expect("it is tolerated");
    assert_eq!(serde_json::to_value(&request.event).expect("json"), sample());
}

fn domains(how_many: usize) -> Vec<String> {
    (0..how_many).map(|i| format!("{i}.example.org")).collect()
}

#[test]
fn a_module_has_sixteen_domains_at_most_in_their_order() {
    let mut event = sample();
    put(&mut event, "/data/allocations/1/domains", json!(domains(16)));
    let request = decode(&serde_json::to_vec(&event).expect("json"), &Metadata::default()).expect("it is valid");
    let named: Vec<&str> = request.event.data.domains().map(|(_, domain)| domain.as_str()).collect();
    assert_eq!(named, domains(16));
    assert!(request.event.data.domains().all(|(service, _)| service.as_str() == "backend"));
    assert_eq!(serde_json::to_value(&request.event).expect("json"), event);
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
        ("/data/allocations/1/domains", json!("hunter2.example.org"), invalid, "/data/allocations/1/domains"),
        ("/data/allocations/1/domains", json!(["*.hunter2.org"]), invalid, "/data/allocations/1/domains"),
        ("/data/allocations/1/domains", json!(["a.org", "HUNTER2.org"]), invalid, "/data/allocations/1/domains"),
        ("/data/allocations/1/domains", json!(["203.0.113.10"]), invalid, "/data/allocations/1/domains"),
        ("/data/allocations/1/domains", json!(["a.org", "b.org", "a.org"]), invalid, "/data/allocations/1/domains/2"),
        ("/data/allocations/1/domains", json!(domains(17)), invalid, "/data/allocations/1/domains"),
        ("/data/allocations/0/domains", json!(["db.example.org"]), invalid, "/data/allocations/0/domains"),
        (
            "/data/allocations",
            json!([
                {"service": "backend", "host_port": 80, "container_port": 80},
                {"service": "tg_bot", "host_port": 81, "container_port": 80, "domains": ["bot.example.org"]},
            ]),
            invalid,
            "/data/allocations/1/domains",
        ),
        (
            "/data/allocations",
            json!([
                {"service": "backend", "host_port": 80, "container_port": 80, "domains": ["a.org"]},
                {"service": "tg_bot", "host_port": 81, "container_port": 80, "health": {}, "domains": ["b.org", "a.org"]}
            ]),
            invalid,
            "/data/allocations/1/domains/1",
        ),
        (
            "/data/allocations",
            json!([{"service": "backend", "container_port": 80}]),
            E::MissingField,
            "/data/allocations/0/host_port",
        ),
        ("/data/placement", json!({ "required": { "region": "EU" } }), invalid, "/data/placement/required/region"),
        (
            "/data/placement",
            json!({ "preferred": { "labels": domains(17) } }),
            invalid,
            "/data/placement/preferred/labels",
        ),
        ("/data/placement", json!({ "wait_seconds": 86_401 }), invalid, "/data/placement/wait_seconds"),
        ("/data/resources", json!({ "ram_mb": 0 }), invalid, "/data/resources/ram_mb"),
        ("/data/resources", json!({ "disk_mb": 16_777_217 }), invalid, "/data/resources/disk_mb"),
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
        ("/data/repository/pushes_deployed_by", json!("hunter2"), invalid, "/data/repository/pushes_deployed_by"),
        ("/data/registry", json!("robot:hunter2"), E::PlaintextSecret, "/data/registry"),
        (
            "/data/registry",
            json!({"username": "robot", "password": "hunter2"}),
            E::PlaintextSecret,
            "/data/registry/password",
        ),
        (
            "/data/registry",
            json!({"username": "a:b", "password": {"reference": "x"}}),
            invalid,
            "/data/registry/username",
        ),
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

/// JSON pointers of everything in `value`, which stands at `pointer`.
fn pointers(pointer: &str, value: &Value, found: &mut Vec<String>) {
    found.push(pointer.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, v)| pointers(&format!("{pointer}/{key}"), v, found)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| pointers(&format!("{pointer}/{i}"), v, found)),
        _ => {}
    }
}

#[test]
fn whatever_stands_anywhere_in_an_event_its_refusal_never_repeats_it() {
    let (mut all, mut refusals) = (Vec::new(), 0);
    pointers("", &sample(), &mut all);
    for pointer in all {
        for value in [json!("hunter2 $"), json!(["hunter2 $"]), json!({ "x": "hunter2 $" })] {
            let mut event = sample();
            *event.pointer_mut(&pointer).expect("the sample has it") = value;
            if let Err(rejection) = read_event(&event) {
                assert!(!rejection.to_string().contains("hunter2"), "{pointer}: {rejection}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 60, "only {refusals} were refused");
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
