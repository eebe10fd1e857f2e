//! What a person sees: stdout, stderr and exit code, without any broker or database.

use crate::program::{sample, slipway, transcript};
use serde_json::{Value, json};
use slipway_protocol::ErrorCode;

#[test]
fn help_shows_every_command_and_every_exit_code() {
    insta::assert_snapshot!(transcript(slipway().arg("--help")));
}

#[test]
fn help_of_each_command_says_what_it_takes() {
    for command in [
        "submit",
        "watch",
        "cancel",
        "stop",
        "rollback",
        "undeploy",
        "projects versions",
        "deployments list",
        "deployments show",
        "servers add",
        "servers check",
        "dead-letters replay",
        "events replay",
        "notify",
        "topology apply",
        "keys generate sealing",
    ] {
        let mut run = slipway();
        run.args(command.split(' ')).arg("--help");
        insta::assert_snapshot!(format!("help {command}").replace(' ', "-"), transcript(&mut run));
    }
}

/// What people read about operating.
const DOCUMENTS: [&str; 2] = [include_str!("../../runbook.md"), include_str!("../../../README.md")];

/// Every `slipway …` in backticks or on a line of its own, without the program's name.
fn commands(document: &str) -> Vec<&str> {
    let spans = document.lines().flat_map(|line| match line.starts_with("slipway ") {
        true => vec![line],
        false => line.split('`').skip(1).step_by(2).collect(),
    });
    spans.filter_map(|span| span.strip_prefix("slipway ")).collect()
}

#[test]
fn every_command_that_runbook_and_readme_name_exists_with_those_flags() {
    for document in DOCUMENTS {
        let commands = commands(document);
        assert!(commands.len() > 10, "{commands:?}");
        for command in commands {
            let is_name =
                |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
            let names = command.split(' ').take_while(is_name);
            let help = slipway().args(names).arg("--help").output().unwrap();
            assert!(help.status.success(), "`slipway {command}`: {help:?}");
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in command.split(' ').filter(|word| word.starts_with("--")) {
                let known = help.split([' ', '\n', ',']).any(|word| word == flag);
                assert!(known, "`slipway {command}`: no {flag} in\n{help}");
            }
        }
    }
}

#[test]
fn every_error_code_has_its_place_in_the_runbook() {
    let [runbook, _] = DOCUMENTS;
    let missing: Vec<_> = ErrorCode::ALL.iter().filter(|code| !runbook.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_code_is_explained_with_its_class_and_next_action() {
    insta::assert_snapshot!(transcript(slipway().args(["explain", "port-occupied"])));
    insta::assert_snapshot!(transcript(slipway().args(["explain", "port-occupied", "--json"])));
}

#[test]
fn without_a_code_all_are_listed() {
    insta::assert_snapshot!(transcript(slipway().arg("explain")));
}

#[test]
fn all_policies_are_listed_with_their_defaults_and_reasons() {
    insta::assert_snapshot!(transcript(slipway().args(["explain", "policies"])));
    let output = slipway().args(["explain", "policies", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lease = listed["policies"].as_array().unwrap().iter().find(|p| p["variable"] == "SLIPWAY_LEASE").unwrap();
    assert_eq!((&lease["default"], &lease["unit"]), (&json!(4.0), &json!("s")));
    assert_eq!(listed["classes"].as_array().unwrap().len(), 4);
}

#[test]
fn a_misspelt_code_gets_a_suggestion() {
    insta::assert_snapshot!(transcript(slipway().args(["explain", "port_ocupied"])));
}

#[test]
fn a_command_that_needs_the_database_says_how_to_name_it() {
    insta::assert_snapshot!(transcript(slipway().args(["deployments", "list"])));
}

#[test]
fn a_password_in_a_url_is_never_shown() {
    let shown = transcript(
        slipway().args(["deployments", "list"]).env("SLIPWAY_DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/db"),
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.starts_with("exit: 4\n") && shown.contains("postgres://127.0.0.1:1/db"), "{shown}");

    let shown =
        transcript(slipway().args(["topology", "check"]).env("SLIPWAY_AMQP_URL", "amqp://me:hunter2@127.0.0.1:1"));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.starts_with("exit: 4\n") && shown.contains("amqp://127.0.0.1:1"), "{shown}");
}

#[test]
fn each_bad_input_file_is_refused_with_its_place_and_rule() {
    let sample: Value = serde_json::from_slice(&sample()).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut event = sample.clone();
        *event.pointer_mut(pointer).unwrap() = value;
        event.to_string()
    };
    let mut without_commit = sample.clone();
    without_commit["data"]["repository"].as_object_mut().unwrap().remove("commit");
    let mut misspelt = sample["data"].clone();
    misspelt["variable"] = json!({ "A": "b" });
    let table = [
        ("not json", "{".to_owned()),
        ("a list", "[]".to_owned()),
        ("no event", "{}".to_owned()),
        ("other type", with("/type", json!("com.example.other.v1"))),
        ("later version", with("/type", json!("slipway.project.ready.v9"))),
        ("short commit", with("/data/repository/commit", json!("0123456"))),
        ("no commit", without_commit.to_string()),
        ("bad slug", with("/data/project/slug", json!("Corner Shop; rm -rf /"))),
        ("port zero", with("/data/allocations/1/host_port", json!(0))),
        ("plaintext secret", with("/data/secrets/PAYMENT_API_KEY", json!("hunter2"))),
        ("secret variable", with("/data/variables/APP_NAME", json!("ghp_hunter2"))),
        ("no web service", with("/data/modules", json!(["tg_bot"]))),
        ("expired", with("/data/expires_at", json!("2020-01-01T00:00:00Z"))),
        ("unknown field of the data alone", misspelt.to_string()),
        ("too large", " ".repeat(1024 * 1024 + 1)),
    ];
    let mut shown = String::new();
    for (case, body) in table {
        let run = transcript(slipway().args(["submit", "-", "--dry-run"]).write_stdin(body));
        assert!(run.starts_with("exit: 2\n"), "{case}: {run}");
        assert!(!run.contains("hunter2"), "{case}: {run}");
        shown.push_str(&format!("=== {case}\n{run}"));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_missing_file_is_named() {
    insta::assert_snapshot!(transcript(slipway().args(["submit", "no-such-file.json"])));
}

#[test]
fn flags_must_be_complete_and_exclude_a_file() {
    insta::assert_snapshot!(transcript(slipway().args(["submit", "--project", "shop"])));
    insta::assert_snapshot!(transcript(slipway().args(["submit", "event.json", "--project", "shop"])));
}

#[test]
fn an_event_in_a_file_keeps_its_identity_and_the_data_alone_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let (event, data) = (dir.path().join("event.json"), dir.path().join("data.json"));
    let parsed: Value = serde_json::from_slice(&sample()).unwrap();
    // As some editors write it.
    std::fs::write(&event, [b"\xef\xbb\xbf", sample().as_slice()].concat()).unwrap();
    std::fs::write(&data, parsed["data"].to_string()).unwrap();

    let of = |args: &[&str]| -> Value {
        let output = slipway().args(["submit", "--dry-run", "--json"]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let whole = of(&[event.to_str().unwrap()]);
    assert_eq!(whole["event"]["id"], parsed["id"]);
    assert_eq!(whole["event"]["data"], parsed["data"]);

    let named =
        of(&[data.to_str().unwrap(), "--source", "/orchestrator", "--event-id", parsed["id"].as_str().unwrap()]);
    assert_eq!(named["deployment_id"], whole["deployment_id"], "the same source and id ask for the same deployment");
    assert_ne!(of(&[data.to_str().unwrap()])["deployment_id"], whole["deployment_id"]);
}

#[test]
fn a_request_in_flags_becomes_an_event_with_sealed_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let made =
        slipway().args(["keys", "generate", "sealing", "--key-id", "2026-11", "--out"]).arg(&keys).output().unwrap();
    let public = String::from_utf8(made.stdout).unwrap();
    let run = slipway()
        .args(["submit", "--dry-run", "--project", "shop", "--project-id", "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11"])
        .args(["--repository", "Acme-Org/shop", "--commit", "0123456789abcdef0123456789abcdef01234567"])
        .args(["--server", "vps-1", "--allocate", "backend=8080:8000", "--module", "backend", "--expires-in", "1h"])
        .args(["--variable", "APP_NAME=shop=1", "--secret-ref", "PAYMENT_API_KEY=shop.payment"])
        .args(["--secret", "TELEGRAM_BOT_TOKEN=-", "--seal-to", public.trim(), "--correlation", "task_id=42"])
        .write_stdin("hunter2\n")
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(!text.contains("hunter2"));
    let data = serde_json::from_str::<Value>(&text).unwrap()["data"].take();
    assert_eq!(data["secrets"]["TELEGRAM_BOT_TOKEN"]["sealed"]["key_id"], "2026-11");
    assert_eq!(data["secrets"]["PAYMENT_API_KEY"]["reference"], "shop.payment");
    assert_eq!(data["variables"]["APP_NAME"], "shop=1");
    assert_eq!(data["correlation"]["task_id"], 42);
    assert_eq!(data["allocations"][0], json!({ "service": "backend", "host_port": 8080, "container_port": 8000 }));
}

#[test]
fn a_request_in_flags_may_leave_the_server_and_its_ports_to_slipway() {
    let request = |more: &[&str]| {
        slipway()
            .args(["submit", "--dry-run", "--project", "shop", "--project-id", "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11"])
            .args(["--repository", "Acme-Org/shop", "--commit", "0123456789abcdef0123456789abcdef01234567"])
            .args(["--allocate", "backend=8000", "--module", "backend", "--region", "eu", "--label", "ssd"])
            .args(more)
            .output()
            .unwrap()
    };
    let data = serde_json::from_slice::<Value>(&request(&[]).stdout).unwrap()["data"].take();
    assert_eq!(data["allocations"][0], json!({ "service": "backend", "container_port": 8000 }));
    assert_eq!(data["placement"], json!({ "required": { "region": "eu", "labels": ["ssd"] } }));
    assert!(data.get("server").is_none(), "{data}");
    let refused = String::from_utf8(request(&["--server", "vps-1"]).stderr).unwrap();
    assert!(refused.contains("cannot be used with"), "{refused}");
}

#[test]
fn a_secret_in_an_argument_is_refused_and_not_repeated() {
    let shown = transcript(
        slipway()
            .args(["submit", "--dry-run", "--project", "shop", "--project-id", "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11"])
            .args(["--repository", "Acme-Org/shop", "--commit", "0123456789abcdef0123456789abcdef01234567"])
            .args(["--server", "vps-1", "--allocate", "backend=8080:8000", "--module", "backend"])
            .args(["--seal-to", "k:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="])
            .args(["--secret", "TELEGRAM_BOT_TOKEN=hunter2"]),
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn a_key_is_written_for_its_owner_alone_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let generate = |id: &str| {
        slipway().args(["keys", "generate", "sealing", "--key-id", id, "--out"]).arg(&keys).output().unwrap()
    };

    let first = generate("2026-11");
    assert!(first.status.success(), "{first:?}");
    let file = keys.join("2026-11.key");
    let private = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!format!("{first:?}").contains(private.trim()), "the private half was printed");

    let again = generate("2026-11");
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists and is not overwritten"), "{again:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), private);
    assert_eq!(generate("../2026-12").status.code(), Some(2));

    let public = slipway().args(["keys", "public", "--dir"]).arg(&keys).output().unwrap();
    assert_eq!(public.stdout, first.stdout);
}

#[test]
fn an_age_identity_is_written_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("identity");
    let made = slipway().args(["keys", "generate", "age", "--out"]).arg(&file).output().unwrap();
    let recipient = String::from_utf8(made.stdout).unwrap();
    assert!(recipient.starts_with("age1"), "{recipient}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file).unwrap().contains("AGE-SECRET-KEY-1"));
}
