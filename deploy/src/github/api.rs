//! One request to GitHub's API: its headers and time-outs.
//!
//! GitHub's own time is kept as well: what is signed for it, or ends at a time of its, goes by that clock and not by ours.
//!
//! Deliberately not here: trying again (`retry`), what a refusal means (`answer`) and where the token comes from.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::{Client, Method, Url, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use slipway_protocol::ErrorCode;
use zeroize::Zeroizing;

use super::answer::{CredentialKind, GithubResponse, date};
use crate::StageError;
use crate::budget::GITHUB_ANSWER;
use crate::http::{self, AnswerError, chain, read_answer};

/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte sent to the last one read.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct ApiClient {
    http: Client,
    /// Without a slash at the end.
    base: String,
    /// Seconds that GitHub's clock is ahead of ours, by its last answer.
    ahead: AtomicI64,
}

/// So many seconds of difference are told.
const TOLD_SKEW: i64 = 30;

/// What is asked, by whom.
pub(super) struct ApiCall<'a> {
    pub method: Method,
    pub path: &'a str,
    pub bearer: &'a SecretString,
    pub body: Option<&'a Value>,
    /// The mark of an earlier answer, which GitHub then doesn't repeat.
    pub if_none_match: Option<&'a str>,
    /// For errors, worded to follow "to".
    pub doing: &'a str,
    pub asker: CredentialKind,
}

impl<'a> ApiCall<'a> {
    /// Of the App itself, with a web token.
    pub(super) fn of_app(
        method: Method,
        path: &'a str,
        bearer: &'a SecretString,
        body: Option<&'a Value>,
        doing: &'a str,
    ) -> Self {
        Self { method, path, bearer, body, if_none_match: None, doing, asker: CredentialKind::App }
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl ApiClient {
    pub(super) fn new(base: &str, ca_file: Option<&Path>) -> Result<Self, StageError> {
        let unusable = |why: String| StageError::new(ErrorCode::InternalError, why);
        let url: Url = base.parse().map_err(|e| unusable(format!("GitHub's API URL: {e}")))?;
        if !matches!(url.scheme(), "https" | "http") || !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("GitHub's API URL must be http(s) without user and password".to_owned()));
        }
        let builder = http::builder(ca_file)
            .map_err(unusable)?
            .default_headers(default_headers())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            // A renamed repository answers under its number.
            .redirect(redirect::Policy::limited(3));
        let http = builder.build().map_err(|e| unusable(format!("the HTTP client: {}", chain(&e))))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), ahead: AtomicI64::new(0) })
    }

    /// The time by GitHub's clock, as far as it's known.
    pub(super) fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed));
        Timestamp::now().checked_add(ahead).unwrap_or_else(|_| Timestamp::now())
    }

    fn learn_time(&self, headers: &HeaderMap) {
        let Some(theirs) = date(headers) else { return };
        let ahead = theirs.as_second() - Timestamp::now().as_second();
        let before = self.ahead.swap(ahead, Ordering::Relaxed);
        if ahead.abs() > TOLD_SKEW && (ahead - before).abs() > TOLD_SKEW {
            tracing::warn!(
                github.ahead_s = ahead,
                "this machine's clock differs from GitHub's, whose time is used for its web tokens: turn on time synchronisation"
            );
        }
    }

    /// Sends one request. The outer error is one that no other try can help.
    pub(super) async fn send_once(
        &self,
        call: &ApiCall<'_>,
    ) -> Result<Result<GithubResponse, reqwest::Error>, StageError> {
        let mut request = self.http.request(call.method.clone(), format!("{}{}", self.base, call.path));
        request = request.header(AUTHORIZATION, bearer(call.bearer)?);
        if let Some(body) = call.body {
            request = request.json(body);
        }
        if let Some(etag) = call.if_none_match {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        let (status, path) = (response.status(), response.url().path().to_owned());
        let headers = std::mem::take(response.headers_mut());
        self.learn_time(&headers);
        match read_answer(&mut response, GITHUB_ANSWER).await {
            Ok(body) => Ok(Ok(GithubResponse { status, headers, body, path })),
            Err(AnswerError::Broken(error)) => Ok(Err(error)),
            Err(AnswerError::TooLarge) => {
                let message = format!("GitHub's answer to {} is larger than 1 MiB", call.doing);
                Err(StageError::new(ErrorCode::GithubUnavailable, message))
            }
        }
    }
}

fn default_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/vnd.github+json")),
        (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28")),
    ])
}

fn bearer(token: &SecretString) -> Result<HeaderValue, StageError> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        StageError::new(ErrorCode::GithubCredentialRefused, "the GitHub token holds characters that no token has")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
