//! Trying a request to GitHub's API again after a short fault. This is the only place that does: a stage isn't tried again
//! for GitHub's sake, so that one attempt of a deployment makes at most three requests of a kind, and three more with a new
//! token where GitHub has withdrawn the old one. A rate limit takes longer
//! than that and is left to the next attempt.

use std::time::Duration;

use slipway_protocol::ErrorCode;

use super::answer::GithubResponse;
use super::api::{ApiCall, ApiClient};
use crate::StageError;
use crate::backoff::RetryPolicy;
use crate::http::chain;

/// A fault that may be over in a moment.
struct ShortFault {
    what: String,
    retry_after: Option<Duration>,
}

/// Sends, and sends again when the network or GitHub fails for a moment. Everything that is sent here may be sent twice.
///
/// # Errors
/// What a refusal means, and `github-unavailable` after the last try.
pub(super) async fn send(api: &ApiClient, call: &ApiCall<'_>) -> Result<GithubResponse, StageError> {
    let mut tried = 1;
    loop {
        let fault = match api.send_once(call).await? {
            Ok(answer) if !answer.status.is_server_error() => return answer.accept(call.asker, call.doing),
            Ok(answer) => ShortFault { what: answer.status.to_string(), retry_after: answer.retry_after() },
            Err(error) => ShortFault { what: chain(&error.without_url()), retry_after: None },
        };
        let Some(delay) = RetryPolicy::IN_STAGE.delay(tried) else {
            let message =
                format!("GitHub's API doesn't answer to {} (tried {tried} times): {}", call.doing, fault.what);
            let error = StageError::new(ErrorCode::GithubUnavailable, message);
            return Err(StageError { retry_after: fault.retry_after, ..error });
        };
        tracing::debug!(github.doing = call.doing, failure = fault.what, tried, "GitHub is asked again");
        tokio::time::sleep(delay).await;
        tried += 1;
    }
}
