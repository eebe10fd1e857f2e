//! The span of a message that is taken from a queue, below the trace of whoever sent it.

use slipway_protocol::PartialEnvelope;
use tracing::Span;
use tracing::field::Empty;

use super::continue_trace;
use crate::message::Incoming;

/// Begins to process a message of `queue`, of which `known` could be read.
pub(crate) fn processing(queue: &str, known: &PartialEnvelope, tracestate: Option<&str>, incoming: &Incoming) -> Span {
    let span = tracing::info_span!(
        "process",
        otel.name = format!("process {queue}"),
        otel.kind = "consumer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "process",
        messaging.operation.name = "process",
        messaging.destination.name = queue,
        messaging.rabbitmq.destination.routing_key = incoming.routing_key,
        messaging.message.id = known.id,
        messaging.message.conversation_id = known.correlation.get("correlation_id").and_then(|id| id.as_str()),
        messaging.message.body.size = incoming.body.len(),
        cloudevents.event_id = known.id,
        cloudevents.event_source = known.source,
        cloudevents.event_type = known.event_type,
        deployment.id = Empty,
        error.type = Empty,
    );
    continue_trace(&span, known.traceparent.as_deref(), tracestate);
    span
}
