//! The contract file has the rules of the workers' door, passes the checkers that its readers run, and goes on reading what
//! newer workers tell. The schemas pass the strictest validator there is.

use std::process::Command;

use serde_json::{Value, json};
use slipway_protocol::{EventType, Metadata, read};
use slipway_tests::world::Cache;

use super::python::{program, root, tell};

const BOX: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn ready() -> Value {
    json!({
        "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "corner-shop" },
        "repository": {
            "name": "acme/shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main"
        },
        "server": { "handle": "vps-267179" },
        "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
        "modules": ["backend"],
        "variables": {}, "secrets": {}, "correlation": {},
    })
}

/// A correlation of so many levels.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |below, _| json!({ "a": below }))
}

/// `[POINTER, VALUE]`: what becomes of a request that is fine otherwise.
fn changes() -> Vec<(&'static str, Value)> {
    let service = |name: &str, port: u16| json!({ "service": name, "host_port": port, "container_port": 80 });
    let with = |mut allocation: Value, field: &str, value: Value| {
        allocation[field] = value;
        allocation
    };
    let mut changes = Vec::new();
    for branch in
        ["main", "a/b", "release-1.2", "a..b", "a//b", "a/.b", "a/", "a.", "x.lock", "x.lock/y", "-a", "a b", "a.lockb"]
    {
        changes.push(("/repository/branch", json!(branch)));
    }
    for name in ["acme/shop", "acme/.", "acme/..", "acme/...", "-a/b", "acme", "acme/a b", "a/b/c"] {
        changes.push(("/repository/name", json!(name)));
    }
    for address in
        ["203.0.113.10", "2001:db8::1", "a.example", "localhost", "1.2.3", "a..b", "a-.b", "256.1.1.1", "x.1", "[::1]"]
    {
        changes.push(("/server/address", json!(address)));
    }
    for key in ["ssh-ed25519 AAAA", "ssh-dss AAAA", "ssh-ed25519 AAAA ada@home", "AAAA"] {
        changes.push(("/server/host_key", json!(key)));
    }
    for name in ["GREETING", "PORT", "PATH", "LD_PRELOAD", "COMPOSE_FILE", "GIT_DIR", "lower", "1A", "HOSTNAME", "_A"] {
        changes.push(("/variables", json!({ name: "x" })));
    }
    for (name, value) in [
        ("DB_PASSWORD", "hunter2"),
        ("DB_PASSWORD", "$POSTGRES_PASSWORD"),
        ("DB_PASSWORD", "${POSTGRES_PASSWORD}"),
        ("DB_PASSWORD", "${POSTGRES_PASSWORD:-hunter2}"),
        ("API_TOKEN", "hunter2-hunter2"),
        ("API_TOKEN", "3600"),
        ("API_TOKEN", "360000000ms"),
        ("TOKEN_TTL", "3600"),
        ("PASSWORD_FILE", "/run/secrets/p"),
        ("RESET_PASSWORD", "true"),
        ("GREETING", "ghp_x"),
        ("URL", "postgres://shop:hunter2@db/shop"),
        ("URL", "postgres://shop:${DB}@db/shop"),
        ("URL", "postgres://db:5432/shop"),
        ("URL", "see http://h:8080,ada@example.com"),
        ("KEY", "AIzaSyA0123456789abcdefghijklmnopqrstuv"),
        ("KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("KEY", "AKIAIOSFODNN7EXAMPLEANDMORE"),
        ("KEY", "sk-proj-Abcdefghij0123456789abcdef"),
        ("KEY", "sk-corner-shop-backend-production"),
        ("BOT", "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0"),
        ("BOT", "https://api.telegram.org/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0/sendMessage"),
        ("BOT", "123456789:corner-shop-production-deploy-no-42"),
        ("ARN", "arn:aws:sns:eu-west-1:123456789012:OrderServiceProductionNotifications1"),
        ("PEM", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("PEM", "-----BEGIN PUBLIC KEY-----"),
        ("JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27u"),
        ("NUL", "a\0b"),
    ] {
        changes.push(("/variables", json!({ name: value })));
    }
    for correlation in [
        json!({ "task_id": 42, "chat": { "id": -100 }, "none": null, "many": [1, 2.5, null] }),
        json!({ "note": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27u" }),
        json!({ "password": "hunter2" }),
        json!({ "ghp_0123456789abcdefghij": 1 }),
        json!({ "deep": [{ "url": "https://u:hunter2@h" }] }),
        json!({ "long": "x".repeat(16_500) }),
        nested(125),
        nested(126),
        json!({ "brackets": "[{".repeat(200), "quoted": "\"[[\\" }),
        serde_json::from_str(&format!("{{\"n\":{}}}", "9".repeat(400))).unwrap(),
        serde_json::from_str(&format!("{{\"n\":{}}}", "9".repeat(401))).unwrap(),
    ] {
        changes.push(("/correlation", correlation));
    }
    for time in ["9999-12-29T23:59:59Z", "9999-12-31T23:59:59Z", "2099-01-01T00:00:00+02:00", "2099-01-01T00:00:00"] {
        changes.push(("/expires_at", json!(time)));
    }
    for allocations in [
        json!([service("backend", 8080), service("backend", 8081)]),
        json!([service("backend", 8080), service("frontend", 8080)]),
        json!([service("backend", 8080), service("db", 5432)]),
        json!([service("db", 5432)]),
        json!([service("frontend", 8080)]),
        json!([with(service("backend", 8080), "domains", json!(["a.example", "b.example"]))]),
        json!([with(service("backend", 8080), "domains", json!(["a.example", "a.example"]))]),
        json!([service("backend", 8080), with(service("db", 5432), "domains", json!(["a.example"]))]),
        json!([with(service("backend", 8080), "health", json!({ "host": "shop.example.org", "path": "/up" }))]),
        json!([with(service("backend", 8080), "health", json!({ "host": "shop..org" }))]),
        json!([with(service("backend", 8080), "health", json!({ "path": "up" }))]),
        json!([]),
    ] {
        changes.push(("/allocations", allocations));
    }
    for secrets in [
        json!({ "TOKEN": { "reference": "shop.token" } }),
        json!({ "TOKEN": { "reference": "a..b" } }),
        json!({ "TOKEN": "hunter2" }),
        json!({ "TOKEN": { "sealed": { "key_id": "k", "sealed_box": BOX } } }),
        json!({ "TOKEN": { "sealed": { "key_id": "k", "sealed_box": format!("{}!", &BOX[..70]) } } }),
        json!({ "PORT": { "reference": "shop.token" } }),
    ] {
        changes.push(("/secrets", secrets));
    }
    changes
}

/// The requests, and whether the door takes them.
fn requests() -> Vec<(&'static str, Value, bool)> {
    let taken = |kind: &str, data: &Value| {
        let event = json!({ "specversion": "1.0", "id": "1", "source": "/orchestrator", "type": kind, "data": data });
        read(event.to_string().as_bytes(), &Metadata::default()).is_ok()
    };
    let mut requests = Vec::new();
    for (pointer, value) in changes() {
        let mut data = ready();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        data.pointer_mut(parent).unwrap()[field] = value;
        requests.push(("slipway.project.ready.v1", data));
    }
    let mut both = ready();
    both["variables"] = json!({ "A": "1" });
    both["secrets"] = json!({ "A": { "reference": "a" } });
    requests.push(("slipway.project.ready.v1", both));
    let of = |names: &[&str]| -> Value {
        let ready = ready();
        names.iter().map(|name| ((*name).to_owned(), ready[*name].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    let mut place = of(&["project", "server", "allocations"]);
    requests.push(("slipway.resources.allocated.v1", place.clone()));
    let twice = place["allocations"][0].clone();
    place["allocations"].as_array_mut().unwrap().push(twice);
    requests.push(("slipway.resources.allocated.v1", place));
    let mut code = of(&["project", "repository", "modules"]);
    code["variables"] = json!({ "DB_PASSWORD": "hunter2" });
    requests.push(("slipway.engineering.done.v1", code));
    for reason in ["it's done", "use ghp_abc now", "two\nlines"] {
        let mut stop = of(&["project"]);
        stop["reason"] = reason.into();
        requests.push(("slipway.project.stop.v1", stop));
    }
    for id in ["e-1", "", "a\u{7}b", &"ü".repeat(101)] {
        let cancel = json!({ "request": { "source": "/orchestrator", "id": id } });
        requests.push(("slipway.deployment.cancel.v1", cancel));
    }
    requests.into_iter().map(|(kind, data)| (kind, data.clone(), taken(kind, &data))).collect()
}

#[test]
fn the_vendored_file_refuses_exactly_what_the_door_refuses() {
    let requests = requests();
    let (taken, refused) = (requests.iter().filter(|r| r.2).count(), requests.iter().filter(|r| !r.2).count());
    assert!(taken > 30 && refused > 40, "{taken} {refused}");
    let input: Value = requests.iter().map(|(kind, data, _)| json!([kind, data])).collect();
    let answers = tell(&mut program(Command::new(Cache::open().unwrap().python()), "rules.py"), &input);
    let differing: Vec<_> = requests
        .iter()
        .zip(answers.as_array().unwrap())
        .filter(|((_, _, taken), answer)| **answer != json!(taken))
        .map(|((kind, data, taken), _)| format!("{kind} (the door: {taken}): {data}"))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

/// A result as workers of a later version may tell it.
fn of_tomorrow() -> Vec<Value> {
    let sample = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(root().join("protocol/samples").join(name)).unwrap()).unwrap()
    };
    let mut result = sample("result-failed.v1.json");
    result["data"]["outcome"] = "paused".into();
    result["data"]["action"] = "hibernate".into();
    result["data"]["failure"]["code"] = "warp-core-breach".into();
    result["data"]["failure"]["class"] = "cosmic".into();
    result["data"]["failure"]["stage"] = "warp".into();
    result["data"]["stages"] = json!([{ "stage": "warp", "change": "bent", "duration_ms": 1 }]);
    let mut progress = sample("progress-stage-finished.v1.json");
    progress["data"]["stage"] = "warp".into();
    progress["data"]["change"] = "bent".into();
    let mut kind = progress.clone();
    kind["data"]["kind"] = "teleported".into();
    vec![result, progress, kind]
}

#[test]
fn words_of_newer_workers_leave_the_rest_of_an_event_readable() {
    for event in of_tomorrow() {
        let kind = EventType::named(event["type"].as_str().unwrap()).unwrap();
        let schema = jsonschema::draft202012::new(&slipway_protocol::schema::of(kind)).unwrap();
        let errors: Vec<String> = schema.iter_errors(&event).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        let script = "import sys, slipway_events as s; e = s.parse_event(sys.stdin.read()); \
                      print(e.model_dump_json(by_alias=True, exclude_unset=True))";
        let mut python = Command::new(Cache::open().unwrap().python());
        python
            .args(["-c", script])
            .env("PYTHONPATH", root().join("protocol/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let parsed = tell(&mut python, &event);
        for name in ["deployment_id", "outcome", "action", "failure", "stages", "stage", "change", "kind"] {
            assert_eq!(parsed["data"][name], event["data"][name], "{name}");
        }
        // What was broken stays broken.
        let mut broken = event.clone();
        broken["data"]["deployment_id"] = 7.into();
        assert!(!schema.is_valid(&broken));
    }
}

/// Runs a checker of the prepared part `checkers`, which must have nothing to say.
fn passes(program: &str, arguments: &[&str]) -> String {
    let cache = Cache::open().unwrap();
    let checkers = cache.part("checkers");
    assert!(checkers.is_dir(), "the checkers aren't prepared: run tests/prepare");
    let output = Command::new(checkers.join("bin").join(program))
        .args(arguments)
        .current_dir(&checkers)
        .env("NODE_PATH", checkers.join("node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn the_vendored_file_passes_mypy_pyright_and_ruff_as_their_strictest_users_run_them() {
    let file = root().join("protocol/python/slipway_events.py").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pyrightconfig.json");
    std::fs::write(&config, json!({ "include": [file], "typeCheckingMode": "strict" }).to_string()).unwrap();
    let config = config.display().to_string();
    passes("python", &["-m", "ruff", "check", "--isolated", "--no-cache", &file]);
    std::thread::scope(|scope| {
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/mypy");
        let mypy = ["-m", "mypy", "--strict", "--config-file", "/dev/null", "--cache-dir", cache, &file];
        scope.spawn(move || passes("python", &mypy));
        passes("node", &["node_modules/pyright/index.js", "--pythonpath", "bin/python", "-p", &config]);
    });
}

#[test]
fn the_schemas_pass_ajv_in_its_strict_mode_and_each_has_an_id() {
    let schema = |kind: &EventType| {
        root().join("protocol/schemas").join(slipway_protocol::schema::file_name(*kind)).display().to_string()
    };
    let files: Vec<String> = EventType::ALL.iter().map(schema).collect();
    let script = root().join("tests/python/strict_schemas.js").display().to_string();
    let arguments: Vec<&str> = std::iter::once(script.as_str()).chain(files.iter().map(String::as_str)).collect();
    let ids: Value = serde_json::from_str(&passes("node", &arguments)).unwrap();
    let expected: Value = EventType::ALL.iter().map(|kind| json!(format!("urn:slipway:schema:{kind}"))).collect();
    assert_eq!(ids, expected);
}
