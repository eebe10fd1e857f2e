//! Telemetry as a collector sees it: a real OTLP receiver, and subjects that run as processes of their own, since
//! subscribers and providers are global to a process.

mod metrics;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use slipway_worker::config::{LogFormat, TelemetryConfig};
use slipway_worker::telemetry::{self, continue_trace, current_traceparent};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

enum Received {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

type Sink = UnboundedSender<Received>;

async fn collector() -> (SocketAddr, UnboundedReceiver<Received>) {
    fn decoded<M: Message + Default>(body: &Bytes) -> M {
        M::decode(body.as_ref()).unwrap()
    }
    let (sink, received) = unbounded_channel();
    let traces = |State(sink): State<Sink>, body: Bytes| async move {
        sink.send(Received::Traces(decoded(&body))).unwrap();
    };
    let metrics = |State(sink): State<Sink>, body: Bytes| async move {
        sink.send(Received::Metrics(decoded(&body))).unwrap();
    };
    let logs = |State(sink): State<Sink>, body: Bytes| async move {
        sink.send(Received::Logs(decoded(&body))).unwrap();
    };
    let router = axum::Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .route("/v1/logs", post(logs))
        .with_state(sink);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, received)
}

/// Runs an ignored test of this file as a process, exporting to `endpoint`.
fn run(subject: &str, endpoint: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", subject])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        // A fleet-wide wish for gRPC must not break what speaks HTTP only.
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .output()
        .unwrap()
}

fn config(export: bool) -> TelemetryConfig {
    TelemetryConfig { filter: "info".into(), format: LogFormat::Json, export, instance: "worker-1".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_continued_trace_a_metric_and_a_log_record_of_the_same_span() {
    let (address, mut received) = collector().await;
    let endpoint = format!("http://{address}");
    let output = tokio::task::spawn_blocking(move || run("telemetry::subject_that_exports", &endpoint)).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut spans, mut metrics, mut logs) = (Vec::new(), Vec::new(), Vec::new());
    received.close();
    while let Some(message) = received.recv().await {
        match message {
            Received::Traces(r) => spans.extend(r.resource_spans),
            Received::Metrics(r) => metrics.extend(r.resource_metrics),
            Received::Logs(r) => logs.extend(r.resource_logs),
        }
    }
    let resource = spans[0].resource.clone().unwrap();
    let text = format!("{resource:?}");
    for attribute in ["service.name", "slipway-worker", "service.version", "service.instance.id", "worker-1"] {
        assert!(text.contains(attribute), "{text}");
    }
    let spans: Vec<_> = spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect();
    let span = spans.iter().find(|span| span.name == "deployment").unwrap();
    assert_eq!(hex(&span.trace_id), TRACE_ID);
    assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");

    let names: Vec<_> =
        metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics).map(|m| m.name).collect();
    assert_eq!(names, ["slipway.test.count"]);

    let records: Vec<_> = logs.into_iter().flat_map(|r| r.scope_logs).flat_map(|s| s.log_records).collect();
    let record = records.iter().find(|record| format!("{record:?}").contains("a stage finished")).unwrap();
    assert_eq!((hex(&record.trace_id), &record.span_id), (TRACE_ID.to_owned(), &span.span_id));

    let written = String::from_utf8(output.stderr).unwrap();
    assert!(
        written.lines().any(|line| line.contains(r#""deployment.id":"d-1""#) && line.contains("a stage finished")),
        "{written}"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[ignore = "a subject, run as a process of its own"]
fn subject_that_exports() {
    let guard = telemetry::init(&config(true)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let span = tracing::info_span!(target: "slipway_worker", "deployment", deployment.id = "d-1");
        continue_trace(&span, Some(TRACEPARENT), Some(""));
        span.in_scope(|| tracing::info!(stage.name = "clone", "a stage finished"));
        opentelemetry::global::meter("slipway").u64_counter("slipway.test.count").build().add(1, &[]);
    });
    drop(runtime);
    guard.shutdown(Duration::from_secs(10));
}

#[test]
fn a_collector_that_is_down_costs_no_error_and_a_bounded_wait() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    // One refuses connections, the other accepts them and never answers.
    for endpoint in ["http://127.0.0.1:1".to_owned(), format!("http://{silent}")] {
        let output = run("telemetry::subject_without_a_collector", &endpoint);
        let written = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{endpoint}: {written}");
        assert!(!written.contains("panicked"), "{endpoint}: {written}");
    }
}

#[test]
#[ignore = "a subject, run as a process of its own"]
fn subject_without_a_collector() {
    let guard = telemetry::init(&config(true)).unwrap();
    tracing::info_span!(target: "slipway_worker", "deployment").in_scope(|| tracing::info!("work goes on"));
    let began = Instant::now();
    guard.shutdown(Duration::from_secs(1));
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1500), "the flush took {took:?}");
    writeln!(std::io::stderr(), "flush took {took:?}").unwrap();
}

#[test]
fn unusable_settings_of_the_collector_are_logged_and_stop_nothing() {
    let output = run("telemetry::subject_without_a_collector", "http://[");
    let written = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && written.contains("telemetry isn't exported"), "{written}");
}

#[test]
fn a_trace_goes_on_without_any_collector() {
    let output = run("telemetry::subject_that_only_propagates", "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "a subject, run as a process of its own"]
fn subject_that_only_propagates() {
    let guard = telemetry::init(&config(false)).unwrap();
    assert_eq!(current_traceparent(), None);
    let span = tracing::info_span!(target: "slipway_worker", "deployment");
    continue_trace(&span, Some(TRACEPARENT), Some("vendor=1"));
    let own = span.in_scope(current_traceparent).unwrap();
    assert!(own.starts_with(&format!("00-{TRACE_ID}-")) && own != TRACEPARENT, "{own}");

    let root = tracing::info_span!(target: "slipway_worker", parent: None, "deployment");
    continue_trace(&root, Some("not a traceparent"), None);
    let own = root.in_scope(current_traceparent).unwrap();
    assert!(!own.contains(TRACE_ID), "{own}");
    assert!(telemetry::init(&config(false)).is_err());
    guard.shutdown(Duration::from_secs(1));
}
