//! Writing Actions secrets: what is refused, what is known after a cancellation, and what a digest stands for.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde_json::json;
use slipway_deploy::GithubCredential;
use slipway_deploy::github::GithubClient;
use slipway_deploy::secrets::seal;
use slipway_protocol::ErrorCode;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{header, method, path, path_regex};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{config, shop, token_client};

const PUBLIC_KEY: &str = "/repos/acme/Shop.api/actions/secrets/public-key";

async fn secrets_server(public_key: &[u8]) -> MockServer {
    let server = MockServer::start().await;
    let body = json!({ "key_id": "k1", "key": STANDARD.encode(public_key) });
    Mock::given(method("GET"))
        .and(path(PUBLIC_KEY))
        .and(header("authorization", "Bearer ghp_secret"))
        .and(header("x-github-api-version", "2022-11-28"))
        .and(header("accept", "application/vnd.github+json"))
        .respond_with(ResponseTemplate::new(200).set_body_json(body))
        .mount(&server)
        .await;
    server
}

fn desired(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

fn public_key() -> Vec<u8> {
    STANDARD.decode(seal::generate("k").unwrap().1).unwrap()
}

#[tokio::test]
async fn nothing_is_sealed_to_a_key_of_zeros_or_of_the_wrong_length() {
    for bad in [vec![0; 32], vec![5; 31], vec![]] {
        let server = secrets_server(&bad).await;
        let mut digests = BTreeMap::new();
        let put = token_client(&server);
        let error = put
            .put_secrets(&shop(), &desired(&[("A", "x")]), &mut digests, &CancellationToken::new())
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::GithubUnavailable);
        assert!(error.message.contains("not a usable X25519 public key"), "{}", error.message);
        assert!(digests.is_empty());
        assert!(server.received_requests().await.unwrap().iter().all(|r| r.method.as_str() == "GET"));
    }
}

#[tokio::test]
async fn a_key_that_was_read_ahead_is_asked_for_once() {
    let server = secrets_server(&public_key()).await;
    let written = ResponseTemplate::new(201).set_body_json(json!({}));
    Mock::given(method("PUT")).and(path_regex("/[AB]$")).respond_with(written).expect(2).mount(&server).await;
    let client = token_client(&server);
    client.read_key_ahead(&shop()).await;
    let desired = desired(&[("A", "x"), ("B", "y")]);
    client.put_secrets(&shop(), &desired, &mut BTreeMap::new(), &CancellationToken::new()).await.unwrap();
    let asked = server.received_requests().await.unwrap();
    assert_eq!(asked.iter().filter(|request| request.method.as_str() == "GET").count(), 1);
}

#[tokio::test]
async fn a_cancelled_write_is_left_at_once_and_what_was_written_before_is_known() {
    let server = secrets_server(&public_key()).await;
    let cancel = CancellationToken::new();
    let written = ResponseTemplate::new(201).set_body_json(json!({}));
    Mock::given(method("PUT")).and(path_regex("/A$")).respond_with(written).expect(1).mount(&server).await;
    let trigger = cancel.clone();
    let hang = move |_: &Request| {
        trigger.cancel();
        ResponseTemplate::new(204).set_delay(Duration::from_secs(600))
    };
    Mock::given(method("PUT")).and(path_regex("/B$")).respond_with(hang).expect(1).mount(&server).await;

    let mut digests = BTreeMap::from([("B".to_owned(), "old".to_owned()), ("Z".to_owned(), "kept".to_owned())]);
    let secrets = desired(&[("A", "1"), ("B", "2"), ("C", "3")]);
    // Boxed as the runner will: it has to be Send.
    let (client, shop) = (token_client(&server), shop());
    let put: Pin<Box<dyn Future<Output = _> + Send>> =
        Box::pin(client.put_secrets(&shop, &secrets, &mut digests, &cancel));
    let error = put.await.unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    // Of B nobody knows whether it arrived.
    assert_eq!(digests.keys().collect::<Vec<_>>(), ["A", "Z"]);
}

#[tokio::test]
async fn a_digest_belongs_to_one_repository_one_name_and_one_key() {
    let server = secrets_server(&public_key()).await;
    let written = ResponseTemplate::new(201).set_body_json(json!({}));
    Mock::given(method("PUT")).respond_with(written).mount(&server).await;
    let client = token_client(&server);
    let mut digests = BTreeMap::new();
    let secrets = desired(&[("A", "hunter2"), ("B", "hunter2")]);
    client.put_secrets(&shop(), &secrets, &mut digests, &CancellationToken::new()).await.unwrap();
    assert_ne!(digests["A"], digests["B"]);
    assert_eq!(STANDARD.decode(&digests["A"]).unwrap().len(), 32);

    let mut other = config(&server.uri(), GithubCredential::Token("ghp_secret".into()));
    other.digest_key = "another key, which is long enough".into();
    let other = GithubClient::new(&other).unwrap();
    let mut theirs = digests.clone();
    let written = other.put_secrets(&shop(), &secrets, &mut theirs, &CancellationToken::new()).await.unwrap();
    assert_eq!(written.changed, ["A", "B"]);
    assert_ne!(theirs["A"], digests["A"]);
}

#[tokio::test]
async fn a_name_or_value_that_github_does_not_take_is_refused_before_anything_is_sent() {
    let server = MockServer::start().await;
    let client = token_client(&server);
    let huge = "x".repeat(48 * 1024 + 1);
    for (name, value) in [("", "x"), ("1A", "x"), ("a", "x"), ("A/../B", "x"), ("GITHUB_X", "x"), ("A", &huge)] {
        let secrets = desired(&[("AA", "x"), (name, value)]);
        let error =
            client.put_secrets(&shop(), &secrets, &mut BTreeMap::new(), &CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::GithubRefused, "{name:?}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}
