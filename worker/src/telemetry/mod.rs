//! Logs to standard error, and traces, metrics and logs to an OTLP collector where one is set. When a collector is
//! down, telemetry is lost and nothing else: there is no error, and no waiting apart from the bounded flush at the end.
//!
//! Without a collector spans still get ids, so that the trace of a request goes through this worker.

mod metrics;
mod outage_log;
mod propagation;
mod spans;

use std::io::IsTerminal as _;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogFormat, TelemetryConfig};
pub(crate) use metrics::Metrics;
pub(crate) use outage_log::OutageLog;
pub use propagation::{continue_trace, current_traceparent, link, remote_parent};
pub(crate) use spans::processing_span;

/// Name of the tracer, the meter and the service.
const NAME: &str = env!("CARGO_PKG_NAME");

/// Targets whose logs aren't exported, since exporting them would cause more of them.
const EXPORTERS_OWN: [&str; 6] = ["opentelemetry", "reqwest", "hyper", "hyper_util", "h2", "rustls"];

/// Keeps telemetry going; [`TelemetryGuard::shutdown`] flushes it.
#[must_use = "telemetry is flushed through the guard"]
#[derive(Debug)]
pub struct TelemetryGuard {
    providers: Providers,
    exports: bool,
}

#[derive(Debug, Clone)]
struct Providers {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
}

/// Sets up logging and telemetry for the whole process; once, and before the event loop starts.
///
/// # Errors
/// When it was set up before. What is wrong with the collector's settings is logged, not returned.
pub fn init(config: &TelemetryConfig) -> anyhow::Result<TelemetryGuard> {
    // reqwest is built without a TLS provider of its own and panics without a default one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (providers, problem) = match exporting(config) {
        Ok(providers) => (providers, None),
        Err(error) => (local(config), Some(error)),
    };
    let traces = tracing_opentelemetry::layer()
        .with_tracer(providers.traces.tracer(NAME))
        .with_filter(Targets::new().with_target("slipway", LevelFilter::INFO));
    let exports = config.export && problem.is_none();
    let logs = exports.then(|| OpenTelemetryTracingBridge::new(&providers.logs).with_filter(export_filter(config)));
    Registry::default()
        .with(written(config))
        .with(traces)
        .with(logs)
        .try_init()
        .context("logging was set up twice in one process")?;
    global::set_meter_provider(providers.metrics.clone());
    if let Some(error) = problem {
        tracing::warn!(error = %error, "telemetry isn't exported: the OTEL_ variables can't be used");
    }
    Ok(TelemetryGuard { providers, exports })
}

fn written(config: &TelemetryConfig) -> impl Layer<Registry> + use<> {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match config.format {
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        LogFormat::Text => layer.with_ansi(wants_colour(std::io::stderr().is_terminal())).boxed(),
    };
    layer.with_filter(EnvFilter::new(&config.filter))
}

/// Whether lines are coloured: for a person at a terminal who hasn't said no (<https://no-color.org>).
fn wants_colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn export_filter(config: &TelemetryConfig) -> EnvFilter {
    EXPORTERS_OWN
        .iter()
        .filter_map(|target| format!("{target}=off").parse().ok())
        .fold(EnvFilter::new(&config.filter), EnvFilter::add_directive)
}

/// `OTEL_RESOURCE_ATTRIBUTES` is read first, so that it can add to these three but not change them.
fn resource(config: &TelemetryConfig) -> Resource {
    Resource::builder()
        .with_attributes([
            KeyValue::new("service.name", NAME),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", config.instance.clone()),
        ])
        .build()
}

fn exporting(config: &TelemetryConfig) -> Result<Providers, ExporterBuildError> {
    if !config.export {
        return Ok(local(config));
    }
    // The protocol is set here, since OTEL_EXPORTER_OTLP_PROTOCOL may ask for gRPC, which isn't built in.
    let spans = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build()?;
    let metrics = MetricExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build()?;
    let logs = LogExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build()?;
    let resource = resource(config);
    Ok(Providers {
        traces: SdkTracerProvider::builder().with_batch_exporter(spans).with_resource(resource.clone()).build(),
        metrics: SdkMeterProvider::builder().with_periodic_exporter(metrics).with_resource(resource.clone()).build(),
        logs: SdkLoggerProvider::builder().with_batch_exporter(logs).with_resource(resource).build(),
    })
}

fn local(config: &TelemetryConfig) -> Providers {
    let resource = resource(config);
    Providers {
        traces: SdkTracerProvider::builder().with_resource(resource.clone()).build(),
        metrics: SdkMeterProvider::builder().with_resource(resource.clone()).build(),
        logs: SdkLoggerProvider::builder().with_resource(resource).build(),
    }
}

impl TelemetryGuard {
    /// Sends what is left, for at most `bound`. Blocks; not to be called on an event loop.
    pub fn shutdown(self, bound: Duration) {
        if !self.exports {
            return;
        }
        let Providers { traces, metrics, logs } = self.providers;
        // Each on a thread of its own: the metrics' shutdown knows no bound, and one mustn't use up another's time.
        let jobs: [Box<dyn FnOnce() -> bool + Send>; 3] = [
            Box::new(move || traces.shutdown_with_timeout(bound).is_ok()),
            Box::new(move || logs.shutdown_with_timeout(bound).is_ok()),
            Box::new(move || metrics.shutdown_with_timeout(bound).is_ok()),
        ];
        let (sender, outcomes) = mpsc::channel();
        for job in jobs {
            let sender = sender.clone();
            std::thread::spawn(move || sender.send(job()));
        }
        drop(sender);
        let deadline = std::time::Instant::now() + bound;
        for _ in 0..3 {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if outcomes.recv_timeout(left) != Ok(true) {
                tracing::warn!("the last telemetry couldn't be sent to the collector");
                return;
            }
        }
    }
}
