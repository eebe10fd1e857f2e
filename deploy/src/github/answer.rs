//! What GitHub answered, and which error of ours a refusal is.
//!
//! Sources: "Troubleshooting the REST API", "Rate limits for the REST API" and "Best practices for using the REST API"
//! in GitHub's documentation. Deliberately not here: trying again.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde_json::Value;
use slipway_protocol::ErrorCode;
use zeroize::Zeroizing;

use crate::StageError;

/// GitHub asks to wait this long after a secondary limit without `retry-after`.
pub const SECONDARY_WAIT: Duration = Duration::from_secs(60);
/// A primary window is an hour long; a longer wait is a mistake of a clock.
pub const MAX_WAIT: Duration = Duration::from_secs(3600 + 60);

/// Who asks: GitHub says one and the same thing for different reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialKind {
    /// The App itself, with a JSON web token.
    App,
    /// The App's installation, with a token minted for it.
    Installation,
    /// A person's token.
    Token,
}

pub(super) struct GithubResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
    /// Of the URL that answered in the end, after redirects.
    pub path: String,
}

impl GithubResponse {
    /// Itself when it is a success, or says that an earlier answer still holds.
    pub(super) fn accept(self, asker: CredentialKind, doing: &str) -> Result<Self, StageError> {
        if self.status.is_success() || self.is_unchanged() { Ok(self) } else { Err(self.refusal(asker, doing)) }
    }

    /// Whether it says that an earlier answer still holds.
    pub(super) fn is_unchanged(&self) -> bool {
        self.status == StatusCode::NOT_MODIFIED
    }

    /// The body of a success.
    pub(super) fn read<T: DeserializeOwned>(&self, doing: &str) -> Result<T, StageError> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let message = format!("GitHub's answer to {doing} isn't what its documentation promises");
            StageError::new(ErrorCode::GithubUnavailable, message)
        })
    }

    /// How long GitHub asks to wait, if it says.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.number(RETRY_AFTER.as_str()).map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT))
    }

    fn refusal(&self, asker: CredentialKind, doing: &str) -> StageError {
        let reason = self.message();
        if let Some(wait) = self.rate_limit(&reason) {
            let seconds = wait.as_secs();
            let message = format!("GitHub's rate limit is used up (to {doing}); it allows more in {seconds} s");
            return StageError { retry_after: Some(wait), ..StageError::new(ErrorCode::GithubRateLimited, message) };
        }
        let lower = reason.to_ascii_lowercase();
        let (code, hint) = match self.status.as_u16() {
            401 => (ErrorCode::GithubCredentialRefused, String::new()),
            404 if asker == CredentialKind::App && lower.contains("integration not found") => {
                (ErrorCode::GithubCredentialRefused, "; no GitHub App has this id".to_owned())
            }
            404 if asker == CredentialKind::Token => (ErrorCode::RepositoryNotFound, String::new()),
            404 => (ErrorCode::GithubNotInstalled, String::new()),
            403 if lower.contains("ip allow list") => {
                (ErrorCode::GithubIpNotAllowed, "; it's the address that this worker leaves with".to_owned())
            }
            403 if lower.contains("saml") || self.headers.contains_key("x-github-sso") => {
                (ErrorCode::GithubSsoRequired, String::new())
            }
            403 if lower.contains("archived") => (ErrorCode::GithubArchived, String::new()),
            403 if lower.contains("suspended") => (ErrorCode::GithubSuspended, String::new()),
            403 => (ErrorCode::GithubForbidden, self.needed_permission()),
            _ => (ErrorCode::GithubRefused, String::new()),
        };
        StageError::new(code, format!("GitHub refuses to {doing} ({}): {reason}{hint}", self.status.as_u16()))
    }

    /// The wait, when this is a rate limit: both kinds come as 403 and as 429.
    fn rate_limit(&self, reason: &str) -> Option<Duration> {
        if !matches!(self.status.as_u16(), 403 | 429) {
            return None;
        }
        let wait = if let Some(asked) = self.retry_after() {
            asked
        } else if self.number("x-ratelimit-remaining") == Some(0) {
            self.until_reset().unwrap_or(SECONDARY_WAIT)
        } else if self.status == StatusCode::TOO_MANY_REQUESTS || says_limit(reason) {
            SECONDARY_WAIT
        } else {
            return None;
        };
        Some(wait.clamp(Duration::from_secs(1), MAX_WAIT))
    }

    /// By GitHub's own clock when its answer has a date; one second more, since it cuts fractions off.
    fn until_reset(&self) -> Option<Duration> {
        let reset = i64::try_from(self.number("x-ratelimit-reset")?).ok()?;
        let now = date(&self.headers).unwrap_or_else(Timestamp::now);
        Some(Duration::from_secs(u64::try_from(reset.saturating_sub(now.as_second())).unwrap_or(0) + 1))
    }

    /// `; it needs secrets: write`, from a header like `secrets=write`.
    fn needed_permission(&self) -> String {
        let header = self.headers.get("x-accepted-github-permissions").and_then(|value| value.to_str().ok());
        let needed = plain(header.unwrap_or_default()).replace('=', ": ");
        if needed.is_empty() { String::new() } else { format!("; it needs {needed}") }
    }

    /// GitHub's own words, cut short; of an HTML page nothing.
    fn message(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match body["message"].as_str() {
            Some(message) if !message.trim().is_empty() => plain(message),
            _ => "it gives no reason".to_owned(),
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    }
}

/// Whether GitHub's words are those of a limit, also of a secondary one as servers of enterprises still say it.
fn says_limit(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["rate limit", "abuse detection", "submitted too quickly"].iter().any(|words| reason.contains(words))
}

/// When an answer was made, by the clock of who made it.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok().map(|date| date.timestamp())
}

/// Foreign text on one line, 200 characters at most.
pub(super) fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_limit_is_waited_for_in_whatever_words_github_tells_it() {
        for (message, code) in [
            ("You have exceeded a secondary rate limit. Please wait a few minutes.", ErrorCode::GithubRateLimited),
            (
                "You have triggered an abuse detection mechanism. Please wait a few minutes.",
                ErrorCode::GithubRateLimited,
            ),
            ("was submitted too quickly after the previous one", ErrorCode::GithubRateLimited),
            ("Resource not accessible by integration", ErrorCode::GithubForbidden),
        ] {
            let body = Zeroizing::new(format!("{{\"message\":\"{message}\"}}").into_bytes());
            let (status, headers) = (StatusCode::FORBIDDEN, HeaderMap::new());
            let error = GithubResponse { status, headers, body, path: "/x".to_owned() }
                .refusal(CredentialKind::Installation, "read a branch");
            let wait = (code == ErrorCode::GithubRateLimited).then_some(SECONDARY_WAIT);
            assert_eq!((error.code, error.retry_after), (code, wait), "{message}");
        }
    }

    #[test]
    fn fuzzed_answers_of_github_are_short_and_their_waits_bounded() {
        let corpus: [&[u8]; 3] = [
            br#"{"message": "API rate limit exceeded", "documentation_url": "https://docs.github.com"}"#,
            b"<html><title>Unicorn!</title>",
            br#"{"message": "Resource not accessible by integration", "status": "403"}"#,
        ];
        slipway_protocol::fuzz::run("GitHub's answers", &corpus, |body| {
            let mut headers = HeaderMap::new();
            let names =
                ["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset", "date", "x-accepted-github-permissions"];
            let odd = ["0", "18446744073709551615", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "secrets=write\u{e9}"];
            for (at, name) in names.into_iter().enumerate() {
                let value = body.get(at).map_or_else(
                    || HeaderValue::from_static("1"),
                    |byte| {
                        let odd = odd[usize::from(*byte) % odd.len()];
                        HeaderValue::from_bytes(odd.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static("?"))
                    },
                );
                headers.insert(name, value);
            }
            let status = [401, 403, 404, 422, 429, 500][body.len() % 6];
            let status = StatusCode::from_u16(status).unwrap_or_default();
            let answer = GithubResponse { status, headers, body: Zeroizing::new(body.to_vec()), path: "/x".to_owned() };
            let error = answer.refusal(CredentialKind::Installation, "read a branch");
            assert!(error.message.len() < 2_000 && !error.message.contains(char::is_control), "{}", error.message);
            assert!(error.retry_after.is_none_or(|wait| wait <= MAX_WAIT), "{:?}", error.retry_after);
        });
    }
}
