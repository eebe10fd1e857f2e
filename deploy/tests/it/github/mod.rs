//! The GitHub client against answers made up for the purpose: web tokens, the keeping of tokens, cancellation and bad
//! configuration. What GitHub itself refuses is tested against the stand-in, in the `tests` package.

mod runs;
mod secrets;
mod tokens;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use slipway_deploy::github::GithubClient;
use slipway_deploy::{DeployerConfig, GithubCredential, ProjectLimits};
use slipway_protocol::names::RepositoryName;
use wiremock::MockServer;

fn shop() -> RepositoryName {
    RepositoryName::new("acme/Shop.api").unwrap()
}

fn config(api: &str, github: GithubCredential) -> DeployerConfig {
    DeployerConfig {
        github_api: api.to_owned(),
        github_git: "https://github.com".to_owned(),
        github,
        image_registry: "ghcr.io".to_owned(),
        registry_token_host: None,
        digest_key: "0123456789abcdef0123456789abcdef".into(),
        ca_file: None,
        project_root: "/opt/services".to_owned(),
        command_timeout: Duration::from_secs(60),
        health_timeout: Duration::from_secs(60),
        limits: ProjectLimits::DEFAULT,
        front_door: None,
    }
}

fn token_client(server: &MockServer) -> GithubClient {
    GithubClient::new(&config(&server.uri(), GithubCredential::Token("ghp_secret\n".into()))).unwrap()
}

/// What openssl writes for these arguments and this input.
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
