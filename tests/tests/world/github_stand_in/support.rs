//! A stand-in with two repositories and the app installed on both, and clients for its two servers.
//!
//! Deliberately not here: any use of Slipway's own clients; these are as plain as can be.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::PublicKey;
use crypto_box::aead::OsRng;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use slipway_tests::github::{GitHub, GitHubOptions, Level, NewRepository, sign_web_token};
use tempfile::TempDir;

pub const SHOP: &str = "acme/Shop.Front";
pub const OTHER: &str = "acme/other";

pub struct StandInWorld {
    pub github: GitHub,
    pub installation: u64,
    pub directory: TempDir,
    http: Client,
}

impl StandInWorld {
    /// Both repositories are private; the app may read contents and write secrets and deployments.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[("contents", Level::Read), ("secrets", Level::Write), ("deployments", Level::Write)])
    }

    pub fn start_with(permissions: &[(&str, Level)]) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let github = GitHub::start(GitHubOptions::loopback(directory.path().join("repositories"))?)?;
        github.add_repository("acme", "Shop.Front", &NewRepository::default())?;
        github.add_repository("acme", "other", &NewRepository::default())?;
        let installation = github.install_app("acme", &[SHOP, OTHER], permissions);
        Ok(Self { github, installation, directory, http: client()? })
    }

    /// A request that GitHub would not refuse for its form.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare_request(method, path).header("user-agent", "slipway-tests")
    }

    pub fn bare_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.github.api_addr()))
    }

    pub async fn get(&self, path: &str, token: &str) -> anyhow::Result<ApiAnswer> {
        ApiAnswer::read(self.request(Method::GET, path).bearer_auth(token).send().await?).await
    }

    pub async fn send(&self, method: Method, path: &str, token: &str, body: &Value) -> anyhow::Result<ApiAnswer> {
        ApiAnswer::read(self.request(method, path).bearer_auth(token).body(body.to_string()).send().await?).await
    }

    /// Signed by the app's key.
    pub fn jwt(&self, claims: &Value) -> anyhow::Result<String> {
        sign_web_token(self.github.app_private_key_pem(), claims)
    }

    /// As GitHub's documentation recommends to make it.
    pub fn good_jwt(&self) -> anyhow::Result<String> {
        self.jwt(&json!({ "iss": self.github.app_client_id(), "iat": now() - 60, "exp": now() + 540 }))
    }

    pub async fn mint(&self, body: &Value) -> anyhow::Result<ApiAnswer> {
        let path = format!("/app/installations/{}/access_tokens", self.installation);
        self.send(Method::POST, &path, &self.good_jwt()?, body).await
    }

    /// A token of the installation; `{}` asks for all that it has.
    pub async fn token(&self, body: &Value) -> anyhow::Result<String> {
        let minted = self.mint(body).await?;
        ensure!(minted.status == StatusCode::CREATED, "{minted:?}");
        Ok(minted.body["token"].as_str().context("a token")?.to_owned())
    }

    /// Puts a secret as a correct client does.
    pub async fn put_secret(
        &self,
        repository: &str,
        name: &str,
        value: &str,
        token: &str,
    ) -> anyhow::Result<ApiAnswer> {
        let path = format!("/repos/{repository}/actions/secrets");
        let key = self.get(&format!("{path}/public-key"), token).await?.body;
        let sealed = seal(key["key"].as_str().context("a key")?, value.as_bytes())?;
        let body = json!({ "encrypted_value": sealed, "key_id": key["key_id"] });
        self.send(Method::PUT, &format!("{path}/{name}"), token, &body).await
    }

    /// Commits a file on `branch` of a repository, past the servers, and gives the commit.
    pub fn commit(&self, repository: &str, branch: &str, text: &str) -> anyhow::Result<String> {
        let work = self.directory.path().join("work").join(repository);
        if !work.exists() {
            std::fs::create_dir_all(&work)?;
            self.git(&work, &["init", "--quiet", "--initial-branch", "main"])?;
        }
        if !branch.eq("main") {
            self.git(&work, &["switch", "--quiet", "-C", branch])?;
        }
        std::fs::write(work.join("file"), text)?;
        self.git(&work, &["add", "file"])?;
        self.git(&work, &["commit", "--quiet", "--message", text])?;
        let bare = self.directory.path().join("repositories").join(format!("{repository}.git"));
        self.git(&work, &["push", "--quiet", &bare.display().to_string(), branch])?;
        let sha = self.git(&work, &["rev-parse", "HEAD"])?;
        if !branch.eq("main") {
            self.git(&work, &["switch", "--quiet", "main"])?;
        }
        Ok(sha)
    }

    pub fn git_url(&self, repository: &str) -> String {
        format!("http://{}/{repository}", self.github.git_addr())
    }

    /// An empty clone to fetch into.
    pub fn empty_clone(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join("clones").join(name);
        std::fs::create_dir_all(&path)?;
        self.git(&path, &["init", "--quiet"])?;
        Ok(path)
    }

    pub fn git(&self, directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let output = git(directory, arguments)?;
        ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// A shallow fetch of one commit; git's own words are the error.
    pub fn fetch(&self, repository: &str, sha: &str, credential: Option<(&str, &str)>) -> anyhow::Result<String> {
        let clone = self.empty_clone(&uuid::Uuid::new_v4().to_string())?;
        let header = credential.map_or_else(String::new, |(user, password)| basic(user, password));
        let config = format!("http.extraHeader={header}");
        let fetched = git(&clone, &["-c", &config, "fetch", "--depth", "1", &self.git_url(repository), sha])?;
        ensure!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        self.git(&clone, &["rev-parse", "FETCH_HEAD"])
    }
}

/// An answer with its body read.
#[derive(Debug)]
pub struct ApiAnswer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// Null when the body isn't JSON.
    pub body: Value,
}

impl ApiAnswer {
    pub async fn read(response: Response) -> anyhow::Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self { status, headers, text, body })
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Fails with the whole answer, so that a test's failure says what GitHub said.
    pub fn is(&self, status: u16, message: &str) -> anyhow::Result<()> {
        ensure!(self.status == status && self.message() == message, "not {status} {message:?}: {self:?}");
        Ok(())
    }
}

pub fn client() -> anyhow::Result<Client> {
    // Another test of this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(20));
    Ok(client.build()?)
}

/// git as on a fresh machine: no configuration, and none of the variables that a git hook or a CI sets.
pub fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    command
        .current_dir(directory)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0");
    Ok(command.output()?)
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub fn seal(key: &str, value: &[u8]) -> anyhow::Result<String> {
    let key = PublicKey::from_slice(&STANDARD.decode(key)?)?;
    let sealed = key.seal(&mut OsRng, value).map_err(|_| anyhow::anyhow!("the value can't be sealed"))?;
    Ok(STANDARD.encode(sealed))
}
