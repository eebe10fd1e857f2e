//! The span of a message that is taken from a queue, below the trace of whoever sent it.

use slipway_protocol::PartialEnvelope;
use tracing::Span;
use tracing::field::Empty;

use super::continue_trace;
use crate::message::Incoming;

/// The span of a message of `queue`, of which `envelope` could be read.
pub(crate) fn processing_span(
    queue: &str,
    envelope: &PartialEnvelope,
    tracestate: Option<&str>,
    incoming: &Incoming,
) -> Span {
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {queue}"),
        otel.kind = "consumer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "process",
        messaging.operation.name = "process",
        messaging.destination.name = queue,
        messaging.rabbitmq.destination.routing_key = incoming.routing_key,
        messaging.message.id = envelope.id,
        messaging.message.conversation_id = envelope.correlation.get("correlation_id").and_then(|id| id.as_str()),
        messaging.message.body.size = incoming.body.len(),
        cloudevents.event_id = envelope.id,
        cloudevents.event_source = envelope.source,
        cloudevents.event_type = envelope.event_type,
        deployment.id = Empty,
        error.type = Empty,
    );
    continue_trace(&span, envelope.traceparent.as_deref(), tracestate);
    span
}
