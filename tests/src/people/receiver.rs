//! A receiver of signed webhooks as somebody writes it by <https://www.standardwebhooks.com>: it checks signature and time, and
//! acts once for each id.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;

use super::fault::{ChatFault, PlantedChatFaults};
use super::http;

/// How far a message's time may be from now, in seconds.
const TOLERANCE: i64 = 300;

/// A webhook that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedWebhook {
    /// `webhook-id`.
    pub id: String,
    /// The body, byte by byte.
    pub body: Vec<u8>,
    /// `webhook-signature`.
    pub signatures: String,
    /// `webhook-timestamp`.
    pub timestamp: i64,
    /// Whether one with this id came before: then nothing more is done.
    pub again: bool,
}

/// The receiver. Gone with the runtime that it was started in.
#[derive(Debug, Clone)]
pub struct WebhookReceiver {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    faults: PlantedChatFaults,
    key: Mutex<Vec<u8>>,
    seen: Mutex<BTreeSet<String>>,
    received: Mutex<Vec<ReceivedWebhook>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WebhookReceiver {
    /// Starts it with the one key that it knows.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(key: &[u8]) -> anyhow::Result<Self> {
        let inner = Arc::new(Inner {
            faults: PlantedChatFaults::default(),
            key: Mutex::new(key.to_vec()),
            seen: Mutex::default(),
            received: Mutex::default(),
        });
        let router = Router::new().route("/hook", post(take)).with_state(inner.clone());
        Ok(Self { address: http::serve(router).await?, inner })
    }

    /// Where it takes webhooks.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on it knows another key, and not the one before.
    pub fn change_key(&self, key: &[u8]) {
        *lock(&self.inner.key) = key.to_vec();
    }

    /// What the next request meets.
    pub fn plant(&self, fault: ChatFault) {
        self.inner.faults.plant(fault);
    }

    /// What was accepted, in order.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedWebhook> {
        lock(&self.inner.received).clone()
    }

    /// How many requests came while the receiver had asked to wait.
    #[must_use]
    pub fn early(&self) -> u64 {
        self.inner.faults.early()
    }
}

async fn take(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    let fault = inner.faults.next();
    match &fault {
        Some(ChatFault::Limit(seconds)) => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())], "").into_response();
        }
        Some(ChatFault::Refuse(status, body)) => {
            return (StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST), *body).into_response();
        }
        _ => {}
    }
    let Some(mut accepted) = verify(&lock(&inner.key), &headers, &body) else {
        return (StatusCode::UNAUTHORIZED, "the signature or the time isn't right").into_response();
    };
    accepted.again = !lock(&inner.seen).insert(accepted.id.clone());
    lock(&inner.received).push(accepted);
    match fault {
        Some(ChatFault::NoAnswer) => std::future::pending().await,
        Some(ChatFault::LostAnswer) => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// What somebody signed with `key`, if it's new enough.
fn verify(key: &[u8], headers: &HeaderMap, body: &[u8]) -> Option<ReceivedWebhook> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    let (id, signatures) = (header("webhook-id")?, header("webhook-signature")?);
    let timestamp: i64 = header("webhook-timestamp")?.parse().ok()?;
    if (Timestamp::now().as_second() - timestamp).abs() > TOLERANCE {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let is_ours = signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    let valid = is_ours.into_iter().any(|signature| hmac::verify(&key, &signed, &signature).is_ok());
    valid.then(|| ReceivedWebhook { id, body: body.to_vec(), signatures, timestamp, again: false })
}
