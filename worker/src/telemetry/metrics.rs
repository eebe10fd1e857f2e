//! The worker's metrics. They cost next to nothing where no collector is configured; how they are exported is set up in
//! the parent module.

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};
use slipway_protocol::{Outcome, Stage};

/// Instruments; [`Metrics::get`] after telemetry was set up.
pub(crate) struct Metrics {
    deployments: Counter<u64>,
    intake: Counter<u64>,
    retries: Counter<u64>,
    interruptions: Counter<u64>,
    published: Counter<u64>,
    given_up: Counter<u64>,
    webhooks: Counter<u64>,
    unbound_secrets: Counter<u64>,
    stages: Histogram<f64>,
    outbox_depth: Gauge<u64>,
    outbox_age: Gauge<f64>,
}

impl Metrics {
    /// The process's instruments.
    pub(crate) fn get() -> &'static Self {
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        METRICS.get_or_init(|| {
            let meter = global::meter(env!("CARGO_PKG_NAME"));
            let counter =
                |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
            Self {
                deployments: counter(
                    "slipway.deployments",
                    "Deployments that ended, by outcome, refused ones included",
                ),
                intake: counter("slipway.intake.messages", "Messages taken from the queue, by what became of them"),
                retries: counter("slipway.attempt.retries", "Attempts that failed and are tried again, by error code"),
                interruptions: counter("slipway.attempt.interruptions", "Attempts that a stop or a crash cut off"),
                published: counter("slipway.outbox.published", "Messages published, by what the broker did with them"),
                given_up: counter("slipway.ingest.messages", "What lay among the dead letters, by what became of it"),
                unbound_secrets: counter(
                    "slipway.secrets.unbound",
                    "Secrets of accepted requests in an old form, which any project could have used",
                ),
                webhooks: counter("slipway.webhooks", "Webhooks of GitHub, by what became of them"),
                stages: meter
                    .f64_histogram("slipway.stage.duration")
                    .with_unit("s")
                    .with_description("How long stages took, by stage and result")
                    .build(),
                outbox_depth: meter
                    .u64_gauge("slipway.outbox.depth")
                    .with_description("Messages that wait to be published, of the first 10,000 rows")
                    .build(),
                outbox_age: meter
                    .f64_gauge("slipway.outbox.oldest")
                    .with_unit("s")
                    .with_description("How long the oldest message has waited to be published")
                    .build(),
            }
        })
    }

    /// A deployment ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.deployments.add(1, &[KeyValue::new("deployment.outcome", outcome.as_str())]);
    }

    /// A message was taken in: `accepted`, `superseded`, `duplicate`, `waits` (one half of a request) or an error code.
    pub(crate) fn taken_in(&self, verdict: &'static str) {
        self.intake.add(1, &[KeyValue::new("result", verdict)]);
    }

    /// An attempt failed and another one is scheduled.
    pub(crate) fn retried(&self, code: &'static str) {
        self.retries.add(1, &[KeyValue::new("error.type", code)]);
    }

    /// An attempt was interrupted.
    pub(crate) fn interrupted(&self) {
        self.interruptions.add(1, &[]);
    }

    /// A message was sent: `routed`, `unrouted`, `returned` or `failed`.
    pub(crate) fn published(&self, result: &'static str) {
        self.published.add(1, &[KeyValue::new("result", result)]);
    }

    /// The dead-letter exchange gave a message: an error code when it's the broker's, `settled` when its deployment
    /// exists all the same, `known` when a worker published it.
    pub(crate) fn given_up(&self, result: &'static str) {
        self.given_up.add(1, &[KeyValue::new("result", result)]);
    }

    /// A webhook came: `marked`, `unwatched`, `ignored`, `duplicate`, `ping`, `unsigned`, `malformed`, `timeout` or
    /// `failed`.
    pub(crate) fn webhook(&self, result: &'static str) {
        self.webhooks.add(1, &[KeyValue::new("result", result)]);
    }

    /// A request was accepted with so many secrets in an old form.
    pub(crate) fn unbound_secrets(&self, count: usize) {
        self.unbound_secrets.add(u64::try_from(count).unwrap_or(u64::MAX), &[]);
    }

    /// A stage ended: `changed`, `unchanged` or an error code.
    pub(crate) fn stage(&self, stage: Stage, result: &'static str, took: Duration) {
        let attributes = [KeyValue::new("stage.name", stage.as_str()), KeyValue::new("result", result)];
        self.stages.record(took.as_secs_f64(), &attributes);
    }

    /// What waits in the outbox.
    pub(crate) fn backlog(&self, depth: u64, oldest: Duration) {
        self.outbox_depth.record(depth, &[]);
        self.outbox_age.record(oldest.as_secs_f64(), &[]);
    }
}
