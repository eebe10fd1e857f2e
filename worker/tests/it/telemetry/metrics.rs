//! What operators see of the engine: every end counted once, and what waits measured while nothing can be published.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Text;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use secrecy::ExposeSecret as _;
use slipway_protocol::{ErrorCode, Failure, PartialEnvelope, decode};
use slipway_worker::process::{Drain, Readiness, WorkerHeartbeat};
use slipway_worker::store::{Admission, AttemptSummary, DeploymentEnd, RefusedMessage, Store};
use slipway_worker::telemetry;
use tokio_util::sync::CancellationToken;

use super::{Received, collector, config};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

/// Where the subject finds its database.
const DATABASE: &str = "SUBJECTS_DATABASE";

fn points(metric: Metric) -> Vec<NumberDataPoint> {
    match metric.data {
        Some(Data::Sum(sum)) => sum.data_points,
        Some(Data::Gauge(gauge)) => gauge.data_points,
        _ => Vec::new(),
    }
}

fn number(point: &NumberDataPoint) -> i64 {
    match point.value {
        Some(Value::AsInt(number)) => number,
        _ => panic!("{point:?}"),
    }
}

fn outcome(point: &NumberDataPoint) -> String {
    match point.attributes[0].value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Text::StringValue(text)) => text.clone(),
        _ => panic!("{point:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_counted_where_committed_and_what_waits_is_measured_without_a_broker() {
    let (database, store) = TestDatabase::migrated("parent").await;
    let (address, mut received) = collector().await;
    let mut subject = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "telemetry::metrics::subject_that_ends_deployments"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
        .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
        .env(DATABASE, database.url.expose_secret())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut ended, mut depth) = (BTreeMap::new(), None);
    let until_seen = async {
        while ended.len() < 4 || depth.is_none() {
            let Some(Received::Metrics(message)) = received.recv().await else { continue };
            let metrics = message.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics);
            for metric in metrics {
                match metric.name.as_str() {
                    "slipway.deployments" => ended = points(metric).iter().map(|p| (outcome(p), number(p))).collect(),
                    "slipway.outbox.depth" => depth = points(metric).iter().map(number).next_back(),
                    _ => {}
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), until_seen).await.unwrap();
    drop(subject.stdin.take());
    assert!(tokio::task::spawn_blocking(move || subject.wait().unwrap()).await.unwrap().success());
    let counted = [("already_deployed", 1), ("cancelled", 1), ("failed", 1), ("superseded", 1)];
    assert_eq!(ended, counted.map(|(outcome, count)| (outcome.to_owned(), count)).into());
    assert_eq!(depth, i64::try_from(store.backlog().await.unwrap().depth).ok());
}

async fn accept(store: &Store, body: &[u8]) -> Admission {
    let incoming = incoming(body);
    store.accept(&decode(body, &incoming.metadata()).unwrap(), &incoming).await.unwrap()
}

/// One end of each kind, three of them without an attempt, and one that is asked for twice.
async fn end(store: &Store) {
    let project = uuid::Uuid::new_v4();
    let ordered = |sequence: u64| {
        request(|event| {
            event["data"]["project"]["id"] = project.to_string().into();
            event["data"]["sequence"] = sequence.into();
        })
    };
    assert_eq!(accept(store, &ordered(2)).await, Admission::New);
    assert!(matches!(accept(store, &ordered(1)).await, Admission::Superseded(_)));
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    for _ in 0..2 {
        store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
    }
    let body = request(|_| {});
    accept(store, &body).await;
    let waiting = decode(&body, &incoming(&body).metadata()).unwrap().deployment_id();
    store.cancel(waiting).await.unwrap();
    let refusal = RefusedMessage {
        failure: Failure::new(ErrorCode::InvalidField, None, "no"),
        known: PartialEnvelope {
            source: Some("/tests".to_owned()),
            id: Some("1".to_owned()),
            ..PartialEnvelope::default()
        },
        withhold: false,
    };
    for new in [true, false] {
        assert_eq!(store.refuse(&refusal, &incoming(b"{}")).await.unwrap(), new);
    }
}

#[test]
#[ignore = "a subject, run as a process of its own"]
fn subject_that_ends_deployments() {
    let guard = telemetry::init(&config(true)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::new(&std::env::var(DATABASE).unwrap().into(), None, "w").unwrap();
        end(&store).await;
        let heartbeat = WorkerHeartbeat {
            store,
            readiness: Readiness::new(&Drain::new(Duration::ZERO)),
            lease: Duration::from_secs(4),
            stop: CancellationToken::new(),
        };
        let told_to_end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        tokio::select! {
            () = heartbeat.run() => {}
            _ = told_to_end => {}
        }
    });
    drop(runtime);
    guard.shutdown(Duration::from_secs(10));
}

#[test]
fn every_metric_has_its_place_in_the_readme() {
    let (made, readme) = (include_str!("../../../src/telemetry/metrics.rs"), include_str!("../../../../README.md"));
    let names: Vec<_> = made.split('"').filter(|text| text.starts_with("slipway.")).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "README.md doesn't tell of {name}");
    }
}
