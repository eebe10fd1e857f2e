//! Secrets in plain text, wherever a producer may put one, and what only looks like one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use slipway_protocol::{ErrorCode, Metadata, read};

use super::{put, read_event, refused, sample};

/// A way to hand over a secret in plain text: its name, the field, what is put there, and where it's found.
type Trick = (&'static str, &'static str, Value, &'static str);

fn plain_texts() -> Vec<Trick> {
    let token = "ghp_hunter2hunter2hunter2hunter2hunter2hu";
    let bot = "123456789:hunter2hunter2hunter2hunter2hunter2";
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJodW50ZXIyIjoxfQ.hunter2hunter2hunter2";
    let secret = |value: Value| json!({ "TELEGRAM_BOT_TOKEN": value });
    let in_secret = "/data/secrets/TELEGRAM_BOT_TOKEN";
    let in_box = |text: &str| json!({ "sealed": { "sealed_box": text } });
    let sealed = || sample()["data"]["secrets"]["TELEGRAM_BOT_TOKEN"]["sealed"].clone();
    let mut stuffed = sealed();
    stuffed["value"] = json!("hunter2");
    vec![
        ("beside a reference", "/data/secrets", secret(json!({"reference": "r", "value": "hunter2"})), in_secret),
        ("beside a box", "/data/secrets", secret(json!({"sealed": sealed(), "plain": "hunter2"})), in_secret),
        ("within a box", "/data/secrets", secret(json!({"sealed": stuffed})), in_secret),
        (
            "box and reference at once",
            "/data/secrets",
            secret(json!({"sealed": sealed(), "reference": "hunter2"})),
            in_secret,
        ),
        (
            "as a reference",
            "/data/secrets",
            secret(json!({"reference": token})),
            "/data/secrets/TELEGRAM_BOT_TOKEN/reference",
        ),
        ("as a secret's name", "/data/secrets", json!({token: {"reference": "r"}}), "/data/secrets/?"),
        ("as a variable's name", "/data/variables", json!({"AKIAHUNTER2HUNTER22X": "x"}), "/data/variables/?"),
        ("within a variable", "/data/variables", json!({"A": format!("Bearer {token}")}), "/data/variables/A"),
        ("in correlation", "/data/correlation", json!({"chat": {"ids": [1, bot]}}), "/data/correlation/chat/ids/1"),
        ("as a key of correlation", "/data/correlation", json!({token: 1}), "/data/correlation/?"),
        (
            "in a callback of correlation",
            "/data/correlation",
            json!({"to": "https://u:hunter2@h/"}),
            "/data/correlation/to",
        ),
        ("as a signed token", "/data/correlation", json!({"auth": jwt}), "/data/correlation/auth"),
        ("as the subject", "/subject", json!(token), "/subject"),
        ("as the id", "/id", json!(token), "/id"),
        ("as the source", "/source", json!(format!("/orchestrator/{token}")), "/source"),
        ("as the type", "/type", json!(token), "/type"),
        ("in an unknown field", "/data/extra", json!({"deep": [token]}), "/data/extra/deep/0"),
        ("in an unknown attribute", "/extension", json!(bot), "/extension"),
        ("in a field named like one", "/data/dbPassword", json!("hunter2"), "/data/dbPassword"),
        (
            "in a field named like one, deep",
            "/data/server/auth",
            json!({"api-key": "hunter2"}),
            "/data/server/auth/api-key",
        ),
        (
            "in secrets that are spelt otherwise",
            "/data/Secrets",
            json!({"DB_PASSWORD": "hunter2"}),
            "/data/Secrets/DB_PASSWORD",
        ),
        ("in a list of secrets", "/data/dbPassword", json!(["hunter2"]), "/data/dbPassword"),
        ("in an object of secrets", "/data/credentials", json!({"user": "x", "value": "hunter2"}), "/data/credentials"),
        ("as a box of correlation", "/data/correlation", in_box(token), "/data/correlation/sealed/sealed_box"),
        ("as a box of nothing", "/data/future", in_box(token), "/data/future/sealed/sealed_box"),
        (
            "as the box of a secret",
            "/data/secrets",
            secret(json!({"sealed": {"key_id": "k", "sealed_box": token}})),
            "/data/secrets/TELEGRAM_BOT_TOKEN/sealed/sealed_box",
        ),
        (
            "in a bot's address",
            "/data/variables",
            json!({"HOOK": format!("https://t.example/bot{bot}/x")}),
            "/data/variables/HOOK",
        ),
        ("in data that nobody reads", "/data_base64", json!(STANDARD.encode(token)), "/data_base64"),
        (
            "in data that could be read",
            "/data_base64",
            json!(STANDARD.encode(r#"{"dbPassword":"hunter2"}"#)),
            "/data_base64",
        ),
        ("as the slug", "/data/project/slug", json!("glpat-hunter2hunter2hunter2"), "/data/project/slug"),
        ("as the repository", "/data/repository/name", json!(format!("acme/{token}")), "/data/repository/name"),
        ("as the branch", "/data/repository/branch", json!(token), "/data/repository/branch"),
        ("as the server", "/data/server/handle", json!(token), "/data/server/handle"),
    ]
}

#[test]
fn a_secret_in_plain_text_is_found_wherever_it_stands_and_never_told() {
    for (name, pointer, value, found) in plain_texts() {
        let mut event = sample();
        put(&mut event, pointer, value);
        let rejection = refused(&event);
        assert_eq!((rejection.code, rejection.pointer.as_deref()), (ErrorCode::PlaintextSecret, Some(found)), "{name}");
        let told = format!("{rejection:?}").to_lowercase();
        assert!(!told.contains("hunter2"), "{name}: {told}");
        assert!(["/id", "/source"].contains(&pointer) || rejection.known.deployment_id().is_some(), "{name}");
    }
}

#[test]
fn a_secret_is_found_in_what_can_not_be_read_as_well() {
    let token = "ghp_hunter2hunter2hunter2hunter2hunter2hu";
    let mut large = sample();
    large["data"]["variables"]["X"] = json!("x".repeat(1_100_000));
    large["data"]["correlation"] = json!({ "a": token, "b": 7 });
    let large = large.to_string();
    let twice = sample().to_string().replacen("\"data\":", &format!("\"data\":\"{token}\",\"data\":"), 1);
    let escaped = format!("{{\"a\":\"\\u0067{}\",}}", &token[1..]);
    for body in [&format!("not json, {token}"), &escaped, &large, &twice] {
        let rejection = read(body.as_bytes(), &Metadata::default()).expect_err("refused");
        assert_eq!(rejection.code, ErrorCode::PlaintextSecret, "{rejection}");
        assert!(!format!("{rejection:?}").contains("hunter2"), "{rejection:?}");
    }
    let rejection = read(large.as_bytes(), &Metadata::default()).expect_err("refused");
    assert_eq!(json!(rejection.known.correlation), json!({ "a": "(withheld)", "b": 7 }));
    for (name, value) in [("x-note", token), (token, "x")] {
        let headers = [(name.to_owned(), value.to_owned())].into();
        let metadata = Metadata { headers, ..Metadata::default() };
        let rejection = read(sample().to_string().as_bytes(), &metadata).expect_err("refused");
        assert_eq!(rejection.code, ErrorCode::PlaintextSecret, "{name}");
        assert!(!format!("{rejection:?}").contains("hunter2") && rejection.known.deployment_id().is_some());
    }
}

#[test]
fn a_secret_in_plain_text_is_told_nowhere_else_either() {
    for (field, value) in [
        ("secrets", json!({ "A": "hunter2-hunter2" })),
        ("secrets", json!("hunter2-hunter2")),
        ("variables", json!({ "DB_PASSWORD": "hunter2-hunter2" })),
        ("registry", json!({ "password": { "reference": "r", "x": "hunter2-hunter2" } })),
        ("auth", json!([{ "dbPassword": ["hunter2-hunter2"] }])),
    ] {
        let mut event = sample();
        event["data"][field] = value;
        event["data"]["correlation"] = json!({ "x": ["see hunter2-hunter2"], "hunter2-hunter2": 1, "y": 7 });
        event["data"]["project"]["slug"] = "hunter2-hunter2".into();
        event["traceparent"] = "hunter2-hunter2".into();
        let rejection = refused(&event);
        assert_eq!(rejection.code, ErrorCode::PlaintextSecret, "{field}");
        assert!(!format!("{rejection:?}").contains("hunter2"), "{field}: {rejection:?}");
        assert_eq!(json!(rejection.known.correlation), json!({ "x": "(withheld)", "y": 7 }), "{field}");
    }
    let mut event = sample();
    event["data_base64"] = json!("aGk=");
    let rejection = refused(&event);
    assert_eq!((rejection.code, rejection.pointer.as_deref()), (ErrorCode::InvalidField, Some("/data_base64")));
}

#[test]
fn a_field_that_is_named_twice_can_not_carry_what_nobody_checks() {
    let plain = r#""secrets":{"TELEGRAM_BOT_TOKEN":"hunter2"},"secrets":"#;
    let body = sample().to_string().replacen("\"secrets\":", plain, 1);
    let rejection = read(body.as_bytes(), &Metadata::default()).expect_err("refused");
    assert_eq!(rejection.code, ErrorCode::InvalidField);
    assert!(rejection.message.contains("names a field twice"), "{rejection}");
}

#[test]
fn what_is_echoed_has_its_limit_and_what_only_looks_odd_passes() {
    for (pointer, value) in [
        ("/data/correlation", json!({ "note": "x".repeat(17 * 1024) })),
        ("/subject", json!("x".repeat(201))),
        ("/subject", json!("a\nb")),
    ] {
        let mut event = sample();
        put(&mut event, pointer, value);
        let rejection = refused(&event);
        assert_eq!((rejection.code, rejection.pointer.as_deref()), (ErrorCode::InvalidField, Some(pointer)));
        assert!(rejection.known.correlation.is_empty() || pointer == "/subject");
    }
    for (pointer, value) in [
        (
            "/data/correlation",
            json!({ "missing_secret": "API_TOKEN", "chat": "123456789:550e8400-e29b-41d4-a716-446655440000" }),
        ),
        ("/data/correlation", json!({ "token": "opaque", "trace": "x".repeat(8 * 1024) })),
        (
            "/data/variables",
            json!({ "SUPABASE_ANON_KEY": "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJlLW9m", "LOCALE": "de-DE" }),
        ),
        ("/data/extra", json!({ "secret_name": "API_TOKEN", "token_type": "bot", "password": null, "secrets": 3 })),
        (
            "/data/variables",
            json!({
                "DATABASE_URL": "postgres://app:${POSTGRES_PASSWORD}@db/app", "TOKEN_TTL": "3600",
                "PASSWORD_MIN_LENGTH": "8", "TOPIC": "arn:aws:sns:eu-west-1:123456789012:OrderServiceProductionNotifications1"
            }),
        ),
        ("/data/extra", json!({ "nextPageToken": "Zm9vYmFyYmF6", "continuation_token": 3, "token": 0 })),
        ("/subject", json!("shop")),
    ] {
        let mut event = sample();
        put(&mut event, pointer, value.clone());
        assert!(read_event(&event).is_ok(), "{pointer} = {value}: {:?}", read_event(&event));
    }
}
