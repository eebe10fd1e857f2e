//! The image registry, asked by the worker before anything on a server is touched: which image of a commit there is,
//! and whether the credential may read it. Images themselves are pulled by the servers.
//!
//! Sources: the OCI distribution specification, and Docker's token authentication, which ghcr.io asks for.

use std::time::Duration;

use reqwest::header::{ACCEPT, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::{BranchName, CommitSha};

use super::image_tag;
use crate::budget::REGISTRY_ANSWER;
use crate::http::{AnswerError, builder, chain, read_answer};
use crate::{DeployerConfig, RegistryCredential, StageError};

/// How long one question may go unanswered.
pub const TIMEOUT: Duration = Duration::from_secs(10);
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// The label with which builders record the commit that an image was made from.
const REVISION: &str = "org.opencontainers.image.revision";

/// One registry, and who asks it. Clones share connections.
#[derive(Clone)]
pub(crate) struct RegistryClient {
    http: Client,
    base: String,
    credential: Option<RegistryCredential>,
}

/// An image that a deployment runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseImage {
    /// The reference in `.env`: the commit's own tag, or the branch's with its digest.
    pub reference: String,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
}

/// An image that a recorded version ran.
#[derive(Debug)]
pub(crate) struct RecordedImage {
    /// The manifest's digest.
    pub digest: String,
    /// Whether the server has it: then the registry needn't.
    pub on_server: bool,
}

impl RegistryClient {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// `internal-error` for a bad CA file.
    pub(crate) fn new(config: &DeployerConfig) -> Result<Self, StageError> {
        let unusable = |why| StageError::new(ErrorCode::InternalError, why);
        let http = builder(config.ca_file.as_deref())
            .map_err(unusable)?
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::limited(3))
            .build()
            .map_err(|e| unusable(format!("the HTTP client: {}", chain(&e))))?;
        let host = config.image_registry.as_str();
        let credential = config.registry.clone().filter(|c| c.registry == host);
        // As Docker does.
        let local = host.starts_with("127.") || host.split(':').next() == Some("localhost");
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        Ok(Self { http, base: format!("{}://{host}", if local { "http" } else { "https" }), credential })
    }

    /// The image of `repository` to run for a commit: its own (`sha-<7>`), else that of the branch, pinned to its
    /// digest, unless that one says that it was made from another commit. `host` is how references begin.
    ///
    /// # Errors
    /// `image-not-found`, `registry-credential-refused`, `registry-rate-limited`, `registry-unavailable`.
    pub(crate) async fn find(
        &self,
        host: &str,
        repository: &str,
        commit: &CommitSha,
        branch: &BranchName,
    ) -> Result<ReleaseImage, StageError> {
        let own = image_tag::of_commit(commit);
        if let Some(digest) = self.digest(repository, &own).await? {
            return Ok(ReleaseImage { reference: format!("{host}/{repository}:{own}"), digest });
        }
        let tag = image_tag::of_branch(branch);
        let absent = |why: String| {
            let message = format!("{host}/{repository} has no image {own}, and {why}");
            StageError::new(ErrorCode::ImageNotFound, message)
        };
        let Some(digest) = self.digest(repository, &tag).await? else {
            return Err(absent(format!("none tagged {tag} either")));
        };
        match self.revision(repository, &digest).await? {
            Some(other) if other != commit.as_str() => {
                Err(absent(format!("the one tagged {tag} is of commit {other}")))
            }
            _ => Ok(ReleaseImage { reference: format!("{host}/{repository}:{tag}@{digest}"), digest }),
        }
    }

    /// As [`Self::find`], but the `recorded` image as long as it can be had, whatever its tag means by now. It's named as it
    /// was then where that still means it.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn find_recorded(
        &self,
        host: &str,
        repository: &str,
        commit: &CommitSha,
        branch: &BranchName,
        recorded: &RecordedImage,
    ) -> Result<ReleaseImage, StageError> {
        let RecordedImage { digest, on_server } = recorded;
        let own = image_tag::of_commit(commit);
        let now = self.digest(repository, &own).await?;
        let tag = if now.is_some() { own } else { image_tag::of_branch(branch) };
        let reference = match now {
            Some(now) if now == *digest => format!("{host}/{repository}:{tag}"),
            _ if *on_server || self.digest(repository, digest).await?.is_some() => {
                format!("{host}/{repository}:{tag}@{digest}")
            }
            _ => return self.find(host, repository, commit, branch).await,
        };
        Ok(ReleaseImage { reference, digest: digest.clone() })
    }

    /// Whether everybody may pull an image that a project names, by its tag or digest.
    ///
    /// # Errors
    /// `registry-rate-limited`, `registry-unavailable`.
    pub(crate) async fn gives_to_everybody(&self, repository: &str, reference: &str) -> Result<bool, StageError> {
        let nobody = Self { credential: None, ..self.clone() };
        match nobody.digest(repository, reference).await {
            Err(error) if error.code == ErrorCode::RegistryCredentialRefused => Ok(false),
            found => Ok(found?.is_some()),
        }
    }

    async fn digest(&self, repository: &str, tag: &str) -> Result<Option<String>, StageError> {
        let path = format!("{repository}/manifests/{tag}");
        let Some(answer) = self.ask(Method::HEAD, repository, &path).await? else { return Ok(None) };
        let digest = answer.headers().get("docker-content-digest").and_then(|d| d.to_str().ok());
        let plain = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        match digest.filter(|d| d.strip_prefix("sha256:").is_some_and(plain)) {
            Some(digest) => Ok(Some(digest.to_owned())),
            None => Err(self.broken("a manifest without a digest")),
        }
    }

    /// The commit that an image says it was made from.
    async fn revision(&self, repository: &str, digest: &str) -> Result<Option<String>, StageError> {
        let revision_in = |value: &Value| value[REVISION].as_str().map(str::to_owned);
        let mut manifest = self.json(repository, &format!("{repository}/manifests/{digest}")).await?;
        if let Some(revision) = revision_in(&manifest["annotations"]) {
            return Ok(Some(revision));
        }
        if let Some(first) = manifest["manifests"][0]["digest"].as_str().map(str::to_owned) {
            manifest = self.json(repository, &format!("{repository}/manifests/{first}")).await?;
        }
        let Some(config) = manifest["config"]["digest"].as_str() else { return Ok(None) };
        let config = self.json(repository, &format!("{repository}/blobs/{config}")).await?;
        Ok(revision_in(&config["config"]["Labels"]))
    }

    async fn json(&self, repository: &str, path: &str) -> Result<Value, StageError> {
        let Some(answer) = self.ask(Method::GET, repository, path).await? else {
            return Err(self.broken("a manifest whose parts are missing"));
        };
        self.read(answer).await
    }

    async fn read(&self, mut answer: Response) -> Result<Value, StageError> {
        match read_answer(&mut answer, REGISTRY_ANSWER).await {
            Ok(body) => serde_json::from_slice(&body).map_err(|_| self.broken("what isn't JSON")),
            Err(AnswerError::Broken(error)) => Err(self.silent(&error.without_url())),
            Err(AnswerError::TooLarge) => Err(self.broken("more than 4 MiB, where a manifest or a token has some KiB")),
        }
    }

    /// Asks, and asks again with what the challenge wants. `None`: it isn't there.
    async fn ask(&self, method: Method, repository: &str, path: &str) -> Result<Option<Response>, StageError> {
        let request =
            || self.http.request(method.clone(), format!("{}/v2/{path}", self.base)).header(ACCEPT, MANIFESTS);
        let mut answer = self.send(request()).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
            let request = match challenges.filter_map(Challenge::parse).next() {
                Some(Challenge::Basic) => self.with_password(request()),
                Some(Challenge::Bearer { realm, service, scope }) => {
                    let scope = scope.unwrap_or_else(|| format!("repository:{repository}:pull"));
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
            _ => Err(self.refusal(&answer, &format!("to read {repository}"))),
        }
    }

    /// A token for one repository, from the place that the registry names.
    async fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<SecretString, StageError> {
        let realm = Url::parse(realm).ok().filter(|url| url.scheme() == "https" || self.base.starts_with("http://"));
        let Some(mut url) = realm else {
            return Err(self.broken("a place for tokens that isn't an https URL"));
        };
        url.query_pairs_mut().extend_pairs(service.map(|s| ("service", s))).append_pair("scope", scope);
        let answer = self.send(self.with_password(self.http.get(url))).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(&answer, "a token"));
        }
        let answer = self.read(answer).await?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        token.map(SecretString::from).ok_or_else(|| self.broken("an answer without a token"))
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
        let who = self.credential.as_ref().map_or("without a credential".to_owned(), |c| format!("to {}", c.username));
        StageError::new(ErrorCode::RegistryCredentialRefused, format!("{base} refuses {what}, {who} ({number})"))
    }

    fn silent(&self, error: &reqwest::Error) -> StageError {
        StageError::new(ErrorCode::RegistryUnavailable, format!("{} doesn't answer: {}", self.base, chain(error)))
    }

    fn broken(&self, what: &str) -> StageError {
        StageError::new(ErrorCode::RegistryUnavailable, format!("{} answers with {what}", self.base))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// `Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull"`.
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        // A scope's value holds commas of its own.
        let value = |name: &str| {
            let from = rest.find(&format!("{name}=\""))? + name.len() + 2;
            Some(rest[from..].split('"').next()?.to_owned())
        };
        Some(Self::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") })
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
