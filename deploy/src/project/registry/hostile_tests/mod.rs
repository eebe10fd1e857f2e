//! Tricks of a registry that means harm: each ends with a typed code, in bounded time and after bounded bytes; the
//! credential reaches nobody else, and nothing of the registry's text is repeated.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod tricks;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use slipway_protocol::ErrorCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use self::answers::{AnswerWith, Asked, HostileReply};
use self::tricks::{TRICKS, not_found, reply};
use super::connection::RegistryConnection;
use super::tests::{config, digest_of, robot};
use super::*;

const REPOSITORY: &str = "acme/shop-backend";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const PASSWORD: &str = "s3cret-pass-7c1d";
const KIB: usize = 1024;

struct Served {
    asked: AtomicUsize,
    bytes: AtomicUsize,
    authorizations: Mutex<Vec<String>>,
}

async fn serve(listener: TcpListener, trick: AnswerWith, elsewhere: String, served: Arc<Served>) {
    let own = listener.local_addr().unwrap().to_string();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, trick, own.clone(), elsewhere.clone(), served.clone()));
    }
}

async fn answer(mut stream: TcpStream, trick: AnswerWith, own: String, elsewhere: String, served: Arc<Served>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let mut first = head.split(' ');
    let header = |line: &'_ str| {
        Some(line.split_once(": ")?).filter(|(n, _)| n.eq_ignore_ascii_case("authorization")).map(|(_, v)| v.to_owned())
    };
    let authorization = head.lines().find_map(header);
    served.asked.fetch_add(1, Ordering::Relaxed);
    served.authorizations.lock().unwrap().extend(authorization.clone());
    let asked = Asked {
        method: first.next().unwrap(),
        path: first.next().unwrap(),
        authorization: authorization.as_deref(),
        own: &own,
        elsewhere: &elsewhere,
    };
    let (begin, rest, pause) = match trick(&asked) {
        HostileReply::Bytes(bytes) => (bytes, &b""[..], Duration::ZERO),
        HostileReply::Endless(begin, rest) => (begin, rest, Duration::ZERO),
        HostileReply::Drip(begin) => (begin, &b" "[..], Duration::from_millis(50)),
    };
    let mut piece = begin.as_slice();
    while stream.write_all(piece).await.is_ok() {
        served.bytes.fetch_add(piece.len(), Ordering::Relaxed);
        piece = rest;
        if rest.is_empty() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// A place that answers nothing useful, and notes who shows a credential.
async fn other_server() -> (String, Arc<Served>) {
    start(|asked| if asked.path == "/ok" { reply("200 OK", "", b"no token") } else { not_found() }, String::new()).await
}

async fn start(trick: AnswerWith, elsewhere: String) -> (String, Arc<Served>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = Arc::new(Served { asked: 0.into(), bytes: 0.into(), authorizations: Mutex::default() });
    tokio::spawn(serve(listener, trick, elsewhere, served.clone()));
    (address, served)
}

fn client(address: &str, patience: Duration) -> RegistryClient {
    let connection = RegistryConnection::new(&config(address), patience).unwrap();
    RegistryClient { connection }.with_credential(Some(robot(PASSWORD)))
}

#[tokio::test]
async fn no_trick_of_a_registry_costs_more_than_its_own_image() {
    let (commit, branch) = (COMMIT.parse().unwrap(), "feature/pay".parse().unwrap());
    for (what, code, part, trick) in TRICKS {
        let (elsewhere, noted) = other_server().await;
        let (address, served) = start(*trick, elsewhere).await;
        // What is never complete isn't waited for as long as usual.
        let patience = if what.contains("drip") { Duration::from_millis(500) } else { TIMEOUT };
        let began = Instant::now();
        let error = client(&address, patience).find(&address, REPOSITORY, &commit, &branch).await.unwrap_err();
        assert_eq!(error.code, *code, "{what}: {error}");
        assert!(error.message.contains(part), "{what}: {error}");
        assert!(began.elapsed() < patience * 8, "{what} took {:?}", began.elapsed());
        let (asked, bytes) = (served.asked.load(Ordering::Relaxed), served.bytes.load(Ordering::Relaxed));
        assert!(asked <= 12 && bytes < 12 * KIB * KIB, "{what}: asked {asked} times, sent {bytes} bytes");
        let shown = noted.authorizations.lock().unwrap().clone();
        assert!(shown.is_empty(), "{what}: another server was shown {shown:?}");
        let said = error.message.as_str();
        assert!(!said.chars().any(char::is_control) && !said.contains("pwned") && said.len() < 500, "{what}: {said:?}");
        assert!(!said.contains(PASSWORD) && !said.contains("cm9ib3Q6"), "{what}: {said}");
        assert!(error.retry_after.is_none_or(|wait| wait <= Duration::from_secs(3600)), "{what}");
    }
}

#[tokio::test]
async fn a_recorded_image_is_not_found_under_another_digest() {
    let other: AnswerWith = |asked| {
        let digest = format!("Docker-Content-Digest: {}\r\n", digest_of(&json!({})));
        if asked.method == "HEAD" { reply("200 OK", &digest, b"") } else { not_found() }
    };
    let (address, _) = start(other, String::new()).await;
    let recorded = RecordedImage { digest: format!("sha256:{}", "ab".repeat(32)), on_server: false };
    let (commit, branch) = (COMMIT.parse().unwrap(), "main".parse().unwrap());
    let error =
        client(&address, TIMEOUT).find_recorded(&address, REPOSITORY, &commit, &branch, &recorded).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RegistryUnavailable);
    assert!(error.message.contains("another manifest"), "{error}");
}
