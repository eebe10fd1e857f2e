//! One deployment as a collector sees it: a single trace from the producer's span to the result, with metrics and logs
//! beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, EventType, Stage};
use slipway_tests::bus::{EventBus, ReceivedMessage};
use slipway_tests::collector::{Collector, Received, attribute, hex};
use slipway_tests::stack::{BOT_TOKEN, MOUNTED_SECRET, Stack};
use slipway_tests::world::{Generation, Sample, Variant};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PRODUCER: &str = "b7ad6b7169203331";
const SOURCE: &str = "/orchestrator";
const ID: &str = "traced-1";

/// Publishes `event` and gives its result event.
async fn deploy(url: &str, event: &Value) -> ReceivedMessage {
    let mut bus = EventBus::connect(url).await.unwrap();
    bus.publish(&[&ReceivedMessage::structured(event.to_string())]).await.unwrap();
    loop {
        let event = bus.event(Duration::from_secs(120)).await.unwrap();
        if event.event_type.as_deref() == Some(EventType::Result.as_str()) {
            return event;
        }
    }
}

/// The spans of the producer's trace.
struct Trace(Vec<Span>);

impl Trace {
    fn of(received: &Received) -> Self {
        Self(received.spans.iter().filter(|span| hex(&span.trace_id) == TRACE).cloned().collect())
    }

    /// The only span of that name.
    fn the(&self, name: &str) -> &Span {
        let named: Vec<&Span> = self.0.iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "{name}: {:?}", self.names());
        named[0]
    }

    fn parent(&self, span: &Span) -> Option<&Span> {
        self.0.iter().find(|other| other.span_id == span.parent_span_id)
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|span| span.name.as_str()).collect()
    }
}

/// Checks the attributes of `span`, and its kind.
fn check(span: &Span, kind: SpanKind, expected: &[(&str, &str)]) {
    assert_eq!(span.kind(), kind, "{}", span.name);
    for (name, value) in expected {
        assert_eq!(attribute(&span.attributes, name).as_deref(), Some(*value), "{}: {name}", span.name);
    }
}

fn check_engine(trace: &Trace, deployment: &str) {
    let intake = trace.the("process slipway.deployments");
    assert_eq!(hex(&intake.parent_span_id), PRODUCER);
    check(
        intake,
        SpanKind::Consumer,
        &[
            ("messaging.system", "rabbitmq"),
            ("messaging.operation.type", "process"),
            ("messaging.operation.name", "process"),
            ("messaging.destination.name", "slipway.deployments"),
            ("messaging.rabbitmq.destination.routing_key", "slipway.project.ready.v1"),
            ("messaging.message.id", ID),
            ("messaging.message.conversation_id", "c-17"),
            ("cloudevents.event_id", ID),
            ("cloudevents.event_source", SOURCE),
            ("cloudevents.event_type", "slipway.project.ready.v1"),
            ("deployment.id", deployment),
        ],
    );
    assert!(attribute(&intake.attributes, "error.type").is_none());
    let attempt = trace.the("attempt");
    assert_eq!(attempt.parent_span_id, intake.span_id);
    check(
        attempt,
        SpanKind::Internal,
        &[
            ("cicd.pipeline.name", "slipway"),
            ("cicd.pipeline.run.id", deployment),
            ("cicd.pipeline.result", "success"),
            ("deployment.outcome", "succeeded"),
            ("project.slug", "shop"),
            ("server.handle", "target-0"),
            ("attempt.number", "1"),
        ],
    );
}

fn check_stages(trace: &Trace, address: &str) {
    let attempt = trace.the("attempt");
    for stage in Stage::ALL {
        let span = trace.the(stage.as_str());
        assert_eq!(span.parent_span_id, attempt.span_id, "{stage}");
        let expected = [("cicd.pipeline.task.name", stage.as_str()), ("cicd.pipeline.task.run.result", "success")];
        check(span, SpanKind::Internal, &expected);
    }
    assert_eq!(trace.parent(trace.the("ssh connect")).unwrap().name, "preflight");
    let mut commands: BTreeMap<&str, u32> = BTreeMap::new();
    for exec in trace.0.iter().filter(|span| span.name == "ssh exec") {
        let expected = [("server.address", address), ("server.port", "22"), ("process.exit.code", "0")];
        check(exec, SpanKind::Client, &expected);
        assert!(attribute(&exec.attributes, "process.command").is_some());
        *commands.entry(&trace.parent(exec).unwrap().name).or_default() += 1;
    }
    for stage in ["preflight", "clone", "env", "compose", "firewall"] {
        assert!(commands.get(stage).is_some_and(|count| *count >= 1), "{stage}: {commands:?}");
    }
    assert!(commands.keys().all(|parent| parent.parse::<Stage>().is_ok()), "{commands:?}");
}

/// The result is created within the trace, and what sends it is linked to that.
fn check_result(trace: &Trace, received: &Received, result: &ReceivedMessage) {
    let created = trace.the("create slipway.events");
    assert_eq!(created.parent_span_id, trace.the("attempt").span_id);
    let expected = [("messaging.system", "rabbitmq"), ("messaging.destination.name", "slipway.events")];
    check(created, SpanKind::Producer, &expected);
    let traceparent = format!("00-{TRACE}-{}-01", hex(&created.span_id));
    assert_eq!(result.json().unwrap()["traceparent"], traceparent.as_str());
    assert_eq!(result.headers["traceparent"], traceparent);
    let sends = |span: &&Span| span.links.iter().any(|link| link.span_id == created.span_id);
    let send = received.spans.iter().find(sends).expect("a span that sends the result");
    check(send, SpanKind::Producer, &[("messaging.operation.type", "send"), ("messaging.system", "rabbitmq")]);
}

fn check_metrics(received: &Received) {
    let last = |name: &str| received.metrics.iter().rfind(|metric| metric.name == name).unwrap().data.clone().unwrap();
    let Data::Sum(ended) = last("slipway.deployments") else { panic!("not a counter") };
    assert_eq!(ended.data_points.len(), 1);
    assert_eq!(attribute(&ended.data_points[0].attributes, "deployment.outcome").unwrap(), "succeeded");
    let Data::Histogram(durations) = last("slipway.stage.duration") else { panic!("not a histogram") };
    let stages: BTreeMap<String, u64> = durations
        .data_points
        .iter()
        .map(|point| (attribute(&point.attributes, "stage.name").unwrap(), point.count))
        .collect();
    assert_eq!(stages, Stage::ALL.iter().map(|stage| (stage.to_string(), 1)).collect());
}

/// Records within a span carry its ids.
fn check_logs(received: &Received, trace: &Trace) {
    let of_trace: Vec<_> = received.logs.iter().filter(|record| hex(&record.trace_id) == TRACE).collect();
    let says = |text: &str| of_trace.iter().filter(|record| format!("{:?}", record.body).contains(text)).count();
    assert_eq!([says("request taken in"), says("attempt begins"), says("attempt ended")], [1, 1, 1]);
    assert_eq!(says("stage done"), Stage::ALL.len());
    for record in &of_trace {
        assert!(trace.0.iter().any(|span| span.span_id == record.span_id), "{record:?}");
    }
}

#[test]
fn one_deployment_is_one_trace_from_the_producer_to_the_result() {
    let mut stack = Stack::start(1).unwrap();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = stack.publish(&sample, Variant::Healthy).unwrap();
    let collector = Collector::start(&stack.world).unwrap();
    stack.worker(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())]).unwrap();
    stack.enlist(0).unwrap();
    let mut data = stack.ready(&sample, &commit, "shop", 0, 8080).unwrap();
    data["secrets"]["PAYMENT_API_KEY"] = json!({ "reference": MOUNTED_SECRET.0 });
    let event = json!({
        "specversion": "1.0", "id": ID, "source": SOURCE, "type": "slipway.project.ready.v1",
        "traceparent": format!("00-{TRACE}-{PRODUCER}-01"), "data": data,
    });
    let result = stack.world.block_on(deploy(stack.world.amqp_url(), &event)).unwrap();
    assert_eq!(result.json().unwrap()["data"]["outcome"], "succeeded", "{}", stack.running(0).log().unwrap());
    // The end of the drain has sent everything.
    assert_eq!(stack.running(0).drain().unwrap(), Some(0));

    let received = collector.received();
    let trace = Trace::of(&received);
    check_engine(&trace, &DeploymentId::of(SOURCE, ID, None).to_string());
    check_stages(&trace, &stack.world.target(0).ip().to_string());
    check_result(&trace, &received, &result);
    check_metrics(&received);
    check_logs(&received, &trace);
    let ssh_key = std::fs::read_to_string(stack.world.ssh_key()).unwrap();
    let ssh_key = ssh_key.lines().nth(1).unwrap();
    let password = &stack.world.registry_credential().password;
    for secret in [BOT_TOKEN, MOUNTED_SECRET.1, ssh_key, password, "stack digest key", "ghs_"] {
        assert!(!received.mentions(secret), "a secret was exported");
    }
    assert!(received.mentions("slipway-worker"), "payloads can be searched");
}
