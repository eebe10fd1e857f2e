//! What six registries answer over HTTP, as their documentation and users tell: to a login that is refused, to images that
//! are public all the same, and of platforms.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::tests::{config, digest_of, robot};
use super::*;
use ErrorCode::{
    ImageNotFound, RegistryCredentialRefused as Refused, RegistryRateLimited as Limited, RegistryUnavailable as Silent,
};

const REPOSITORY: &str = "acme/shop-backend";
const MANIFEST: &str = r#"{"schemaVersion":2}"#;

/// A status and a body.
type HttpReply = (u16, &'static str);

/// How a registry answers.
struct RegistryAnswers {
    /// `None`: asks for a password itself.
    token: Option<HttpReply>,
    /// To whom it knows, or who needn't log in.
    manifest: HttpReply,
    /// Whether it has the image for everybody.
    public: bool,
}

/// A registry of its own on loopback, asked with a credential; gives what came of it.
async fn ask(answers: RegistryAnswers) -> (RegistryClient, Result<Option<String>, StageError>) {
    let server = MockServer::start().await;
    let base = server.uri();
    let respond = move |request: &Request| {
        let given = request.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let with_login = given.as_ref().is_some_and(|given| given.starts_with("Basic "));
        let answer = |(status, body): (u16, &str)| ResponseTemplate::new(status).set_body_string(body);
        if request.url.path() == "/token" {
            return match (answers.token, with_login) {
                (Some(refusal), true) if refusal.0 != 200 => answer(refusal),
                (Some(_), false) if !answers.public => answer((401, "")),
                _ => answer((200, r#"{"token":"t"}"#)),
            };
        }
        let challenge = match answers.token {
            Some(_) => format!("Bearer realm=\"{base}/token\",service=\"r\""),
            None => "Basic realm=\"r\"".to_owned(),
        };
        let digest = digest_of(&serde_json::from_str(MANIFEST).unwrap());
        match given {
            None if answers.token.is_none() && answers.public => {
                answer((200, MANIFEST)).insert_header("Docker-Content-Digest", digest.as_str())
            }
            None => ResponseTemplate::new(401).insert_header("WWW-Authenticate", challenge.as_str()),
            Some(_) => answer(answers.manifest).insert_header("Docker-Content-Digest", digest.as_str()),
        }
    };
    Mock::given(any()).respond_with(respond).mount(&server).await;
    let client =
        RegistryClient::new(&config(&server.address().to_string())).unwrap().with_credential(Some(robot("old-pass")));
    let found = client.digest(REPOSITORY, "sha-0123456").await;
    (client, found)
}

#[rustfmt::skip]
const REFUSALS: &[(&str, Option<HttpReply>, HttpReply, ErrorCode, &str)] = &[
    ("ghcr, an expired token", Some((403, r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#)), (200, MANIFEST), Refused, "the login, to robot, whose credential came from the fleet (403): it has expired, was revoked, or is wrong"),
    ("ghcr, a token without the package", Some((200, "")), (403, r#"{"errors":[{"code":"DENIED","message":"permission_denied: read_package"}]}"#), Refused, "to read acme/shop-backend, to robot"),
    ("ghcr, no such package", Some((200, "")), (404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#), ImageNotFound, ""),
    ("docker hub, a revoked token", Some((401, r#"{"details":"incorrect username or password"}"#)), (200, MANIFEST), Refused, "the login"),
    ("docker hub, another's image", Some((200, "")), (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#), Refused, "to read acme/shop-backend"),
    ("docker hub, its limit", Some((200, "")), (429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#), Limited, "for now (429)"),
    ("gitlab, a revoked deploy token", Some((403, r#"{"errors":[{"code":"DENIED","message":"access forbidden"}]}"#)), (200, MANIFEST), Refused, "the login"),
    ("gitlab, maintenance", Some((503, "GitLab is not responding")), (200, MANIFEST), Silent, "answers 503"),
    ("ecr, an expired token", None, (403, r#"{"errors":[{"code":"DENIED","message":"Your Authorization Token has expired. Please run 'aws ecr get-login' to fetch a new one."}]}"#), Refused, "(403)"),
    ("ecr, a wrong token", None, (401, "Not Authorized"), Refused, "the login"),
    ("ecr, no such repository", None, (404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"The repository does not exist"}]}"#), ImageNotFound, ""),
    ("harbor, an expired robot", Some((401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}"#)), (200, MANIFEST), Refused, "the login"),
    ("harbor, another project's", Some((200, "")), (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized to access repository"}]}"#), Refused, "to read acme/shop-backend"),
    ("harbor, vulnerable", Some((200, "")), (412, r#"{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"cannot be pulled due to configured policy"}]}"#), Silent, "status 412"),
    ("distribution, a wrong password", None, (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#), Refused, "the login"),
    ("distribution, no such tag", None, (404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#), ImageNotFound, ""),
];

#[tokio::test]
async fn six_registries_refusals_are_told_apart() {
    for (what, token, manifest, code, part) in REFUSALS {
        let (client, found) = ask(RegistryAnswers { token: *token, manifest: *manifest, public: false }).await;
        match found {
            Ok(found) => assert!(found.is_none() && *code == ImageNotFound, "{what}: {found:?}"),
            Err(error) => {
                assert_eq!(error.code, *code, "{what}: {error}");
                assert!(error.message.contains(part) && !error.message.contains("old-pass"), "{what}: {error}");
            }
        }
        assert!(client.passed_over().is_none(), "{what}");
    }
}

#[tokio::test]
async fn public_images_come_though_the_credential_is_refused_and_that_is_told() {
    for token in [(403, "denied"), (401, "")] {
        let answers = RegistryAnswers { token: Some(token), manifest: (200, MANIFEST), public: true };
        let (client, found) = ask(answers).await;
        assert!(found.unwrap().is_some(), "{token:?}");
        let told = client.passed_over().unwrap();
        assert_eq!(told.code, Refused);
        assert!(told.message.contains("it has expired, was revoked, or is wrong"), "{told}");
        assert!(client.with_credential(None).passed_over().is_none());
    }
    let (client, found) =
        ask(RegistryAnswers { token: Some((200, "")), manifest: (200, MANIFEST), public: true }).await;
    assert!(found.unwrap().is_some() && client.passed_over().is_none(), "one that counts");
}

/// The platforms that a registry tells of an image, whose parts it serves by digest.
async fn platforms_of(parts: &[Value]) -> Result<ImagePlatforms, StageError> {
    let server = MockServer::start().await;
    let served: Vec<(String, Value)> = parts.iter().map(|part| (digest_of(part), part.clone())).collect();
    let respond = move |request: &Request| match served.iter().find(|(sum, _)| request.url.path().ends_with(sum)) {
        Some((_, part)) => ResponseTemplate::new(200).set_body_json(part),
        None => ResponseTemplate::new(404),
    };
    Mock::given(any()).respond_with(respond).mount(&server).await;
    let client = RegistryClient::new(&config(&server.address().to_string())).unwrap();
    client.platforms(REPOSITORY, &digest_of(&parts[0])).await
}

#[tokio::test]
async fn the_platforms_of_an_image_are_read_from_its_index_or_its_configuration() {
    let entry =
        |os: &str, architecture: &str| json!({ "digest": "d", "platform": { "os": os, "architecture": architecture } });
    let index = json!({ "manifests": [entry("linux", "amd64"), entry("unknown", "unknown"), entry("linux", "arm64")] });
    let read = platforms_of(&[index]).await.unwrap();
    assert_eq!(read.names, ["linux/amd64", "linux/arm64"]);
    assert!(read.of_index);
    let configuration = json!({ "os": "linux", "architecture": "arm64" });
    let manifest = json!({ "config": { "digest": digest_of(&configuration) } });
    let read = platforms_of(&[manifest, configuration]).await.unwrap();
    assert_eq!(read, ImagePlatforms { names: vec!["linux/arm64".to_owned()], of_index: false });
    let hostile =
        json!({ "manifests": [entry("linux", "\u{1b}[2Jpwned"), entry("linux", &"a".repeat(5000)), json!(7)] });
    assert!(platforms_of(&[hostile]).await.unwrap().names.is_empty());
    assert!(platforms_of(&[json!({ "manifests": [] })]).await.unwrap().names.is_empty());
    let many = json!({ "manifests": vec![entry("linux", "amd64"); 1000] });
    assert!(platforms_of(&[many]).await.unwrap().names.len() <= MAX_PLATFORMS);
}
