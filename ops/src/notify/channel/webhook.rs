//! A webhook of one's own: the event as it came, signed, with the event's id, by which a receiver recognises what comes again.

use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use slipway_protocol::CONTENT_TYPE;

use super::answer::ask;
use super::delivery::{MessageDelivery, SendFailure};
use super::signature::sign;
use crate::notify::routing::settings::WebhookAddress;

/// Sends an event.
///
/// # Errors
/// Why it isn't known to have arrived.
pub(super) async fn send(
    client: &Client,
    address: &WebhookAddress,
    delivery: &MessageDelivery<'_>,
) -> Result<(), SendFailure> {
    let body = delivery.event.unwrap_or_default().to_vec();
    let timestamp = Timestamp::now().as_second();
    let request = client
        .post(address.url.clone())
        .header("content-type", CONTENT_TYPE)
        .header("webhook-id", &delivery.id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", sign(&address.keys, &delivery.id, timestamp, &body))
        .body(body);
    let answer = ask(request).await?;
    match answer.status {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Err(SendFailure::Limited(answer.wait())),
        StatusCode::SERVICE_UNAVAILABLE if answer.retry_after.is_some() => Err(SendFailure::Limited(answer.wait())),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(SendFailure::channel(format!("the receiver doesn't take webhooks of ours ({})", answer.summary())))
        }
        status if status.is_client_error() => {
            Err(SendFailure::message(format!("the receiver refused the event ({})", answer.summary())))
        }
        // What a redirection leads to isn't what the file names.
        status if status.is_redirection() => Err(SendFailure::channel(format!(
            "the receiver has moved ({status}): name its new URL in the routing file"
        ))),
        _ => Err(SendFailure::Channel { problem: answer.summary(), maybe_told: true }),
    }
}
