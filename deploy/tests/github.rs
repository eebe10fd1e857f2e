//! The GitHub client against answers made up for the purpose: web tokens, the keeping of tokens, cancellation and bad
//! configuration. What GitHub itself refuses is tested against the stand-in, in the `tests` package.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use slipway_deploy::github::GithubClient;
use slipway_deploy::{DeployerConfig, GithubCredential, seal};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::RepositoryName;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{body_json, header, method, path, path_regex};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const PUBLIC_KEY: &str = "/repos/acme/Shop.api/actions/secrets/public-key";
const MINT: &str = "/app/installations/7/access_tokens";

fn shop() -> RepositoryName {
    RepositoryName::new("acme/Shop.api").unwrap()
}

fn config(api: &str, github: GithubCredential) -> DeployerConfig {
    DeployerConfig {
        github_api: api.to_owned(),
        github_git: "https://github.com".to_owned(),
        github,
        registry: None,
        image_registry: "ghcr.io".to_owned(),
        digest_key: "0123456789abcdef0123456789abcdef".into(),
        ca_file: None,
        project_root: "/opt/services".to_owned(),
        command_timeout: Duration::from_secs(60),
        health_timeout: Duration::from_secs(60),
    }
}

fn token_client(server: &MockServer) -> GithubClient {
    GithubClient::new(&config(&server.uri(), GithubCredential::Token("ghp_secret\n".into()))).unwrap()
}

/// Like `GitHub` hands it out (PKCS#1), or as PKCS#8.
fn openssl(args: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn app_client(server: &MockServer, key: &str) -> GithubClient {
    let app = GithubCredential::App { id: "4711".to_owned(), private_key: key.into() };
    GithubClient::new(&config(&server.uri(), app)).unwrap()
}

async fn app_server(lifetime: SignedDuration, mints: u64) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/repos/acme/Shop.api/installation"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "id": 7, "suspended_at": null })))
        .mount(&server)
        .await;
    let answer = move |_: &Request| {
        let body = json!({ "token": "ghs_minted", "expires_at": Timestamp::now() + lifetime });
        // Long enough for everybody else to ask meanwhile.
        ResponseTemplate::new(201).set_body_json(body).set_delay(Duration::from_millis(100))
    };
    Mock::given(method("POST"))
        .and(path(MINT))
        .and(body_json(json!({ "repositories": ["Shop.api"], "permissions": { "contents": "read" } })))
        .respond_with(answer)
        .expect(mints)
        .mount(&server)
        .await;
    server
}

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
async fn the_web_token_is_signed_by_either_form_of_key_and_lives_less_than_ten_minutes() {
    let pkcs1 = openssl(&["genrsa", "-traditional", "2048"], "");
    let pkcs8 = openssl(&["pkcs8", "-topk8", "-nocrypt"], &pkcs1);
    assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY") && pkcs8.contains("BEGIN PRIVATE KEY"));
    let public = openssl(&["rsa", "-RSAPublicKey_out", "-outform", "PEM"], &pkcs1);
    let public: String = public.lines().filter(|line| !line.starts_with("-----")).collect();
    let public = STANDARD.decode(public).unwrap();
    for key in [pkcs1, pkcs8] {
        let server = app_server(SignedDuration::from_hours(1), 1).await;
        app_client(&server, &key).repository_token(&shop()).await.unwrap();
        for request in server.received_requests().await.unwrap() {
            assert!(request.headers["user-agent"].to_str().unwrap().starts_with("slipway/"));
            let jwt = request.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
            let (signed, signature) = jwt.rsplit_once('.').unwrap();
            let verifier =
                ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, &public);
            verifier.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
            let (head, claims) = signed.split_once('.').unwrap();
            let [head, claims]: [Value; 2] =
                [head, claims].map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap());
            assert_eq!(head, json!({ "alg": "RS256", "typ": "JWT" }));
            assert_eq!(claims["iss"], "4711");
            let (issued, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
            let now = Timestamp::now().as_second();
            assert!(issued <= now - 60 && issued > now - 90, "iat {issued}, now {now}");
            assert!(expires > now + 400 && expires <= now + 540, "exp {expires}, now {now}");
        }
    }
}

#[tokio::test]
async fn twenty_who_ask_at_once_share_one_token() {
    let server = app_server(SignedDuration::from_hours(1), 1).await;
    let client = app_client(&server, &openssl(&["genrsa", "-traditional", "2048"], ""));
    let asking = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.repository_token(&shop()).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().unwrap().expose_secret(), "ghs_minted");
    }
}

#[tokio::test]
async fn a_token_that_ends_within_five_minutes_is_minted_anew() {
    let server = app_server(SignedDuration::from_secs(299), 2).await;
    let client = app_client(&server, &openssl(&["genrsa", "-traditional", "2048"], ""));
    for _ in 0..2 {
        client.repository_token(&shop()).await.unwrap();
    }
}

#[tokio::test]
async fn a_forgotten_token_is_minted_anew_but_a_strangers_is_not_mistaken_for_it() {
    let server = app_server(SignedDuration::from_hours(1), 2).await;
    let client = app_client(&server, &openssl(&["genrsa", "-traditional", "2048"], ""));
    let token = client.repository_token(&shop()).await.unwrap();
    client.forget_token(&shop(), &"ghs_older".into()).await;
    client.repository_token(&shop()).await.unwrap();
    client.forget_token(&shop(), &token).await;
    client.repository_token(&shop()).await.unwrap();
}

#[tokio::test]
async fn a_plain_token_is_handed_out_without_asking_anybody() {
    let server = MockServer::start().await;
    let token = token_client(&server).repository_token(&shop()).await.unwrap();
    assert_eq!(token.expose_secret(), "ghp_secret");
    assert!(server.received_requests().await.unwrap().is_empty());
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
    let error = token_client(&server).put_secrets(&shop(), &secrets, &mut digests, &cancel).await.unwrap_err();
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

#[test]
fn a_configuration_that_cannot_work_is_refused_without_showing_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let no_ca = dir.path().join("ca.pem");
    std::fs::write(&no_ca, "nothing").unwrap();
    let api = "https://api.github.com";
    let token = || GithubCredential::Token("ghp_hunter2".into());
    let app = |key: &str| GithubCredential::App { id: "1".to_owned(), private_key: key.into() };
    let ec = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "");
    let small = openssl(&["genrsa", "-traditional", "1024"], "");
    let cases = [
        (config(api, GithubCredential::Token(" \n".into())), "the GitHub token is empty"),
        (config(api, app("hunter2")), "isn't a private key in PEM form"),
        (config(api, app(&ec)), "isn't an RSA key"),
        (config(api, app(&small)), "isn't an RSA key of 2048 bits or more"),
        (config("api.github.com", token()), "GitHub's API URL"),
        (config("ftp://api.github.com", token()), "must be http(s)"),
        (config("https://me:hunter2@api.github.com", token()), "without user and password"),
        (DeployerConfig { digest_key: "hunter2".into(), ..config(api, token()) }, "shorter than 32 bytes"),
        (DeployerConfig { ca_file: Some(no_ca), ..config(api, token()) }, "holds no certificate"),
        (DeployerConfig { ca_file: Some(dir.path().join("none")), ..config(api, token()) }, "No such file"),
    ];
    for (config, problem) in cases {
        let error = GithubClient::new(&config).unwrap_err();
        assert!(error.message.contains(problem), "{problem}: {}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
    let client = GithubClient::new(&config(api, token())).unwrap();
    assert!(!format!("{client:?}").contains("hunter2"));
}
