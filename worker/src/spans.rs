//! The spans that make one trace of a deployment, named by OpenTelemetry's semantic conventions for messaging and
//! CI/CD. How they're exported is `telemetry`'s job.

use opentelemetry::trace::TraceContextExt as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// W3C trace context of the span that is entered now; `None` when nothing is traced.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let here = span.span_context();
    here.is_valid()
        .then(|| format!("00-{}-{}-{:02x}", here.trace_id(), here.span_id(), here.trace_flags().to_u8()))
}
