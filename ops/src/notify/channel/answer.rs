//! Answers of channels over HTTP: bounded, and never repeated with the URL, which may be a secret.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{RequestBuilder, StatusCode};

use super::delivery::SendFailure;
use crate::terminal::error::join_sources;

/// What is read of an answer at most, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// The longest that a channel is believed to have to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How long it waits that is asked to, and not told for how long.
const UNKNOWN_WAIT: Duration = Duration::from_secs(30);

/// An answer's status, how long it asks to wait, and the beginning of its body.
pub(super) struct ChannelAnswer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: String,
}

impl ChannelAnswer {
    /// What it says, for an error: short, and in one line.
    pub(super) fn summary(&self) -> String {
        let text: String = self.body.lines().next().unwrap_or_default().chars().take(200).collect();
        let text = text.trim();
        if text.is_empty() { self.status.to_string() } else { format!("{}: {text}", self.status) }
    }

    /// The wait that it asks for, bounded.
    pub(super) fn wait(&self) -> Duration {
        bounded(self.retry_after.unwrap_or(UNKNOWN_WAIT))
    }
}

/// A wait that another side asks for, bounded.
pub(super) fn bounded(wait: Duration) -> Duration {
    wait.clamp(Duration::from_secs(1), LONGEST_WAIT)
}

/// Sends a request.
///
/// # Errors
/// [`SendFailure::Channel`] when there is no answer.
pub(super) async fn ask(request: RequestBuilder) -> Result<ChannelAnswer, SendFailure> {
    let mut answer = request.send().await.map_err(no_answer)?;
    let retry_after = answer.headers().get("retry-after").and_then(|value| parse_wait(value.to_str().ok()?));
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
        if body.len() == MAX_ANSWER {
            break;
        }
    }
    Ok(ChannelAnswer { status: answer.status(), retry_after, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Seconds, or a date.
fn parse_wait(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
}

fn no_answer(error: reqwest::Error) -> SendFailure {
    let maybe_told = !error.is_connect() && !error.is_builder();
    let problem = join_sources(&error.without_url());
    SendFailure::Channel { problem: format!("no answer: {problem}"), maybe_told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date_and_bounded() {
        assert_eq!(parse_wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse_wait("Fri, 20 Nov 2020 09:30:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_wait("soon"), None);
        assert_eq!(bounded(Duration::MAX), LONGEST_WAIT);
        assert_eq!(bounded(Duration::ZERO), Duration::from_secs(1));
    }
}
