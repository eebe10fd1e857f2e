//! Tricks of a producer, one a row: each is decoded and judged for real, and leaves no secret anywhere.

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use slipway_protocol::{Change, ErrorCode};

use super::{ANOTHER, HOST_KEY, Keys, PROJECT, SECRET, enlist, for_server, keys, keys_of};
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, migrated, outgoing, report};
use crate::services::vhost;

const TOKEN: &str = "ghp_hunter2hunter2hunter2hunter2hunter2hu";

type Trick = (&'static str, ErrorCode, Vec<u8>);

fn tricks(keys: &Keys) -> Vec<Trick> {
    use ErrorCode as E;
    let with = |pointer: &'static str, value: Value| {
        for_server(move |event| {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            event.pointer_mut(parent).unwrap()[field] = value;
        })
    };
    let secret = |name: &str, source: Value| with("/data/secrets", json!({ name: source }));
    let reference = |name: &str| secret("API_TOKEN", json!({ "reference": name }));
    let beside = |mut source: Value, field: &str, value: Value| {
        source[field] = value;
        secret("API_TOKEN", source)
    };
    let own = |name: &str| keys.boxed(PROJECT, name);
    let repeated = |edit: fn(&mut Value)| {
        let source = own("API_TOKEN");
        for_server(move |event| {
            event["data"]["secrets"] = json!({ "API_TOKEN": source });
            edit(event);
        })
    };
    let twice = format!(r#""secrets":{{"A":"{SECRET}"}},"secrets":{{}},"modules":"#);
    let twice = String::from_utf8(for_server(|_| {})).unwrap().replacen("\"modules\":", &twice, 1);
    let server = json!({ "handle": "vps-9", "address": "203.0.113.66", "host_key": HOST_KEY });
    let other_key = json!({ "handle": "vps-1", "host_key": HOST_KEY.replace("FakeFake", "EvilEvil") });
    let plain = E::PlaintextSecret;
    vec![
        ("a server of its own", E::ServerNotInInventory, with("/data/server", server)),
        ("a server nobody knows", E::UnknownServer, with("/data/server", json!({ "handle": "vps-9" }))),
        ("another host key", E::HostKeyMismatch, with("/data/server", other_key)),
        ("another project's box", E::SecretNotForProject, secret("A", keys.boxed(ANOTHER, "A"))),
        ("another variable's box", E::SecretNotForProject, secret("A", own("B"))),
        ("a box for nobody", E::SecretNotForProject, secret("A", keys.unbound())),
        ("another project's mounted secret", E::UnknownSecretReference, reference("foreign")),
        ("another owner's mounted secret", E::UnknownSecretReference, reference("evils")),
        ("everybody's mounted secret", E::UnknownSecretReference, reference("flat")),
        ("a way out of the folder", E::InvalidField, reference("../foreign")),
        ("a folder as a secret", E::UnknownSecretReference, reference("projects")),
        ("a value beside a reference", plain, beside(json!({ "reference": "own" }), "value", json!(SECRET))),
        ("a value beside a box", plain, beside(own("API_TOKEN"), "plain", json!(SECRET))),
        ("a token as a reference", plain, reference(TOKEN)),
        ("a token as a name", plain, secret(TOKEN, json!({ "reference": "own" }))),
        ("a token in correlation", plain, with("/data/correlation", json!({ "a": [{ "b": TOKEN }] }))),
        ("a token as the subject", plain, with("/subject", json!(TOKEN))),
        ("a token as the id", plain, with("/id", json!(TOKEN))),
        ("a token in an unknown field", plain, with("/data/future", json!({ "x": TOKEN }))),
        ("a password in an unknown field", plain, with("/data/dbPassword", json!(SECRET))),
        ("a field that is named twice", E::InvalidField, twice.into_bytes()),
        ("a secret once more in correlation", plain, repeated(|e| e["data"]["correlation"]["x"] = SECRET.into())),
        (
            "a secret once more, for nobody's server",
            plain,
            repeated(|e| {
                e["data"]["server"]["handle"] = "vps-9".into();
                e["data"]["correlation"]["x"] = SECRET.into();
            }),
        ),
        ("a secret once more in a field", plain, repeated(|e| e["data"]["future"] = json!([SECRET]))),
        ("a secret once more as the subject", plain, repeated(|e| e["subject"] = SECRET.into())),
        ("a secret once more as the source", plain, repeated(|e| e["source"] = format!("/a/{SECRET}").into())),
        ("a secret once more as the id", plain, repeated(|e| e["id"] = format!("run-{SECRET}").into())),
        ("a secret once more as the trace", plain, repeated(|e| e["traceparent"] = SECRET.into())),
        (
            "a secret once more, beside one that nobody knows",
            plain,
            repeated(|e| {
                e["data"]["secrets"]["B"] = json!({ "reference": "nope" });
                e["data"]["correlation"]["x"] = SECRET.into();
            }),
        ),
        ("a source of Slipway's", E::SourceNotAllowed, with("/source", json!("/slipway/pushes/acme/shop"))),
        ("more correlation than fits", E::InvalidField, with("/data/correlation", json!({ "x": "y".repeat(17_000) }))),
        ("no event, but a token", plain, format!("token={TOKEN}").into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trick_of_a_producer_is_refused_by_its_name_and_tells_no_secret() {
    let keys = keys();
    let tricks = tricks(&keys);
    let ((database, store), amqp) = (migrated("w").await, vhost());
    enlist(&store).await;
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|call| async move {
        assert_eq!(call.work.target.address.as_str(), "198.51.100.1", "the inventory's address counts");
        assert!(call.work.secrets.values().all(|value| value.expose_secret() == SECRET));
        Ok(report(Change::Changed))
    });
    let options = WorkerOptions { credentials: keys_of(&keys), ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), options);
    for (name, code, body) in &tricks {
        outside.publish(body).await;
        let letter = outside.dead_letter().await;
        assert_eq!(letter.headers["dlq-error-code"], code.as_str(), "{name}: {}", letter.headers["dlq-error-message"]);
        assert_eq!(letter.body == *body, *code != ErrorCode::PlaintextSecret, "{name}");
        let kept = *code != ErrorCode::InvalidField || !name.contains("twice");
        assert!(!kept || !holds_secret(&letter.body) && !format!("{:?}", letter.headers).contains("hunter2"), "{name}");
    }
    let headers = [("x-note", TOKEN)];
    outside.publisher.publish(&outgoing(&for_server(|_| {}), &headers)).await.unwrap();
    let letter = outside.dead_letter().await;
    assert_eq!(letter.headers["dlq-error-code"], "plaintext-secret");
    assert!(!letter.headers.contains_key("x-note"), "{:?}", letter.headers);
    assert_eq!(pipeline.attempts(), 0);
    let guessed = "SELECT count(*) FROM deployments WHERE source LIKE '/slipway/pushes/%'";
    assert_eq!(database.count(guessed).await, 0, "nobody takes the ids of pushes");

    // An honest one, with what is its own; and what it says of the server's address is ignored.
    let honest = for_server(|event| {
        event["data"]["server"]["address"] = "203.0.113.66".into();
        event["data"]["secrets"] = json!({ "A": keys.boxed(PROJECT, "A"), "B": { "reference": "own" } });
        event["data"]["correlation"]["missing_secret"] = "A".into();
    });
    outside.publish(&honest).await;
    let succeeded = loop {
        let result = outside.result().await;
        assert!(!result.to_string().contains("hunter2"), "{result}");
        if result["data"]["outcome"] == "succeeded" {
            break result;
        }
    };
    assert_eq!(succeeded["data"]["correlation"]["missing_secret"], "A");
    for table in ["deployments", "outbox", "dead_letters"] {
        let body = "position('hunter2'::bytea IN coalesce(body, ''::bytea)) > 0";
        let twice = if table == "dead_letters" { "AND code <> 'invalid-field'" } else { "AND true" };
        let twice = if table == "outbox" { "AND exchange <> 'slipway.dead-letters'" } else { twice };
        let found = format!("SELECT count(*) FROM {table} t WHERE (t::text LIKE '%hunter2%' OR {body}) {twice}");
        assert_eq!(database.count(&found).await, 0, "{table}");
    }
    worker.stop().await;
}

fn holds_secret(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("hunter2")
}
