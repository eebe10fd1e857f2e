//! Slack's incoming webhooks, after <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::Value;

use super::fault::{ChatFault, PlantedChatFaults};
use super::http;

/// What makes the webhook's URL a secret.
const SECRET: &str = "T0AAAAAAA/B0BBBBBBB/cccccccccccccccccccccccc";
/// From so many characters on Slack cuts a text.
const LONGEST: usize = 40_000;

/// The stand-in. Gone with the runtime that it was started in.
#[derive(Debug, Clone)]
pub struct SlackStandIn {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    faults: PlantedChatFaults,
    told: Mutex<Vec<String>>,
}

impl SlackStandIn {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> anyhow::Result<Self> {
        let inner = Arc::<Inner>::default();
        let router = Router::new().route("/services/{*secret}", post(take)).with_state(inner.clone());
        Ok(Self { address: http::serve(router).await?, inner })
    }

    /// The webhook's URL, which is a secret.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/services/{SECRET}", self.address)
    }

    /// What the next request meets.
    pub fn plant(&self, fault: ChatFault) {
        self.inner.faults.plant(fault);
    }

    /// The texts that were told, in order, as they came.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        self.inner.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests came while Slack had asked to wait.
    #[must_use]
    pub fn early(&self) -> u64 {
        self.inner.faults.early()
    }
}

async fn take(
    State(inner): State<Arc<Inner>>,
    Path(secret): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    if secret != SECRET {
        return (StatusCode::NOT_FOUND, "no_service").into_response();
    }
    let fault = inner.faults.next();
    match &fault {
        Some(ChatFault::Limit(seconds)) => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())], "rate_limited")
                .into_response();
        }
        Some(ChatFault::Refuse(status, body)) => {
            return (StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST), *body).into_response();
        }
        _ => {}
    }
    let is_json = headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let payload = serde_json::from_slice::<Value>(&body).ok().filter(|payload| is_json && payload.is_object());
    let Some(payload) = payload else { return (StatusCode::BAD_REQUEST, "invalid_payload").into_response() };
    let text = payload["text"].as_str().unwrap_or_default();
    if text.is_empty() {
        return (StatusCode::BAD_REQUEST, "no_text").into_response();
    }
    if text.chars().count() > LONGEST {
        return (StatusCode::BAD_REQUEST, "msg_too_long").into_response();
    }
    inner.told.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    match fault {
        Some(ChatFault::NoAnswer) => std::future::pending().await,
        Some(ChatFault::LostAnswer) => (StatusCode::BAD_GATEWAY, "").into_response(),
        _ => "ok".into_response(),
    }
}
