//! The registry client against a strict stand-in that asks for tokens as ghcr.io does, or for a password as plain
//! registries do. Nothing is answered to who asks wrongly.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use std::time::Duration;

use secrecy::SecretString;

use super::*;
use crate::{GithubCredential, ProjectLimits, RegistryCredentialSource};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPOSITORY: &str = "acme/shop-backend";

/// What the registry holds, and how it wants to be asked.
#[derive(Clone)]
struct StandIn {
    bearer: bool,
    password: Option<&'static str>,
    tags: Vec<&'static str>,
    /// What the images' configuration names as their commit.
    revision: Option<&'static str>,
    base: String,
    tokens: Arc<AtomicUsize>,
}

/// The digest of `content`, as registries name it.
pub(super) fn digest_of(content: &Value) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, &serde_json::to_vec(content).unwrap());
    format!("sha256:{}", HEXLOWER.encode(sum.as_ref()))
}

/// An index, the image in it, and its configuration.
fn contents(revision: Option<&str>) -> [Value; 3] {
    let config = json!({ "config": { "Labels": revision.map(|r| json!({ REVISION: r })) } });
    let image = json!({ "config": { "digest": digest_of(&config) } });
    [json!({ "manifests": [{ "digest": digest_of(&image) }] }), image, config]
}

/// The digest of an index whose image names no commit.
fn digest() -> String {
    digest_of(&contents(None)[0])
}

impl StandIn {
    fn authorized(&self, request: &Request) -> bool {
        let given = request.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
        let expected = if self.bearer { Some("Bearer of-one-repository".to_owned()) } else { self.basic() };
        expected.is_none() || given == expected
    }

    fn basic(&self) -> Option<String> {
        self.password.map(|p| format!("Basic {}", STANDARD.encode(format!("robot:{p}"))))
    }

    fn token(&self, request: &Request) -> ResponseTemplate {
        self.tokens.fetch_add(1, Ordering::Relaxed);
        let query: Vec<(String, String)> =
            request.url.query_pairs().map(|(a, b)| (a.into_owned(), b.into_owned())).collect();
        let asked = [("service", "the.registry"), ("scope", "repository:acme/shop-backend:pull")];
        let given = request.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
        if query != asked.map(|(a, b)| (a.to_owned(), b.to_owned())) || given != self.basic() {
            return ResponseTemplate::new(403);
        }
        ResponseTemplate::new(200).set_body_json(json!({ "token": "of-one-repository" }))
    }

    fn challenge(&self) -> ResponseTemplate {
        let bearer = format!(
            "Bearer realm=\"{}/token\",service=\"the.registry\",scope=\"repository:{REPOSITORY}:pull\"",
            self.base
        );
        let header = if self.bearer { bearer } else { "Basic realm=\"x\"".to_owned() };
        ResponseTemplate::new(401).insert_header("WWW-Authenticate", header.as_str())
    }
}

impl Respond for StandIn {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path = request.url.path();
        if path == "/token" {
            return self.token(request);
        }
        if !self.authorized(request) {
            return self.challenge();
        }
        let Some(rest) = path.strip_prefix(&format!("/v2/{REPOSITORY}/")) else { return ResponseTemplate::new(404) };
        let contents = contents(self.revision);
        match rest.split_once('/') {
            Some(("manifests", tag)) if request.method.as_str() == "HEAD" && self.tags.contains(&tag) => {
                let digest = if tag.contains(':') { tag.to_owned() } else { digest_of(&contents[0]) };
                ResponseTemplate::new(200).insert_header("Docker-Content-Digest", digest.as_str())
            }
            Some(("manifests" | "blobs", sum)) if contents.iter().any(|content| digest_of(content) == sum) => {
                let content = contents.iter().find(|content| digest_of(content) == sum).unwrap();
                ResponseTemplate::new(200).set_body_json(content)
            }
            _ => ResponseTemplate::new(404),
        }
    }
}

struct RecordedRequest {
    found: Result<ReleaseImage, StageError>,
    tokens: usize,
    host: String,
}

/// Serves `stand_in` and looks for the commit's image as user `robot` with `password`.
async fn ask(stand_in: StandIn, password: &str) -> RecordedRequest {
    let server = MockServer::start().await;
    let host = server.address().to_string();
    let stand_in = StandIn { base: server.uri(), ..stand_in };
    Mock::given(any()).respond_with(stand_in.clone()).mount(&server).await;
    let found = find(&host, password).await;
    RecordedRequest { found, tokens: stand_in.tokens.load(Ordering::Relaxed), host }
}

async fn find(host: &str, password: &str) -> Result<ReleaseImage, StageError> {
    let (commit, branch) = (COMMIT.parse().unwrap(), "feature/pay".parse().unwrap());
    client(host, password).find(host, REPOSITORY, &commit, &branch).await
}

pub(super) fn config(host: &str) -> DeployerConfig {
    let secret = |text: &str| SecretString::from(text.to_owned());
    DeployerConfig {
        github_api: "https://api.github.com".to_owned(),
        github_git: "https://github.com".to_owned(),
        github: GithubCredential::Token("t".into()),
        image_registry: host.to_owned(),
        registry_token_host: None,
        digest_key: secret("k"),
        ca_file: None,
        project_root: "/opt/services".to_owned(),
        command_timeout: Duration::from_secs(1),
        health_timeout: Duration::from_secs(1),
        limits: ProjectLimits::DEFAULT,
        front_door: None,
    }
}

pub(super) fn robot(password: &str) -> RegistryCredential {
    RegistryCredential {
        username: "robot".to_owned(),
        password: SecretString::from(password.to_owned()),
        source: RegistryCredentialSource::Fleet,
    }
}

fn client(host: &str, password: &str) -> RegistryClient {
    let client = RegistryClient::new(&config(host)).unwrap();
    client.with_credential((!password.is_empty()).then(|| robot(password)))
}

fn stand_in(bearer: bool, tags: &[&'static str]) -> StandIn {
    StandIn {
        bearer,
        password: Some("s3cret-pass"),
        tags: tags.to_vec(),
        revision: None,
        base: String::new(),
        tokens: Arc::default(),
    }
}

#[tokio::test]
async fn the_commits_own_image_is_taken_whatever_the_registry_asks_for() {
    for bearer in [false, true] {
        let asked = ask(stand_in(bearer, &["sha-0123456", "feature-pay"]), "s3cret-pass").await;
        let reference = format!("{}/{REPOSITORY}:sha-0123456", asked.host);
        assert_eq!(asked.found.unwrap(), ReleaseImage { reference, digest: digest() });
        assert_eq!(asked.tokens, usize::from(bearer));
    }
}

#[tokio::test]
async fn without_one_the_branchs_is_pinned_to_its_digest() {
    for revision in [None, Some(COMMIT)] {
        let asked = ask(StandIn { revision, ..stand_in(true, &["feature-pay", "latest"]) }, "s3cret-pass").await;
        let digest = digest_of(&contents(revision)[0]);
        assert_eq!(asked.found.unwrap().reference, format!("{}/{REPOSITORY}:feature-pay@{digest}", asked.host));
    }
}

#[tokio::test]
async fn the_branchs_image_of_another_commit_is_not_taken_for_this_one() {
    let other = "76543210fedcba9876543210fedcba9876543210";
    let asked = ask(StandIn { revision: Some(other), ..stand_in(true, &["feature-pay"]) }, "s3cret-pass").await;
    let error = asked.found.unwrap_err();
    assert_eq!(error.code, ErrorCode::ImageNotFound);
    assert!(error.message.contains(other), "{error}");
    let error = ask(stand_in(false, &["latest"]), "s3cret-pass").await.found.unwrap_err();
    assert_eq!(error.code, ErrorCode::ImageNotFound, "latest may be any commit's");
}

#[tokio::test]
async fn the_image_of_a_recorded_version_is_taken_wherever_its_tag_points_by_now() {
    const OTHER: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    let now = digest();
    for (tags, on_server, recorded, found) in [
        (&["sha-0123456"][..], false, now.as_str(), Some(":sha-0123456".to_owned())),
        (&["sha-0123456", OTHER], false, OTHER, Some(format!(":sha-0123456@{OTHER}"))),
        (&["sha-0123456"], true, OTHER, Some(format!(":sha-0123456@{OTHER}"))),
        (&["feature-pay", OTHER], false, OTHER, Some(format!(":feature-pay@{OTHER}"))),
        (&[], true, OTHER, Some(format!(":feature-pay@{OTHER}"))),
        (&["sha-0123456"], false, OTHER, Some(":sha-0123456".to_owned())),
        (&[], false, OTHER, None),
    ] {
        let server = MockServer::start().await;
        let host = server.address().to_string();
        Mock::given(any()).respond_with(StandIn { base: server.uri(), ..stand_in(false, tags) }).mount(&server).await;
        let (commit, branch) = (COMMIT.parse().unwrap(), "feature/pay".parse().unwrap());
        let recorded = RecordedImage { digest: recorded.to_owned(), on_server };
        let client = client(&host, "s3cret-pass");
        let image = client.find_recorded(&host, REPOSITORY, &commit, &branch, &recorded).await;
        let reference = image.as_ref().ok().map(|image| image.reference.clone());
        assert_eq!(reference, found.map(|tag| format!("{host}/{REPOSITORY}{tag}")), "{tags:?}, {recorded:?}");
        let gone = tags == ["sha-0123456"] && !on_server;
        assert!(image.is_err() || image.is_ok_and(|image| gone || image.digest == OTHER), "{tags:?}");
    }
}

#[tokio::test]
async fn a_wrong_credential_is_refused_and_never_repeated() {
    for bearer in [false, true] {
        for password in ["wrong-pass", ""] {
            let error = ask(stand_in(bearer, &["sha-0123456"]), password).await.found.unwrap_err();
            assert_eq!(error.code, ErrorCode::RegistryCredentialRefused, "{error}");
            assert!(password.is_empty() || !error.message.contains(password), "{error}");
        }
    }
}

#[tokio::test]
async fn what_the_credential_alone_may_pull_is_not_everybodys() {
    for (password, tag, expected) in
        [(None, "sha-0123456", true), (None, "sha-7654321", false), (Some("s3cret-pass"), "sha-0123456", false)]
    {
        for bearer in [false, true] {
            let server = MockServer::start().await;
            let stand_in = StandIn { base: server.uri(), password, ..stand_in(bearer, &["sha-0123456"]) };
            Mock::given(any()).respond_with(stand_in).mount(&server).await;
            let client = client(&server.address().to_string(), "s3cret-pass").with_credential(None);
            assert_eq!(client.can_read(REPOSITORY, tag).await, Ok(expected), "{password:?} {bearer} {tag}");
        }
    }
}

#[tokio::test]
async fn a_public_image_needs_no_credential() {
    let asked = ask(StandIn { password: None, ..stand_in(true, &["sha-0123456"]) }, "").await;
    assert_eq!(asked.found.unwrap().digest, digest());
}

#[tokio::test]
async fn what_a_registry_can_not_answer_now_is_told_apart() {
    for (status, code) in [(429, ErrorCode::RegistryRateLimited), (503, ErrorCode::RegistryUnavailable)] {
        let server = MockServer::start().await;
        Mock::given(any())
            .respond_with(ResponseTemplate::new(status).insert_header("Retry-After", "7"))
            .mount(&server)
            .await;
        let error = find(&server.address().to_string(), "p").await.unwrap_err();
        assert_eq!(error.code, code);
        assert_eq!(error.retry_after.is_some(), status == 429);
    }
    let error = find("127.0.0.1:1", "p").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RegistryUnavailable);
}

#[tokio::test]
async fn an_answer_that_is_far_too_large_is_not_read_to_its_end() {
    let server = MockServer::start().await;
    let manifest = ResponseTemplate::new(200).insert_header("Docker-Content-Digest", digest().as_str());
    let endless = manifest.set_body_bytes(vec![b' '; 5 * 1024 * 1024]);
    Mock::given(wiremock::matchers::method("GET")).respond_with(endless.clone()).mount(&server).await;
    let branch = wiremock::matchers::path(format!("/v2/{REPOSITORY}/manifests/feature-pay"));
    Mock::given(wiremock::matchers::method("HEAD")).and(branch).respond_with(endless).mount(&server).await;
    let error = find(&server.address().to_string(), "p").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RegistryUnavailable);
    assert!(error.message.contains("more than 4 MiB"), "{error}");
}
