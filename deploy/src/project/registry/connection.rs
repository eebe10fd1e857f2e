//! How the registry is asked: challenges, tokens, credentials, and what of its answers is read. A registry may be hostile:
//! its answers have bounds of time and size, its credential goes to nobody else, and none of its text is repeated.
//!
//! Sources: the OCI distribution specification, and Docker's token authentication, which ghcr.io asks for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::fmt::rfc2822;
use reqwest::header::{ACCEPT, DATE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use slipway_protocol::ErrorCode;
use zeroize::Zeroizing;

use super::challenge::{Challenge, TokenHosts};
use crate::budget::{Budget, REGISTRY_ANSWER, REGISTRY_TOKEN};
use crate::http::{AnswerError, builder, chain, read_answer};
use crate::{DeployerConfig, RegistryCredential, StageError};

/// How long one question may go unanswered.
pub const TIMEOUT: Duration = Duration::from_secs(10);
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Blobs may be kept elsewhere; nobody sends on more often.
const MAX_REDIRECTS: usize = 3;
/// What is refused where the credential itself is.
const LOGIN: &str = "the login";
/// A header must hold it.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// One registry, and who asks it. Clones share connections.
#[derive(Clone)]
pub(super) struct RegistryConnection {
    http: Client,
    base: String,
    token_hosts: TokenHosts,
    credential: Option<RegistryCredential>,
    /// How the credential was refused, where anybody got what it didn't.
    passed_over: Arc<OnceLock<StageError>>,
}

impl RegistryConnection {
    /// Without a credential; nothing is sent. `timeout`: how long one question may go unanswered.
    ///
    /// # Errors
    /// `internal-error` for a bad CA file.
    pub(super) fn new(config: &DeployerConfig, timeout: Duration) -> Result<Self, StageError> {
        let unusable = |why| StageError::new(ErrorCode::InternalError, why);
        let host = config.image_registry.as_str();
        // As Docker does.
        let local = host.starts_with("127.") || host.split(':').next() == Some("localhost");
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let http = builder(config.ca_file.as_deref())
            .map_err(unusable)?
            .connect_timeout(timeout)
            .timeout(timeout)
            .redirect(redirects(local))
            .build()
            .map_err(|e| unusable(format!("the HTTP client: {}", chain(&e))))?;
        let base = format!("{}://{host}", if local { "http" } else { "https" });
        let token_hosts = TokenHosts::new(&base, config.registry_token_host.as_deref());
        Ok(Self { http, base, token_hosts, credential: None, passed_over: Arc::default() })
    }

    pub(super) fn with_credential(&self, credential: Option<RegistryCredential>) -> Self {
        Self { credential, passed_over: Arc::default(), ..self.clone() }
    }

    /// How the credential was refused for what anybody may have, if it was.
    pub(super) fn passed_over(&self) -> Option<&StageError> {
        self.passed_over.get()
    }

    /// What is named by its digest, and has it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn json(&self, repository: &str, kind: &str, digest: String) -> Result<Value, StageError> {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.broken("a part whose name isn't a SHA-256 digest"));
        }
        let path = format!("{repository}/{kind}/{digest}");
        let Some(answer) = self.ask(Method::GET, repository, &path).await? else {
            return Err(self.broken("a manifest whose parts are missing"));
        };
        let body = self.body(answer, REGISTRY_ANSWER, "more than 4 MiB, where a manifest has some KiB").await?;
        if HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, &body).as_ref()) != hex.to_ascii_lowercase() {
            return Err(self.broken("content that doesn't have the digest by which it was asked for"));
        }
        serde_json::from_slice(&body).map_err(|_| self.broken("what isn't JSON"))
    }

    async fn body(
        &self,
        mut answer: Response,
        budget: Budget,
        too_large: &str,
    ) -> Result<Zeroizing<Vec<u8>>, StageError> {
        read_answer(&mut answer, budget).await.map_err(|error| match error {
            AnswerError::Broken(error) => self.silent(&error.without_url()),
            AnswerError::TooLarge => self.broken(too_large),
        })
    }

    /// When it answers, in seconds since 1970, whatever the answer: by its `Date`.
    pub(super) async fn clock(&self) -> Option<u64> {
        let answer = self.http.get(format!("{}/v2/", self.base)).send().await.ok()?;
        seconds_of(answer.headers().get(DATE)?.to_str().ok()?)
    }

    /// Asks with the credential and, where that is refused, as anybody: what is public comes though a credential has
    /// expired. `None`: it isn't there.
    ///
    /// # Errors
    /// `registry-credential-refused`, `registry-realm-untrusted`, `registry-rate-limited`, `registry-unavailable`.
    pub(super) async fn ask(
        &self,
        method: Method,
        repository: &str,
        path: &str,
    ) -> Result<Option<Response>, StageError> {
        let asked = self.ask_once(method.clone(), repository, path).await;
        let refused = match asked {
            Err(error) if error.code == ErrorCode::RegistryCredentialRefused && self.credential.is_some() => error,
            other => return other,
        };
        match self.with_credential(None).ask_once(method, repository, path).await {
            Ok(Some(answer)) => {
                let _ = self.passed_over.set(refused);
                Ok(Some(answer))
            }
            // Who isn't known may be told that nothing is there.
            _ => Err(refused),
        }
    }

    /// Asks, and asks again with what the challenge wants, once.
    async fn ask_once(&self, method: Method, repository: &str, path: &str) -> Result<Option<Response>, StageError> {
        let request =
            || self.http.request(method.clone(), format!("{}/v2/{path}", self.base)).header(ACCEPT, MANIFESTS);
        let mut answer = self.send(request()).await?;
        let mut shown_to_registry = false;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
            let request = match challenges.filter_map(Challenge::parse).next() {
                Some(Challenge::Basic) => {
                    shown_to_registry = true;
                    self.with_password(request())
                }
                Some(Challenge::Bearer { realm, service }) => {
                    // For no more than this repository, whatever the challenge names.
                    let scope = format!("repository:{repository}:pull");
                    let token = self.token(&realm, service.as_deref(), &scope).await?;
                    request().bearer_auth(token.expose_secret())
                }
                None => return Err(self.broken("a challenge that isn't known here")),
            };
            answer = self.send(request).await?;
        }
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            status if status.is_redirection() => Err(self.broken("a way to somewhere that isn't followed")),
            StatusCode::UNAUTHORIZED if shown_to_registry => Err(self.refusal(&answer, LOGIN)),
            _ => Err(self.refusal(&answer, &format!("to read {repository}"))),
        }
    }

    /// A token for one repository, from the place that the registry names.
    async fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<SecretString, StageError> {
        let Some(mut url) = self.token_hosts.trusted(realm) else {
            let message = format!(
                "{} sends those who log in to another host for a token, and nobody has said that it's the registry's: \
                 nothing was sent there",
                self.base
            );
            return Err(StageError::new(ErrorCode::RegistryRealmUntrusted, message));
        };
        url.query_pairs_mut().extend_pairs(service.map(|s| ("service", s))).append_pair("scope", scope);
        let answer = self.send(self.with_password(self.http.get(url))).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(&answer, LOGIN));
        }
        let body = self.body(answer, REGISTRY_TOKEN, "more than 64 KiB for a token").await?;
        let answer: Value = serde_json::from_slice(&body).map_err(|_| self.broken("what isn't JSON"))?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let fits = |token: &&str| token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_graphic());
        token.filter(fits).map(SecretString::from).ok_or_else(|| self.broken("an answer without a usable token"))
    }

    fn with_password(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credential {
            Some(c) => request.basic_auth(&c.username, Some(c.password.expose_secret())),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, StageError> {
        let answer = request.send().await.map_err(|e| self.silent(&e.without_url()))?;
        if answer.status().is_server_error() {
            let message = format!("{} answers {}", self.base, answer.status().as_u16());
            return Err(StageError::new(ErrorCode::RegistryUnavailable, message));
        }
        Ok(answer)
    }

    fn refusal(&self, answer: &Response, what: &str) -> StageError {
        let status = answer.status();
        let (base, number) = (&self.base, status.as_u16());
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
            let error = StageError::new(ErrorCode::RegistryRateLimited, format!("{base} refuses {what} for now (429)"));
            return StageError { retry_after: Some(Duration::from_secs(wait.unwrap_or(60).min(3600))), ..error };
        }
        if !matches!(number, 401 | 403) {
            return self.broken(&format!("status {number}, which says nothing about {what}"));
        }
        let message = match &self.credential {
            None => format!("{base} refuses {what}, without a credential ({number})"),
            Some(c) => {
                let (name, source) = (&c.username, c.source.as_str());
                let why = if what == LOGIN { ": it has expired, was revoked, or is wrong" } else { "" };
                format!("{base} refuses {what}, to {name}, whose credential came from the {source} ({number}){why}")
            }
        };
        StageError::new(ErrorCode::RegistryCredentialRefused, message)
    }

    fn silent(&self, error: &reqwest::Error) -> StageError {
        StageError::new(ErrorCode::RegistryUnavailable, format!("{} doesn't answer: {}", self.base, chain(error)))
    }

    pub(super) fn broken(&self, what: &str) -> StageError {
        StageError::new(ErrorCode::RegistryUnavailable, format!("{} answers with {what}", self.base))
    }
}

/// An HTTP date in seconds since 1970.
fn seconds_of(date: &str) -> Option<u64> {
    rfc2822::parse(date).ok()?.timestamp().as_second().try_into().ok()
}

/// To another host without the credential, which the client itself sees to, and never out of TLS.
fn redirects(local: bool) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS || !(local || attempt.url().scheme() == "https") {
            attempt.stop()
        } else {
            attempt.follow()
        }
    })
}

#[cfg(test)]
mod date_tests {
    #[test]
    fn a_date_of_http_is_read() {
        assert_eq!(super::seconds_of("Mon, 30 Nov 2026 00:18:42 GMT"), Some(1_795_997_922));
        assert_eq!(super::seconds_of("yesterday"), None);
    }
}
