//! The GitHub client: tokens for one repository at a time, Actions secrets, branches with their workflow runs, and
//! deployments as commits' pages show them.
//! How often a request is tried is decided in `retry`.
//!
//! Deliberately not here: git itself (the server fetches with a token from here), packages (a registry credential of
//! their own is needed), and any endpoint that no stage calls.

pub(crate) mod answer;
pub(crate) mod api;
mod app;
mod branches;
mod deployments;
mod login;
mod public_keys;
mod retry;
pub(crate) mod secrets;
mod token;

use std::fmt;
use std::sync::Arc;

use reqwest::Method;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::RepositoryName;

pub use branches::{BranchHead, PushRuns};
pub use deployments::GithubDeploymentState;
pub use secrets::SecretsWritten;

use crate::{DeployerConfig, StageError};
use answer::{CredentialKind, GithubResponse};
use api::{ApiCall, ApiClient};
use app::GithubApp;
use login::{Login, Logins};
use public_keys::PublicKeys;
use token::{TokenScope, Tokens};

/// Reads a GitHub App's private key as a login does.
///
/// # Errors
/// `github-credential-unusable`, with the reason.
pub fn check_app_key(key: &SecretString) -> Result<(), StageError> {
    GithubApp::new("", key).map(drop)
}

/// GitHub's REST API, as this process's credential may use it. Clones share connections and tokens.
#[derive(Clone)]
pub struct GithubClient {
    shared: Arc<Shared>,
}

struct Shared {
    api: ApiClient,
    logins: Logins,
    tokens: Tokens,
    digest_key: hmac::Key,
    /// What repositories' secrets are sealed to, as it was read ahead.
    keys: PublicKeys,
    /// GitHub asks clients to write one thing at a time; many at once meet the secondary rate limit.
    writing: tokio::sync::Mutex<()>,
}

/// What is asked about a repository.
struct RepositoryQuestion<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    /// For errors, worded to follow "to".
    doing: &'a str,
    if_none_match: Option<&'a str>,
}

impl fmt::Debug for GithubClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GithubClient").field("api", &self.shared.api).finish_non_exhaustive()
    }
}

impl GithubClient {
    /// Reads the credential and the CA file and builds the HTTP client. Nothing is sent.
    ///
    /// # Errors
    /// `github-credential-unusable` for an App key that isn't an RSA key in PEM form, an empty token, and what can't be read;
    /// `internal-error` for a bad URL, CA file or digest key.
    pub fn new(config: &DeployerConfig) -> Result<Self, StageError> {
        let logins = Logins::new(config.github.clone());
        logins.current()?;
        let digest_key = config.digest_key.expose_secret().as_bytes();
        if digest_key.len() < 32 {
            return Err(StageError::new(ErrorCode::InternalError, "the digest key is shorter than 32 bytes"));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                api: ApiClient::new(&config.github_api, config.ca_file.as_deref())?,
                logins,
                tokens: Tokens::default(),
                digest_key: hmac::Key::new(hmac::HMAC_SHA256, digest_key),
                keys: PublicKeys::default(),
                writing: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// A token with which the repository can be fetched: of an App, one that may only read this one repository's
    /// contents, since it goes to a server; it works for five minutes at least. Otherwise the configured token.
    ///
    /// # Errors
    /// Those of GitHub, such as `github-not-installed`, `github-suspended` and `github-unavailable`.
    pub async fn repository_token(&self, repository: &RepositoryName) -> Result<SecretString, StageError> {
        self.token(repository, TokenScope::Contents).await
    }

    /// Forgets a token that git was refused with, so that the next one is fresh.
    pub async fn forget_token(&self, repository: &RepositoryName, token: &SecretString) {
        self.shared.tokens.forget(repository, TokenScope::Contents, token).await;
    }

    async fn token(&self, repository: &RepositoryName, scope: TokenScope) -> Result<SecretString, StageError> {
        let current = self.shared.logins.current();
        if current.as_ref().map_or(true, |current| current.replaced) {
            self.shared.tokens.forget_all();
        }
        match &*current?.login {
            Login::Token(token) => Ok(token.clone()),
            Login::App(app) => {
                let api = &self.shared.api;
                let mint = || app.mint(api, repository, scope);
                self.shared.tokens.get_or_mint(repository, scope, api.now(), mint).await
            }
        }
    }

    async fn ask(
        &self,
        repository: &RepositoryName,
        scope: TokenScope,
        method: Method,
        path: &str,
        body: Option<&Value>,
        doing: &str,
    ) -> Result<GithubResponse, StageError> {
        let question = RepositoryQuestion { method, path, body, doing, if_none_match: None };
        self.ask_repository(repository, scope, &question).await
    }

    /// Asks something about a repository; once more with a fresh token when an App's was refused.
    async fn ask_repository(
        &self,
        repository: &RepositoryName,
        scope: TokenScope,
        question: &RepositoryQuestion<'_>,
    ) -> Result<GithubResponse, StageError> {
        let RepositoryQuestion { method, path, body, doing, if_none_match } = question;
        let asker = self.shared.logins.asker();
        let mut fresh_token_left = asker == CredentialKind::Installation;
        loop {
            let token = self.token(repository, scope).await?;
            let call = ApiCall {
                method: method.clone(),
                path,
                bearer: &token,
                body: *body,
                if_none_match: *if_none_match,
                doing,
                asker,
            };
            match retry::send(&self.shared.api, &call).await {
                Err(error) if error.code == ErrorCode::GithubCredentialRefused => {
                    self.shared.tokens.forget(repository, scope, &token).await;
                    if !std::mem::take(&mut fresh_token_left) {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }
}
