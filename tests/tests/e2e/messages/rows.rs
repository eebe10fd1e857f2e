//! The table of bad messages: what is sent, the code that it must get, and the secrets that must not be seen again.

use serde_json::{Value, json};
use slipway_protocol::ErrorCode::{self, *};
use slipway_protocol::MAX_MESSAGE_BYTES;
use slipway_tests::stack::Stack;

use super::message::{BadMessage, SECRET, SHELL, SOURCE};
use super::transport;

/// All of them.
pub fn all(stack: &Stack) -> Vec<BadMessage> {
    let mut rows = unreadable();
    rows.extend(envelopes(stack));
    rows.extend(fields(stack));
    rows.extend(secrets(stack));
    rows.extend(circumstances(stack));
    rows.extend(transport::all(stack));
    rows
}

fn unreadable() -> Vec<BadMessage> {
    let deep = "[".repeat(100_000);
    vec![
        BadMessage::opaque("empty", NotJson, ""),
        BadMessage::opaque("text", NotJson, "hello"),
        BadMessage::opaque("not UTF-8", NotJson, b"\xff\xfe{\x00}".to_vec()),
        BadMessage::opaque("cut off", NotJson, r#"{"specversion":"1.0","id":"#),
        BadMessage::opaque("a lone surrogate", NotJson, r#"{"id":"\ud800"}"#),
        BadMessage::opaque("nested deeply", NotJson, deep),
        BadMessage::opaque("an array", NotACloudEvent, "[1, 2]"),
        BadMessage::opaque("a number", NotACloudEvent, "42"),
        BadMessage::opaque("no CloudEvent", NotACloudEvent, r#"{"project": "shop"}"#),
        BadMessage::opaque("5 MB", MessageTooLarge, vec![b'x'; 5_000_000]),
        BadMessage::opaque("1 byte too large", MessageTooLarge, vec![b' '; MAX_MESSAGE_BYTES + 1]),
    ]
}

fn envelopes(stack: &Stack) -> Vec<BadMessage> {
    let missing = ["specversion", "id", "source", "type", "data"].map(|name| {
        let code = if name == "data" { MissingField } else { NotACloudEvent };
        BadMessage::event(stack, &format!("no {name}"), code, |event| {
            event.as_object_mut().expect("an object").remove(name);
        })
    });
    let edited = [
        ("unknown type", "/type", json!("slipway.project.forget.v1"), UnsupportedType),
        ("our own type", "/type", json!("slipway.deployment.result.v1"), UnsupportedType),
        ("unknown version", "/type", json!("slipway.project.ready.v9"), UnsupportedVersion),
        ("specversion 0.3", "/specversion", json!("0.3"), UnsupportedVersion),
        ("id with control characters", "/id", json!("a\u{1b}[2Jb"), InvalidField),
        ("id of 201 bytes", "/id", json!("i".repeat(201)), InvalidField),
        ("source that is a list", "/source", json!([SOURCE]), InvalidField),
        ("time that is none", "/time", json!("yesterday"), InvalidField),
        ("time before any calendar", "/time", json!("-009998-01-01T00:00:00Z"), InvalidField),
        ("XML", "/datacontenttype", json!("text/xml"), InvalidField),
        ("data of text", "/data", json!("shop"), InvalidField),
        ("5 MB in a variable", "/data/variables/GREETING", json!("x".repeat(5_000_000)), MessageTooLarge),
        ("NUL in a field that is kept", "/subject", json!("a\u{0}b"), InvalidField),
    ];
    missing.into_iter().chain(edits(stack, edited)).collect()
}

fn edits<const N: usize>(stack: &Stack, table: [(&str, &str, Value, ErrorCode); N]) -> Vec<BadMessage> {
    let row = |(name, pointer, value, code): (&str, &str, Value, ErrorCode)| {
        BadMessage::event(stack, name, code, |event| {
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            event.pointer_mut(parent).expect("the parent is there")[field] = value;
        })
    };
    table.into_iter().map(row).collect()
}

fn fields(stack: &Stack) -> Vec<BadMessage> {
    const REQUIRED: [&str; 13] = [
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
    // Every text that goes further than into a log.
    const TEXTS: [&str; 10] = [
        "/data/project/slug",
        "/data/repository/name",
        "/data/repository/commit",
        "/data/repository/branch",
        "/data/server/handle",
        "/data/server/address",
        "/data/server/ssh_user",
        "/data/server/host_key",
        "/data/allocations/0/service",
        "/data/modules/0",
    ];
    let mut rows = Vec::new();
    for pointer in REQUIRED {
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        rows.push(BadMessage::event(stack, &format!("no {pointer}"), MissingField, |event| {
            event.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(field);
        }));
    }
    for pointer in TEXTS {
        for (kind, bad) in [("shell", SHELL), ("path", "../../../etc/cron.d/x"), ("option", "--privileged")] {
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            rows.push(BadMessage::event(stack, &format!("{kind} in {pointer}"), InvalidField, |event| {
                let parent = event.pointer_mut(parent).expect("the parent is there");
                match parent {
                    Value::Array(items) => items[0] = json!(bad),
                    other => other[field] = json!(bad),
                }
            }));
        }
    }
    rows.extend(edits(
        stack,
        [
            ("shell in a variable's name", "/data/variables", json!({ SHELL: "x" }), InvalidField),
            ("PORT as a variable", "/data/variables", json!({ "PORT": "1" }), InvalidField),
            ("a loader's variable", "/data/variables", json!({ "LD_PRELOAD": "/tmp/x.so" }), InvalidField),
            ("shell in a secret's name", "/data/secrets", json!({ SHELL: { "reference": "x" } }), InvalidField),
            ("a reference with a path", "/data/secrets", json!({ "A": { "reference": "../key" } }), InvalidField),
            ("a port of 0", "/data/server/ssh_port", json!(0), InvalidField),
            ("a port of 65536", "/data/server/ssh_port", json!(65_536), InvalidField),
            ("a project id of text", "/data/project/id", json!("shop"), InvalidField),
            ("no allocations", "/data/allocations", json!([]), InvalidField),
            ("no modules", "/data/modules", json!([]), InvalidField),
            ("no module for the web", "/data/modules", json!(["tg_bot"]), InvalidField),
            ("a negative sequence", "/data/sequence", json!(-1), InvalidField),
            ("NUL in correlation", "/data/correlation", json!({ "a\u{0}": "\u{0}" }), InvalidField),
        ],
    ));
    rows
}

fn secrets(stack: &Stack) -> Vec<BadMessage> {
    let token = "ghp_0123456789abcdefghij0123456789abcdef";
    let url = format!("postgres://shop:{SECRET}@db/shop");
    let bot = "987654321:AAGxyzTcvCH1vGWJxfSeofSAs0K5PALDsaw1";
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nc3RvbGVu";
    let plain = [
        ("as a secret", "/data/secrets", json!({ "BOT_TOKEN": SECRET })),
        ("wrapped as a value", "/data/secrets", json!({ "BOT_TOKEN": { "value": SECRET } })),
        ("in a list", "/data/secrets", json!({ "BOT_TOKEN": [SECRET] })),
        ("in secrets that are a text", "/data/secrets", json!(SECRET)),
        ("as a variable", "/data/variables", json!({ "DB_PASSWORD": SECRET })),
        ("as a URL's password", "/data/variables", json!({ "DATABASE_URL": url })),
        ("as a GitHub token", "/data/variables", json!({ "GREETING": token })),
        ("as a bot's token", "/data/variables", json!({ "GREETING": bot })),
        ("as a private key", "/data/variables", json!({ "GREETING": key })),
        ("beside a reference", "/data/secrets", json!({ "A": { "reference": "x", "value": SECRET } })),
        ("in correlation", "/data/correlation", json!({ "chat": [bot] })),
        ("as a secret's name", "/data/secrets", json!({ token: { "reference": "x" } })),
    ];
    let mut rows = Vec::new();
    for (name, pointer, value) in plain {
        let texts = [SECRET, token, bot, "c3RvbGVu"].into_iter().filter(|text| value.to_string().contains(text));
        let texts: Vec<&str> = texts.collect();
        let [row] = edits(stack, [(name, pointer, value.clone(), PlaintextSecret)]).try_into().ok().expect("one");
        rows.push(texts.into_iter().fold(row, BadMessage::holding));
    }
    // Whatever else is wrong with the event: what matters is that the secret has leaked.
    let also: [(&str, &str); 3] = [("a bad slug", "/data/project/slug"), ("a bad type", "/type"), ("no id", "/id")];
    for (name, pointer) in also {
        let row = BadMessage::event(stack, &format!("plain text and {name}"), PlaintextSecret, |event| {
            event["data"]["secrets"] = json!({ "BOT_TOKEN": { "value": SECRET } });
            *event.pointer_mut(pointer).expect("it is there") = json!("");
        });
        rows.push(row.holding(SECRET));
    }
    // A secret in a wrong field gets the field's error, which doesn't repeat it.
    let misplaced = |name: &str, pointer: &str| {
        let [row] =
            edits(stack, [(name, pointer, json!(SECRET.to_uppercase()), InvalidField)]).try_into().ok().expect("one");
        row
    };
    rows.push(misplaced("a secret as slug", "/data/project/slug").holding(&SECRET.to_uppercase()));
    rows.push(misplaced("a secret as commit", "/data/repository/commit").holding(&SECRET.to_uppercase()));
    rows
}

fn circumstances(stack: &Stack) -> Vec<BadMessage> {
    let sealed = stack.sealed(SECRET).expect("it can be sealed");
    let box_text = sealed["sealed"]["sealed_box"].as_str().expect("text").to_owned();
    let other = json!({ "A": { "sealed": { "key_id": "retired", "sealed_box": box_text } } });
    let flipped: String = box_text.chars().map(|c| if c == 'A' { 'B' } else { 'A' }).take(80).collect();
    let broken = json!({ "A": { "sealed": { "key_id": slipway_tests::stack::SEALING_KEY, "sealed_box": flipped } } });
    edits(
        stack,
        [
            ("an unknown key", "/data/secrets", other, UnknownSealingKey),
            ("a box that doesn't open", "/data/secrets", broken, SealedSecretUnreadable),
            (
                "an unknown reference",
                "/data/secrets",
                json!({ "A": { "reference": "nobody" } }),
                UnknownSecretReference,
            ),
            ("an expired event", "/data/expires_at", json!("2020-01-01T00:00:00Z"), ExpiredEvent),
            ("an unknown server", "/data/server", json!({ "handle": "vps-unknown" }), UnknownServer),
        ],
    )
}
