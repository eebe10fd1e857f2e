//! An OTLP collector (http/protobuf) in a world's network, which keeps what it gets. It judges nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use data_encoding::HEXLOWER;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::runtime::Runtime;

use crate::world::World;

/// Where it listens in its world: OTLP's own port for HTTP.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 4318);

/// What has come in.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Spans, in the order of their ends.
    pub spans: Vec<Span>,
    /// Metrics, each as often as it was exported.
    pub metrics: Vec<Metric>,
    /// Log records.
    pub logs: Vec<LogRecord>,
    /// Every payload as it came.
    pub payloads: Vec<Bytes>,
}

impl Received {
    /// Whether `text` stands in any payload.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        self.payloads.iter().any(|payload| payload.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

type Shared = Arc<Mutex<Received>>;

/// A running collector. Ends when dropped.
#[derive(Debug)]
pub struct Collector {
    received: Shared,
    runtime: Option<Runtime>,
}

impl Collector {
    /// Starts one in `world`.
    ///
    /// # Errors
    /// When its address is taken: one a world.
    pub fn start(world: &World) -> Result<Self> {
        let received = Shared::default();
        let router = axum::Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .route("/v1/logs", post(logs))
            .with_state(received.clone());
        // The runtime's threads are in the network of the one that builds it.
        let serve = || {
            world.enter()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(ADDRESS)))?;
            runtime.spawn(async move { axum::serve(listener, router).await });
            Ok(runtime)
        };
        let runtime: Result<Runtime> = std::thread::scope(|scope| scope.spawn(serve).join())
            .map_err(|_| anyhow!("the thread that starts the collector panicked"))?;
        Ok(Self { received, runtime: Some(runtime?) })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is set to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", SocketAddr::from(ADDRESS))
    }

    /// What has come in so far.
    #[must_use]
    pub fn received(&self) -> Received {
        lock(&self.received).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(received: &Shared) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a payload that can be read; an exporter is told of any other.
fn keep<M: Message + Default>(received: &Shared, body: Bytes, add: impl FnOnce(&mut Received, M)) -> StatusCode {
    let Ok(message) = M::decode(body.as_ref()) else { return StatusCode::BAD_REQUEST };
    let mut received = lock(received);
    add(&mut received, message);
    received.payloads.push(body);
    StatusCode::OK
}

async fn traces(State(received): State<Shared>, body: Bytes) -> StatusCode {
    keep(&received, body, |to, message: ExportTraceServiceRequest| {
        to.spans.extend(message.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans));
    })
}

async fn metrics(State(received): State<Shared>, body: Bytes) -> StatusCode {
    keep(&received, body, |to, message: ExportMetricsServiceRequest| {
        to.metrics.extend(message.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics));
    })
}

async fn logs(State(received): State<Shared>, body: Bytes) -> StatusCode {
    keep(&received, body, |to, message: ExportLogsServiceRequest| {
        to.logs.extend(message.resource_logs.into_iter().flat_map(|r| r.scope_logs).flat_map(|s| s.log_records));
    })
}

/// The attribute `name` as text; whole numbers in decimal.
#[must_use]
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    match attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A trace's or a span's id as `traceparent` spells it.
#[must_use]
pub fn hex(id: &[u8]) -> String {
    HEXLOWER.encode(id)
}
