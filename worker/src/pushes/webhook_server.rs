//! Takes GitHub's webhooks over HTTP: `POST /github`. What isn't signed with the secret is refused; what is signed has
//! branches looked at soon. TLS is the matter of what stands in front.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::connections::BoundedListener;
use super::payload::{PushHint, read_hint};
use super::signature::{SignatureKey, parse_signature};
use crate::process::Drain;
use crate::store::{DeliveryOutcome, Store, WebhookDelivery};
use crate::telemetry::Metrics;

/// GitHub doesn't send larger ones.
const MAX_BODY_BYTES: usize = 25 * 1024 * 1024;
/// Almost all are smaller. What is larger needs a place, so that all of them together don't use up the memory; what is
/// smaller needs none, so that nobody who sends slowly holds it up.
const SMALL_BODY_BYTES: usize = 256 * 1024;
/// Larger bodies that are in memory at once.
const LARGE_BODIES: usize = 4;
/// GitHub gives up after ten seconds.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// No id or name of GitHub's is longer, in bytes.
const MAX_HEADER_BYTES: usize = 100;

/// Where webhooks are taken.
pub struct WebhookServer {
    listener: TcpListener,
    address: SocketAddr,
    key: SignatureKey,
}

struct Hooks {
    store: Store,
    key: SignatureKey,
    large_bodies: Semaphore,
}

/// The answer to a webhook: its status, and what became of it in one word for the metrics.
type HookAnswer = (StatusCode, &'static str);

impl WebhookServer {
    /// Binds `address`; webhooks have to be signed with `secret`.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn bind(address: SocketAddr, secret: &SecretString) -> anyhow::Result<Self> {
        let bound = TcpListener::bind(address);
        let listener = bound
            .with_context(|| format!("can't listen on {address} (SLIPWAY_WEBHOOK_ADDR); is another worker there?"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, key: SignatureKey::new(secret) })
    }

    /// Where it listens, with the real port when the configured one was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the drain begins. GitHub shows what it couldn't send after that, and the next look finds it.
    pub async fn run(self, store: Store, drain: Drain) {
        let hooks = Arc::new(Hooks { store, key: self.key, large_bodies: Semaphore::new(LARGE_BODIES) });
        let router = Router::new().route("/github", post(take)).with_state(hooks);
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => BoundedListener::new(listener),
            Err(error) => {
                tracing::error!(%error, "webhooks can't be taken; branches are looked at all the same");
                return drain.token().cancelled().await;
            }
        };
        tracing::info!(address = %self.address, "webhooks are taken");
        tokio::select! {
            () = drain.token().cancelled() => {}
            served = async { axum::serve(listener, router).await } => {
                tracing::error!(error = ?served.err(), "the webhook server failed; branches are looked at all the same");
                drain.token().cancelled().await;
            }
        }
    }
}

async fn take(State(hooks): State<Arc<Hooks>>, headers: HeaderMap, body: Body) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let plain = |text: &&str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !text.is_empty() && text.len() <= MAX_HEADER_BYTES && text.bytes().all(plain)
    };
    let (delivery, event) = (header("x-github-delivery").filter(plain), header("x-github-event").filter(plain));
    let answered = match (header("x-hub-signature-256").and_then(parse_signature), delivery, event) {
        (None, _, _) => (StatusCode::UNAUTHORIZED, "unsigned"),
        (Some(signature), Some(delivery), Some(event)) => {
            let taking = hooks.take(&signature, delivery, event, body);
            let timely = tokio::time::timeout(ANSWER_TIMEOUT, taking).await;
            timely.unwrap_or((StatusCode::SERVICE_UNAVAILABLE, "timeout"))
        }
        _ => (StatusCode::BAD_REQUEST, "malformed"),
    };
    let (status, result) = answered;
    Metrics::get().webhook(result);
    tracing::info!(
        webhook.event = event,
        webhook.delivery = delivery,
        http.response.status_code = status.as_u16(),
        result,
        "webhook"
    );
    status
}

impl Hooks {
    async fn take(&self, signature: &[u8; 32], delivery: &str, event: &str, body: Body) -> HookAnswer {
        let (mut pieces, mut read, mut place) = (body.into_data_stream(), Vec::new(), None);
        while let Some(piece) = pieces.next().await {
            let Some(piece) = piece.ok().filter(|piece| read.len() + piece.len() <= MAX_BODY_BYTES) else {
                return (StatusCode::PAYLOAD_TOO_LARGE, "malformed");
            };
            if place.is_none() && read.len() + piece.len() > SMALL_BODY_BYTES {
                // It's never closed.
                place = self.large_bodies.acquire().await.ok();
            }
            read.extend_from_slice(&piece);
        }
        let body = read;
        if !self.key.accepts(signature, &body) {
            return (StatusCode::UNAUTHORIZED, "unsigned");
        }
        if event == "ping" {
            return (StatusCode::OK, "ping");
        }
        match read_hint(event, &body) {
            Err(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Ok(None) => (StatusCode::ACCEPTED, "ignored"),
            Ok(Some(hint)) => self.mark(signature, delivery, event, &hint).await,
        }
    }

    async fn mark(&self, signature: &[u8; 32], id: &str, event: &str, hint: &PushHint) -> HookAnswer {
        let signature = HEXLOWER.encode(signature);
        let delivery = WebhookDelivery {
            id,
            signature: &signature,
            event,
            action: hint.action.as_deref(),
            repository: Some(hint.repository.as_str()),
            branch: hint.branch.as_ref().map(slipway_protocol::names::BranchName::as_str),
        };
        match self.store.take_delivery(&delivery).await {
            Ok(DeliveryOutcome::Marked(0)) => (StatusCode::ACCEPTED, "unwatched"),
            Ok(DeliveryOutcome::Marked(_)) => (StatusCode::ACCEPTED, "marked"),
            Ok(DeliveryOutcome::Duplicate) => (StatusCode::ACCEPTED, "duplicate"),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(error, "a webhook couldn't be stored; the next look finds what it's about");
                (StatusCode::SERVICE_UNAVAILABLE, "failed")
            }
        }
    }
}
