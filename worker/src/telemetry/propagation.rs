//! W3C Trace Context between events and spans, so that a trace goes on from the orchestrator through the worker to
//! whoever reads the result.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The context of whoever sent a message. Without a valid `traceparent` it's empty, and a span below it is the root
/// of a new trace.
#[must_use]
pub fn remote_parent(traceparent: Option<&str>, tracestate: Option<&str>) -> Context {
    let fields = [(TRACEPARENT, traceparent), (TRACESTATE, tracestate)];
    let carrier: HashMap<String, String> = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.filter(|v| !v.trim().is_empty())?.to_owned())))
        .collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// Puts `span` below a remote parent. To be called before the span is entered; without effect where no telemetry
/// was set up.
pub fn continue_trace(span: &tracing::Span, traceparent: Option<&str>, tracestate: Option<&str>) {
    // The only errors are a missing layer and a span that has begun; neither may disturb the work.
    let _ = span.set_parent(remote_parent(traceparent, tracestate));
}

/// Links `span` to the one that `traceparent` names: for a span that serves several traces at once.
pub fn link(span: &tracing::Span, traceparent: &str) {
    let context = remote_parent(Some(traceparent), None).span().span_context().clone();
    if context.is_valid() {
        span.add_link(context);
    }
}

/// The `traceparent` of the current span, to be stored or sent along; `None` outside of any trace.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}
