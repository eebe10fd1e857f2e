//! Messages whose AMQP properties aren't UTF-8, or are nested deeper than a stack. RabbitMQ doesn't check, other
//! producers can send them, and no strict client can read them. Their bodies are as good as any: each is
//! taken in as usual.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use secrecy::SecretString;
use serde_json::{Value, json};
use slipway_protocol::topology;
use slipway_tests::bus::{EventBus, ReceivedMessage};
use slipway_tests::stack::Stack;
use slipway_tests::world::eventually;
use slipway_worker::amqp::{self, BrokerEndpoints};

/// As many as are delivered together with the unreadable ones.
const OTHERS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(60);

/// A good event, for a server on which nobody listens.
fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/orchestrator", "type": "slipway.project.ready.v1",
        "data": {
            "project": { "id": uuid::Uuid::new_v4(), "slug": id },
            "repository": { "name": format!("acme/{id}"), "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main" },
            "server": { "handle": "nowhere", "address": "127.0.0.1", "ssh_port": 1 },
            "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
            "modules": ["backend"],
        },
    })
}

/// A message as the producer in Python gets it.
fn message(body: &Value, properties: Value, headers: Value) -> Value {
    json!({
        "exchange": topology::REQUESTS, "routing_key": "slipway.project.ready.v1", "properties": properties,
        "headers": headers, "body": body.to_string(), "nested": 0,
    })
}

/// Each with what becomes of it: three are good.
fn unreadable() -> Vec<(Value, &'static str)> {
    let kind = "application/cloudevents+json";
    let good = event;
    let bad = |id| {
        let mut event = event(id);
        event["data"]["modules"] = json!([]);
        event
    };
    let mut elsewhere = message(
        &good("key-and-header"),
        json!({ "content_type": kind, "app_id": "Müller", "type": "prüfen" }),
        json!({ "größe": "groß" }),
    );
    elsewhere["routing_key"] = "slipway.project.ready.v1.für.alle".into();
    let id = |id: &str| {
        json!({ "cloudEvents_specversion": "1.0", "cloudEvents_id": id, "cloudEvents_source": "/orchestrator",
                "cloudEvents_type": "slipway.project.ready.v1" })
    };
    let binary = |name: &str, event: &str| {
        message(&good(name)["data"], json!({ "content_type": "application/json", "message_id": "ü" }), id(event))
    };
    let mut deep = message(&bad("deep"), json!({ "content_type": kind }), json!({}));
    deep["nested"] = 15_000.into();
    let mut stray = message(&json!("stray"), json!({ "app_id": "Müller" }), json!({}));
    stray["exchange"] = topology::DEAD_LETTER_EXCHANGE.into();
    vec![
        (message(&good("content-type"), json!({ "content_type": "ÿþ" }), json!({})), "accepted"),
        (elsewhere, "accepted"),
        (binary("binary", "binary"), "accepted"),
        // Two ids that can't be told apart must not be taken for one.
        (binary("first", "für"), "invalid-field"),
        (binary("second", "fär"), "invalid-field"),
        (message(&bad("refused"), json!({ "content_type": "ÿþ" }), json!({})), "invalid-field"),
        (message(&json!({}), json!({ "content_type": "ÿþ" }), json!({})), "not-a-cloud-event"),
        (deep, "invalid-field"),
        (stray, "unexplained-dead-letter"),
    ]
}

/// Publishes them as that producer does.
fn publish(stack: &Stack, messages: &[&Value]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/unreadable.py");
    let mut python = stack.world.command(&stack.world.cache().python().display().to_string());
    python.arg(script).arg(stack.world.amqp_url()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(json!(messages).to_string().as_bytes()).unwrap();
    let done = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
}

/// What lies in the queue of dead letters: the code by the body.
async fn dead_letters(url: &str, count: usize) -> Result<BTreeMap<Vec<u8>, String>> {
    let link = BrokerEndpoints::new(&SecretString::from(url), None, "reader")?.connect("test").await?;
    let mut subscription = amqp::consume(&link, topology::DEAD_LETTERS_QUEUE, 0).await?;
    let mut letters = BTreeMap::new();
    for _ in 0..count {
        let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
        let letter = next.with_context(|| format!("only {} of {count}", letters.len()))??.context("it ended")?;
        let code = letter.incoming.headers.get("dlq-error-code").cloned().unwrap_or_default();
        ensure!(letters.insert(letter.incoming.body, code).is_none(), "two of one body");
    }
    link.close().await;
    Ok(letters)
}

/// What was first told of each event whose id can be read: `accepted`, or the code with which it's refused.
async fn answers(bus: &mut EventBus, count: usize) -> Result<BTreeMap<String, String>> {
    let mut answers = BTreeMap::new();
    while answers.len() < count {
        let event = bus.event(PATIENCE).await.with_context(|| format!("{answers:?}"))?.json()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let answer = text(&event["data"]["kind"]).or_else(|| text(&event["data"]["failure"]["code"]));
        answers.entry(text(&event["causationid"]).unwrap_or_default()).or_insert(answer.unwrap_or_default());
    }
    Ok(answers)
}

/// What came of it all.
struct Seen {
    /// By event.
    answers: BTreeMap<String, String>,
    /// Codes by the body of each dead letter.
    dead_letters: BTreeMap<Vec<u8>, String>,
    parked: u32,
}

async fn play(stack: &Stack, unreadable: &[(Value, &str)]) -> Result<Seen> {
    let url = stack.world.amqp_url();
    let mut bus = EventBus::connect(url).await?;
    publish(stack, &unreadable.iter().map(|(message, _)| message).collect::<Vec<_>>());
    let others =
        (0..OTHERS).map(|i| ReceivedMessage::structured(event(&format!("other-{i}")).to_string())).collect::<Vec<_>>();
    bus.publish(&others.iter().collect::<Vec<_>>()).await?;
    let (good, refused) = (3, unreadable.len() - 3);
    // Four of the refused have no id that can be read.
    let answers = answers(&mut bus, OTHERS + good + refused - 4).await?;
    let dead_letters = dead_letters(url, refused).await?;
    Ok(Seen { answers, dead_letters, parked: bus.waiting(topology::PARKED_QUEUE).await? })
}

#[test]
fn messages_unreadable_in_amqp_are_taken_in_normally_and_take_no_other_with_them() {
    let mut stack = Stack::start(0).unwrap();
    stack.worker(&[("SLIPWAY_SERVERS_FROM_EVENTS", "true")]).unwrap();
    let unreadable = unreadable();
    let seen = stack.world.block_on(play(&stack, &unreadable)).unwrap().unwrap();

    let answers = &seen.answers;
    for id in ["content-type", "key-and-header", "binary"] {
        assert_eq!(answers.get(id).map(String::as_str), Some("accepted"), "{id}: {answers:?}");
    }
    for id in ["refused", "deep"] {
        assert_eq!(answers.get(id).map(String::as_str), Some("invalid-field"), "{id}: {answers:?}");
    }
    let others = answers.iter().filter(|(id, answer)| id.starts_with("other-") && *answer == "accepted");
    assert_eq!(others.count(), OTHERS, "{answers:?}");
    for (message, code) in unreadable.iter().filter(|(_, code)| *code != "accepted") {
        let body = message["body"].as_str().unwrap();
        // What was published to the dead letters lies there as it came.
        let code = if *code == "unexplained-dead-letter" { "" } else { code };
        assert_eq!(seen.dead_letters.get(body.as_bytes()).map(String::as_str), Some(code), "{body}");
    }
    eventually("the stray dead letter is ingested", PATIENCE, || {
        let listed = stack.slipway(&["dead-letters", "list", "--code", "unexplained-dead-letter", "--json"])?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        ensure!(listed.len() == 1, "{listed:?}");
        Ok(())
    })
    .unwrap();

    // All on the connections that the worker began with.
    assert_eq!(seen.parked, 0);
    assert_eq!(stack.world.get("http://127.0.1.1:9090/readyz").unwrap().status, 200);
    let log = stack.running(0).log().unwrap();
    assert!(!log.contains("is rebuilt") && !log.contains("panicked"), "{log}");
    assert!(log.contains("AMQP properties aren't UTF-8"), "{log}");
}
