//! The door for webhooks, knocked at over real sockets: what is signed has branches looked at, and nothing else does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::{Value, json};
use slipway_protocol::decode;
use slipway_worker::process::Drain;
use slipway_worker::pushes::WebhookServer;
use slipway_worker::store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

const SECRET: &str = "a secret of GitHub's";

struct Door {
    address: SocketAddr,
    store: Store,
    drain: Drain,
    database: TestDatabase,
}

impl Door {
    /// A door, and a project whose branch isn't due.
    async fn open() -> Self {
        let (database, store) = TestDatabase::migrated("w").await;
        let body = request(|e| {
            e["data"]["project"] = serde_json::json!({ "id": uuid::Uuid::new_v4(), "slug": "corner-shop" });
            e["data"]["repository"]["pushes_deployed_by"] = "webhook".into();
        });
        let incoming = incoming(&body);
        store.accept(&decode(&body, &incoming.metadata()).unwrap(), &incoming).await.unwrap();
        store.next_look().await.unwrap().unwrap();
        let rest = "UPDATE watched_branches SET looking = false, look_at = now() + interval '1 hour'";
        database.sql.execute(rest, &[]).await.unwrap();
        let drain = Drain::new(Duration::from_secs(1));
        let server = WebhookServer::bind("127.0.0.1:0".parse().unwrap(), &SECRET.into()).unwrap();
        let address = server.address();
        tokio::spawn(server.run(store.clone(), drain.clone()));
        Self { address, store, drain, database }
    }

    /// The status of the answer to a request with these headers.
    async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!(
            "POST /github HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Who is refused by its headers may find the connection closed.
        let _ = stream.write_all(body).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap()
    }

    async fn hook(&self, id: &str, event: &str, body: &Value) -> u16 {
        let body = body.to_string();
        let signature = sign(SECRET, body.as_bytes());
        let headers = [("X-GitHub-Event", event), ("X-GitHub-Delivery", id), ("X-Hub-Signature-256", &signature)];
        self.post(&headers, body.as_bytes()).await
    }

    async fn due(&self) -> bool {
        self.database.count("SELECT count(*) FROM watched_branches WHERE look_at <= now()").await == 1
    }

    async fn rows(&self) -> i64 {
        self.database.count("SELECT count(*) FROM webhook_deliveries").await
    }
}

fn sign(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    format!("sha256={}", tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn push() -> Value {
    json!({ "ref": "refs/heads/main", "after": "b".repeat(40), "repository": { "full_name": "Acme-Org/corner-shop" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_signed_with_the_secret_has_a_branch_looked_at() {
    let door = Door::open().await;
    let body = push().to_string();
    let (good, wrong) = (sign(SECRET, body.as_bytes()), sign("another secret", body.as_bytes()));
    let named = [("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "1")];
    let signed = |signature| [named[0], named[1], ("X-Hub-Signature-256", signature)];
    assert_eq!(door.post(&named, body.as_bytes()).await, 401);
    assert_eq!(door.post(&signed(&wrong), body.as_bytes()).await, 401);
    assert_eq!(door.post(&signed("sha256=00"), body.as_bytes()).await, 401);
    assert_eq!(door.post(&signed(&good), body.replace("main", "maim").as_bytes()).await, 401);
    let signature = ("X-Hub-Signature-256", good.as_str());
    let odd = "x".repeat(101);
    for headers in [
        vec![signature],
        vec![signature, ("X-GitHub-Event", "push")],
        vec![signature, ("X-GitHub-Delivery", "1")],
        vec![signature, ("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "")],
        vec![signature, ("X-GitHub-Event", "pu sh"), ("X-GitHub-Delivery", "1")],
        vec![signature, ("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "1' OR 1=1")],
        vec![signature, ("X-GitHub-Event", "push"), ("X-GitHub-Delivery", &odd)],
    ] {
        assert_eq!(door.post(&headers, body.as_bytes()).await, 400, "{headers:?}");
    }
    assert_eq!((door.due().await, door.rows().await), (false, 0));
    assert_eq!(door.post(&signed(&good), body.as_bytes()).await, 202);
    assert_eq!((door.due().await, door.rows().await), (true, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_or_was_here_before_is_taken_and_does_nothing() {
    let door = Door::open().await;
    assert_eq!(door.hook("1", "ping", &json!({ "zen": "Keep it logically awesome." })).await, 200);
    assert_eq!(door.hook("2", "issues", &push()).await, 202);
    assert_eq!(door.hook("3", "push", &json!({ "ref": "refs/tags/v1" })).await, 202);
    assert_eq!(door.hook("4", "push", &json!(["not", "an", "object"])).await, 400);
    assert_eq!((door.due().await, door.rows().await), (false, 0));
    assert_eq!(door.hook("5", "push", &push()).await, 202);
    assert!(door.store.next_look().await.unwrap().is_some());
    assert_eq!(door.hook("5", "push", &push()).await, 202);
    assert_eq!(door.hook("6", "push", &push()).await, 202, "a replay under another id");
    assert!(door.store.next_look().await.unwrap().is_none());
    assert_eq!((door.due().await, door.rows().await), (false, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cant_be_stored_is_answered_so_that_github_shows_it() {
    let door = Door::open().await;
    door.database.sql.execute("ALTER TABLE webhook_deliveries RENAME TO gone", &[]).await.unwrap();
    assert_eq!(door.hook("1", "push", &push()).await, 503);
    door.database.sql.execute("ALTER TABLE gone RENAME TO webhook_deliveries", &[]).await.unwrap();
    assert_eq!(door.hook("1", "push", &push()).await, 202);
    assert!(door.due().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_or_too_much_gets_an_answer_and_holds_nobody_up() {
    let door = Door::open().await;
    let signature = format!("sha256={}", "0".repeat(64));
    let head = format!(
        "POST /github HTTP/1.1\r\nhost: h\r\nx-github-event: push\r\nx-github-delivery: 1\r\n\
         x-hub-signature-256: {signature}\r\n"
    );
    let begun = Instant::now();
    let mut slow = TcpStream::connect(door.address).await.unwrap();
    slow.write_all(format!("{head}content-length: 100\r\n\r\nslow").as_bytes()).await.unwrap();
    let mut large = TcpStream::connect(door.address).await.unwrap();
    large.write_all(format!("{head}content-length: 30000000\r\n\r\n").as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..26 {
        if large.write_all(&piece).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    large.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(door.hook("2", "push", &push()).await, 202);
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "GitHub gives up after ten seconds: {took:?}");
    door.drain.begin();
    while TcpStream::connect(door.address).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it takes webhooks though the drain has begun");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_webhook_needs_no_place_among_the_large_ones_that_come_slowly() {
    let door = Door::open().await;
    let head = format!(
        "POST /github HTTP/1.1\r\nhost: h\r\nx-github-event: push\r\nx-github-delivery: 1\r\n\
         x-hub-signature-256: sha256={}\r\n",
        "0".repeat(64)
    );
    let mut slow = Vec::new();
    for sent in [4, 4, 4, 4, 4, 4, 300_000, 300_000, 300_000, 300_000] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(format!("{head}content-length: 1000000\r\n\r\n").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        slow.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    assert_eq!(door.hook("2", "push", &push()).await, 202);
    assert!(begun.elapsed() < Duration::from_secs(4), "GitHub waited {:?} for others", begun.elapsed());
    // All places for large ones are taken, and become free.
    let mut large = push();
    large["more"] = "x".repeat(300_000).into();
    assert_eq!(door.hook("3", "push", &large).await, 202);
}
