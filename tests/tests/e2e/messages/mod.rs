//! What becomes of bad messages, from the queue to everybody who is told: each gets its code, none is lost, none
//! disturbs the others, and no secret is seen again.

mod message;
mod rows;
mod transport;

use std::collections::BTreeMap;
use std::time::Duration;

use self::message::{BadMessage, SOURCE, TRACE, event};
use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, ErrorCode, EventType, schema};
use slipway_tests::bus::{EventBus, ReceivedMessage};
use slipway_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);

/// What came of the messages.
struct Seen {
    dead_letters: Vec<ReceivedMessage>,
    events: Vec<ReceivedMessage>,
}

impl Seen {
    fn results(&self) -> Vec<Value> {
        let result = EventType::Result.as_str();
        self.events.iter().filter(|m| m.event_type.as_deref() == Some(result)).map(|m| m.json().unwrap()).collect()
    }
}

/// Publishes everything at once, waits for all that is to come of it, and then for a last message: whatever is told
/// before that one and isn't expected has been told for nothing.
async fn play(url: &str, stack: &Stack, rows: &[BadMessage], good: &ReceivedMessage) -> Seen {
    let mut bus = EventBus::connect(url).await.unwrap();
    let bad: Vec<&ReceivedMessage> = rows.iter().map(|row| &row.message).collect();
    let all: Vec<&ReceivedMessage> =
        [good, good].into_iter().chain(bad.iter().copied()).chain([bad[0], bad[20], good]).collect();
    bus.publish(&all).await.unwrap();
    let mut seen = Seen { dead_letters: Vec::new(), events: Vec::new() };
    // Those of the bad ones, and that of the good one, whose server can't be reached.
    while seen.dead_letters.len() < rows.len() + 1 {
        match bus.dead_letter(PATIENCE).await {
            Ok(letter) => seen.dead_letters.push(letter),
            Err(error) => panic!("{error:#}; missing: {:?}", missing(rows, &seen)),
        }
    }
    let mut last = event(stack, "the last");
    last["data"]["modules"] = json!([]);
    let last = ReceivedMessage::structured(last.to_string());
    bus.publish(&[&last]).await.unwrap();
    loop {
        let letter = bus.dead_letter(PATIENCE).await.unwrap();
        if letter.body == last.body {
            break;
        }
        seen.dead_letters.push(letter);
    }
    loop {
        let event = bus.event(PATIENCE).await.unwrap();
        if event.json().unwrap()["causationid"] == "the last" {
            return seen;
        }
        seen.events.push(event);
    }
}

fn missing<'r>(rows: &'r [BadMessage], seen: &Seen) -> Vec<&'r str> {
    let came = |row: &&BadMessage| !seen.dead_letters.iter().any(|letter| is_letter_of(letter, row));
    rows.iter().filter(came).map(|row| row.name.as_str()).collect()
}

fn deployment(row: &BadMessage) -> Option<String> {
    row.id.as_ref().map(|id| DeploymentId::of(SOURCE, id, None).to_string())
}

/// A dead letter's id is its deployment's, or follows from the body of one whose ids couldn't be read.
fn is_letter_of(letter: &ReceivedMessage, row: &BadMessage) -> bool {
    let of_body = || uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &row.message.body).to_string();
    letter.message_id.as_deref() == Some(&deployment(row).unwrap_or_else(of_body))
}

/// The dead letter in the queue.
fn check_dead_letter(row: &BadMessage, seen: &Seen, listed: &[Value]) {
    let name = &row.name;
    let letters: Vec<_> = seen.dead_letters.iter().filter(|letter| is_letter_of(letter, row)).collect();
    assert_eq!(letters.len(), 1, "{name}");
    let letter = letters[0];
    assert!(letter.persistent, "{name}");
    // Of what held a secret in plain text nothing is kept but its size.
    let kept = row.code != ErrorCode::PlaintextSecret;
    assert_eq!(letter.body == row.message.body, kept, "{name}");
    assert!(!kept || letter.content_type == row.message.content_type, "{name}");
    let header = |header: &str| letter.headers.get(header).map(String::as_str);
    let expected = [
        ("dlq-reason", Some("rejected")),
        ("dlq-stage", Some("intake")),
        ("dlq-error-code", Some(row.code.as_str())),
        ("dlq-attempts", Some("0")),
        ("dlq-original-exchange", Some("slipway.requests")),
        ("dlq-original-routing-key", Some("slipway.project.ready.v1")),
        ("dlq-worker", Some("worker-0")),
        ("dlq-replay-count", Some("0")),
        ("dlq-deployment-id", deployment(row).as_deref()),
    ]
    .map(|(name, value)| (name, value.map(str::to_owned)));
    for (wanted, value) in expected {
        assert_eq!(header(wanted).map(str::to_owned), value, "{name}: {wanted}");
    }
    for time in ["dlq-first-failed-at", "dlq-last-failed-at"] {
        assert!(header(time).is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()), "{name}: {time}");
    }
    let own = row.message.headers.iter().filter(|(name, _)| *name != "traceparent");
    let (large, kept): (Vec<_>, Vec<_>) = own.partition(|(_, value)| value.len() > 64 * 1024);
    for (own, value) in kept {
        // PostgreSQL can't hold NUL.
        let clean = |text: &str| text.replace('\0', "");
        assert_eq!(header(&clean(own)).map(str::to_owned), Some(clean(value)), "{name}: {own}");
    }
    let left_out = (!large.is_empty()).then(|| large.len().to_string());
    assert_eq!(header("dlq-headers-left-out").map(str::to_owned), left_out, "{name}");
    let traced = row.id.is_some() && row.message.content_type.as_deref() == Some(slipway_protocol::CONTENT_TYPE);
    let trace = header("traceparent").unwrap_or_default().split('-').nth(1).unwrap_or_default();
    assert!(!traced || trace == TRACE, "{name}: {trace}");
    check_listed(row, letter, listed);
}

/// The dead letter's row, as the command line shows it.
fn check_listed(row: &BadMessage, letter: &ReceivedMessage, listed: &[Value]) {
    let name = &row.name;
    let header = |header: &str| letter.headers.get(header).map(String::as_str);
    let row_id = letter.message_id.as_deref().unwrap();
    let kept = listed.iter().find(|kept| kept["id"] == row_id).unwrap_or_else(|| panic!("{name}: not listed"));
    assert_eq!(kept["code"], row.code.as_str(), "{name}");
    assert_eq!(kept["class"], row.code.class().as_str(), "{name}");
    assert_eq!(kept["message"].as_str(), header("dlq-error-message"), "{name}");
    assert_eq!(kept["deployment_id"], json!(deployment(row)), "{name}");
    assert!(!kept["message"].as_str().unwrap().is_empty() && !kept["next_action"].is_null(), "{name}");
}

/// The one result event of a row whose ids could be read.
fn check_result(row: &BadMessage, results: &[Value], schema: &jsonschema::Validator) {
    let name = &row.name;
    let Some(id) = &row.id else { return };
    let of_row: Vec<_> = results.iter().filter(|event| event["causationid"] == id.as_str()).collect();
    assert_eq!(of_row.len(), 1, "{name}");
    let errors: Vec<String> = schema.iter_errors(of_row[0]).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
    let data = &of_row[0]["data"];
    assert_eq!(data["outcome"], "failed", "{name}");
    assert_eq!(data["failure"]["code"], row.code.as_str(), "{name}");
    assert_eq!(data["failure"]["class"], row.code.class().as_str(), "{name}");
    assert_eq!(data["deployment_id"], json!(deployment(row)), "{name}");
}

#[test]
fn every_bad_message_ends_in_a_dead_letter_and_a_result_and_tells_no_secret() {
    let mut stack = Stack::start(0).unwrap();
    // The good one's server can't be reached, and isn't waited for.
    stack.worker(&[("SLIPWAY_SERVER_PATIENCE", "1s"), ("SLIPWAY_SERVERS_FROM_EVENTS", "true")]).unwrap();
    let rows = rows::all(&stack);
    assert!(rows.len() >= 45, "{}", rows.len());
    let distinct: BTreeMap<&[u8], &str> = rows.iter().map(|r| (r.message.body.as_slice(), r.name.as_str())).collect();
    assert_eq!(distinct.len(), rows.len(), "two rows have one body");
    let good = ReceivedMessage::structured(event(&stack, "good").to_string());
    let seen = stack.world.block_on(play(stack.world.amqp_url(), &stack, &rows, &good)).unwrap();

    let listed = stack.slipway(&["dead-letters", "list", "--json", "--limit", "1000"]).unwrap();
    let list: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let results = seen.results();
    let schema = jsonschema::draft202012::new(&schema::of(EventType::Result)).unwrap();
    for row in &rows {
        check_dead_letter(row, &seen, &list);
        check_result(row, &results, &schema);
    }
    check_good(&seen, &good, &results);
    let readable = rows.iter().filter(|row| row.id.is_some()).count();
    assert_eq!((seen.dead_letters.len(), results.len()), (rows.len() + 1, readable + 1), "duplicates tell nothing");
    // The last one is listed as well.
    assert_eq!(list.len(), rows.len() + 2);

    check_secrets(&mut stack, &rows, &seen, &listed);
    ready_and_working(&stack);
}

/// No secret is in what was told. What was recognised as one is in no table and in no list either; a secret that stood
/// where a name belongs can't be recognised, and its message is kept.
fn check_secrets(stack: &mut Stack, rows: &[BadMessage], seen: &Seen, listed: &str) {
    let log = stack.running(0).log().unwrap();
    let told: String = seen.events.iter().map(|event| String::from_utf8_lossy(&event.body).into_owned()).collect();
    let headers: String = seen.dead_letters.iter().map(|letter| format!("{:?}", letter.headers)).collect();
    for secret in rows.iter().flat_map(|row| &row.secrets) {
        for (place, text) in [("log", &log), ("events", &told), ("headers", &headers)] {
            assert!(!text.contains(secret.as_str()), "a secret is in the {place}");
        }
    }
    let recognised = rows.iter().filter(|row| row.code == ErrorCode::PlaintextSecret).flat_map(|row| &row.secrets);
    let recognised: Vec<&str> = recognised.map(String::as_str).collect();
    assert!(recognised.len() >= 10);
    assert!(recognised.iter().all(|secret| !listed.contains(secret)), "a secret is in the list");
    let found = stack.world.block_on(kept(stack.world.database_url(), &recognised)).unwrap();
    assert!(found.is_empty(), "secrets are in {found:?}");
}

/// It was taken in once, tried until its server's circuit opened, and given up with its reason.
fn check_good(seen: &Seen, good: &ReceivedMessage, results: &[Value]) {
    let letters: Vec<_> = seen.dead_letters.iter().filter(|letter| letter.body == good.body).collect();
    assert_eq!(letters.len(), 1);
    let header = |name: &str| letters[0].headers[name].as_str();
    assert_eq!(
        ["dlq-reason", "dlq-stage", "dlq-error-code", "dlq-attempts"].map(header),
        ["exhausted", "preflight", "server-unreachable", "2"]
    );
    let (first, last) = (header("dlq-first-failed-at"), header("dlq-last-failed-at"));
    assert!(first.parse::<jiff::Timestamp>().unwrap() < last.parse::<jiff::Timestamp>().unwrap());
    assert_eq!(results.iter().filter(|event| event["causationid"] == "good").count(), 1);
    let events: Vec<Value> = seen.events.iter().map(|event| event.json().unwrap()).collect();
    let accepted = events.iter().filter(|e| e["causationid"] == "good" && e["data"]["kind"] == "accepted");
    assert_eq!(accepted.count(), 1);
}

/// The tables in which one of `secrets` stands.
async fn kept(url: &str, secrets: &[&str]) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut found = Vec::new();
    for table in ["deployments", "outbox", "dead_letters", "stage_journal"] {
        let body = if table == "stage_journal" { "''" } else { "encode(coalesce(body, ''), 'escape')" };
        let sql = format!("SELECT count(*) FROM {table} t WHERE strpos(t::text, $1) > 0 OR strpos({body}, $1) > 0");
        for secret in secrets {
            let count: i64 = client.query_one(&sql, &[secret]).await.unwrap().get(0);
            if count > 0 {
                found.push(format!("{table} ({count} times)"));
            }
        }
    }
    found
}

fn ready_and_working(stack: &Stack) {
    assert_eq!(stack.world.get("http://127.0.1.1:9090/readyz").unwrap().status, 200);
    let next = ReceivedMessage::structured(event(stack, "after all that").to_string());
    let accepted = stack.world.block_on(async {
        let mut bus = EventBus::connect(stack.world.amqp_url()).await.unwrap();
        bus.publish(&[&next]).await.unwrap();
        loop {
            let event = bus.event(PATIENCE).await.unwrap().json().unwrap();
            if event["causationid"] == "after all that" {
                return event;
            }
        }
    });
    assert_eq!(accepted.unwrap()["data"]["kind"], "accepted");
}
