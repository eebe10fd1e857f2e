//! The admin server: `/healthz`, `/readyz` and `/version` for supervisors and operators. Nothing can be changed through
//! it, and metrics aren't here: they are exported by OTLP (see `telemetry`).
//!
//! It runs on a thread and an event loop of its own, so that it can report that the worker's event loop is stuck.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::readiness::{Readiness, ReadinessReport};

/// Shows that an event loop isn't stuck: its timer fires again and again.
#[derive(Debug, Clone)]
pub struct LivenessProbe {
    origin: Instant,
    last_ms: Arc<AtomicU64>,
    limit: Duration,
}

impl LivenessProbe {
    /// A probe that counts as stuck when its timer hasn't fired for `limit`.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { origin: Instant::now(), last_ms: Arc::default(), limit }
    }

    /// Runs the timer on the current event loop for ever, four times within the limit.
    pub async fn run(self) {
        let mut timer = tokio::time::interval(self.limit / 4);
        loop {
            timer.tick().await;
            self.last_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the timer hasn't fired, when that is too long.
    fn stuck_for(&self) -> Option<Duration> {
        let silent = Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)));
        (silent > self.limit).then_some(silent)
    }
}

/// The running server; it stops when this is dropped.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: CancellationToken,
}

impl AdminServer {
    /// Binds `address` and serves.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn start(address: SocketAddr, readiness: Readiness, liveness: LivenessProbe) -> anyhow::Result<Self> {
        let listener = bind(address)
            .with_context(|| format!("can't listen on {address} (SLIPWAY_ADMIN_ADDR); is another worker there?"))?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    outcome = serve(listener, router(readiness, liveness)) => {
                        if let Err(error) = outcome {
                            tracing::error!(error = %error, "the admin server failed");
                        }
                    }
                    () = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop })
    }

    /// Where it listens, with the real port when the configured one was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
}

fn router(readiness: Readiness, liveness: LivenessProbe) -> Router {
    Router::new()
        .route("/healthz", get(healthz).with_state(liveness))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/version", get(version))
}

/// Alive as long as the worker's event loop turns; absent dependencies are `/readyz`'s matter, since a restart
/// doesn't bring them back.
async fn healthz(State(liveness): State<LivenessProbe>) -> (StatusCode, Json<Value>) {
    match liveness.stuck_for() {
        None => (StatusCode::OK, Json(json!({ "status": "alive" }))),
        Some(silent) => {
            let body = json!({ "status": "stuck", "reason": format!("the event loop hasn't turned for {silent:?}") });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, Json<ReadinessReport>) {
    let report = readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

async fn version() -> Json<Value> {
    Json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}
