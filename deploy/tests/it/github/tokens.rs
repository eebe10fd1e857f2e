//! Which token a repository is asked for with: web tokens of an App, how long one is kept, a plain token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use slipway_deploy::GithubCredential;
use slipway_deploy::github::GithubClient;
use wiremock::matchers::{body_json, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{config, openssl, shop, token_client};

const MINT: &str = "/app/installations/7/access_tokens";

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
async fn of_a_renamed_repository_the_token_is_asked_for_by_its_number() {
    let server = MockServer::start().await;
    let moved = ResponseTemplate::new(301).insert_header("location", "/repositories/42/installation");
    let found = ResponseTemplate::new(200).set_body_json(json!({ "id": 7, "suspended_at": null }));
    let minted = json!({ "token": "ghs_minted", "expires_at": Timestamp::now() + SignedDuration::from_hours(1) });
    let by_number = json!({ "repository_ids": [42], "permissions": { "contents": "read" } });
    Mock::given(path("/repos/acme/Shop.api/installation")).respond_with(moved).mount(&server).await;
    Mock::given(path("/repositories/42/installation")).respond_with(found).mount(&server).await;
    Mock::given(path(MINT))
        .and(body_json(by_number))
        .respond_with(ResponseTemplate::new(201).set_body_json(minted))
        .mount(&server)
        .await;
    let client = app_client(&server, &openssl(&["genrsa", "-traditional", "2048"], ""));
    assert_eq!(client.repository_token(&shop()).await.unwrap().expose_secret(), "ghs_minted");
}

#[tokio::test]
async fn a_plain_token_is_handed_out_without_asking_anybody() {
    let server = MockServer::start().await;
    let token = token_client(&server).repository_token(&shop()).await.unwrap();
    assert_eq!(token.expose_secret(), "ghp_secret");
    assert!(server.received_requests().await.unwrap().is_empty());
}
