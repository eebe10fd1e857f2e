//! Slack's incoming webhooks, and what takes the same: Mattermost, Rocket.Chat, Discord's `/slack`. Slack recognises no message
//! that comes again.

use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::answer::ask;
use super::delivery::{MessageDelivery, SendFailure};
use super::escape;
use crate::notify::routing::settings::SlackAddress;

/// What Slack shows in full, in characters, as its documentation advises; from 40,000 on it cuts.
const LIMIT: usize = 4000;

/// Sends a message.
///
/// # Errors
/// Why it isn't known to have arrived.
pub(super) async fn send(
    client: &Client,
    address: &SlackAddress,
    delivery: &MessageDelivery<'_>,
) -> Result<(), SendFailure> {
    let text = delivery.text.clone().shortened(LIMIT, escape::slack_length).plain();
    let body = json!({ "text": escape::slack(&text), "mrkdwn": false, "unfurl_links": false });
    let answer = ask(client.post(address.url.expose_secret()).json(&body)).await?;
    let says = answer.summary();
    match answer.status {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Err(SendFailure::Limited(answer.wait())),
        // The webhook, its channel or its workspace is gone, or somebody has forbidden it to post.
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => Err(SendFailure::channel(format!(
            "Slack doesn't take this webhook any more ({says}): make a new one, and put its URL into the file"
        ))),
        status if status.is_client_error() => Err(SendFailure::message(format!("Slack refused the message ({says})"))),
        _ => Err(SendFailure::Channel { problem: format!("Slack answered {says}"), maybe_told: true }),
    }
}
