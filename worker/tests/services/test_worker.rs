//! The engine on real services, driven by a scripted pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::bounds::Deadlines;
use slipway_protocol::CONTENT_TYPE;
use slipway_worker::amqp::{self, BrokerConnection, Publisher, Subscription};
use slipway_worker::intake::DeadLetterConsumer;
use slipway_worker::intake::{Admitter, HeldMessages, Holding, MissingHalves, RequestConsumer};
use slipway_worker::message::{Incoming, Outgoing};
use slipway_worker::placement::Placer;
use slipway_worker::process::Drain;
use slipway_worker::process::WorkerHeartbeat;
use slipway_worker::process::{Condition, Readiness};
use slipway_worker::publish::Relay;
use slipway_worker::run::Credentials;
use slipway_worker::run::{Runner, RunnerSettings};
use slipway_worker::scheduler::{Limits, PlacementLimits};
use slipway_worker::store::{AttemptWriter, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use super::scripted::{Offer, ScriptedStages, StageCall, report};
use super::{TestDatabase, broker};

/// The sample's own.
const SLUG: &str = "corner-shop";
const REPOSITORY: &str = "Acme-Org/corner-shop";

/// A valid request without secrets, for an own server; `edit` changes it.
pub fn request(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut event: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../../protocol/samples/project-ready.v1.json")).unwrap();
    event["id"] = uuid::Uuid::new_v4().to_string().into();
    event["time"] = jiff::Timestamp::now().to_string().into();
    event["data"]["project"]["id"] = uuid::Uuid::new_v4().to_string().into();
    event["data"].as_object_mut().unwrap().remove("secrets");
    let id = event["data"]["project"]["id"].clone();
    edit(&mut event);
    // A slug on a server and the CI of a repository are one project's, so that each new project has its own.
    let told = |event: &serde_json::Value, path: &str| event.pointer(path).and_then(|v| v.as_str()).map(str::to_owned);
    let slug = told(&event, "/data/project/slug");
    if told(&event, "/data/project/id").as_deref() == id.as_str() && slug.as_deref() == Some(SLUG) {
        event["data"]["project"]["slug"] = format!("p{}", &id.as_str().unwrap()[..8]).into();
    }
    if let Some(slug) = told(&event, "/data/project/slug").filter(|slug| slug != SLUG)
        && told(&event, "/data/repository/name").as_deref() == Some(REPOSITORY)
    {
        event["data"]["repository"]["name"] = format!("acme/{slug}").into();
    }
    serde_json::to_vec(&event).unwrap()
}

pub fn incoming(body: &[u8]) -> Incoming {
    Incoming {
        body: body.to_vec(),
        content_type: Some(CONTENT_TYPE.to_owned()),
        headers: BTreeMap::new(),
        exchange: "slipway.requests".to_owned(),
        routing_key: "slipway.project.ready.v1".to_owned(),
        user: None,
    }
}

pub fn outgoing(body: &[u8], headers: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        exchange: "slipway.requests".to_owned(),
        routing_key: "slipway.project.ready.v1".to_owned(),
        message_id: uuid::Uuid::new_v4().to_string(),
        event_type: "slipway.project.ready.v1".to_owned(),
        content_type: Some(CONTENT_TYPE.to_owned()),
        headers: headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        body: body.to_vec(),
        ..Outgoing::default()
    }
}

pub fn credentials() -> Credentials {
    let ssh_key = SecretString::from("-----BEGIN OPENSSH PRIVATE KEY-----");
    // The requests of most tests describe their server.
    Credentials {
        ssh_key: Some(ssh_key.into()),
        servers_from_events: true,
        unbound_boxes: true,
        ..Credentials::default()
    }
}

/// A worker: intake, runner and relay as tasks.
pub struct TestWorker {
    pub drain: Drain,
    pub readiness: Readiness,
    intake: JoinHandle<()>,
    held: JoinHandle<()>,
    missing: JoinHandle<()>,
    ingest: JoinHandle<()>,
    runner: JoinHandle<()>,
    relay: JoinHandle<()>,
    presence: JoinHandle<()>,
    placer: JoinHandle<()>,
    finish: CancellationToken,
}

pub struct WorkerOptions {
    pub credentials: Credentials,
    pub attempts: RetryPolicy,
    pub held: RetryPolicy,
    pub limits: Limits,
    pub lease: Duration,
    pub drain: Duration,
    pub deadlines: Deadlines,
    /// How long one half of a request waits for the other.
    pub half_timeout: Duration,
    /// Messages that the broker delivers before the first is acknowledged.
    pub prefetch: u16,
    /// Deployments at once.
    pub concurrency: usize,
    pub placement: PlacementLimits,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        let soon = Duration::from_millis(50);
        Self {
            credentials: credentials(),
            attempts: RetryPolicy { initial: soon, max: soon, multiplier: 1.0, attempts: 3 },
            held: RetryPolicy { initial: soon, max: soon, multiplier: 1.0, attempts: 4 },
            limits: Limits::default(),
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            deadlines: Deadlines::DEFAULT,
            half_timeout: Duration::from_secs(3600),
            prefetch: 8,
            concurrency: 4,
            placement: PlacementLimits::DEFAULT,
        }
    }
}

impl TestWorker {
    pub fn start(store: Store, amqp: &SecretString, pipeline: ScriptedStages, options: WorkerOptions) -> Self {
        let drain = Drain::new(options.drain);
        let readiness = Readiness::new(&drain);
        let credentials = Arc::new(options.credentials);
        let (canary, canaries) = watch::channel(None);
        let finish = CancellationToken::new();
        let broker = broker(amqp, store.name());
        readiness.set_met(Condition::Database);
        // A long lease of deployments is about those alone.
        let lease = options.lease.min(Duration::from_secs(4));
        let presence =
            WorkerHeartbeat { store: store.clone(), readiness: readiness.clone(), lease, stop: drain.token().clone() };
        let relay = Relay {
            store: store.clone(),
            broker: broker.clone(),
            readiness: readiness.clone(),
            canary: canaries,
            lease,
            finish: finish.clone(),
        };
        let ingest = DeadLetterConsumer { store: store.clone(), broker: broker.clone(), drain: drain.clone() };
        let missing = MissingHalves { store: store.clone(), drain: drain.clone() };
        let half_timeout = options.half_timeout;
        let admitter = Admitter { store: store.clone(), credentials: credentials.clone(), versions: 3, half_timeout };
        let holding = Holding::default();
        let held = HeldMessages {
            admitter: admitter.clone(),
            holding: holding.clone(),
            retries: options.held,
            readiness: readiness.clone(),
            drain: drain.clone(),
        };
        let intake = RequestConsumer {
            admitter,
            holding,
            broker,
            readiness: readiness.clone(),
            drain: drain.clone(),
            prefetch: options.prefetch,
            canary,
        };
        let settings = RunnerSettings {
            concurrency: options.concurrency,
            lease: options.lease,
            attempts: options.attempts,
            limits: options.limits,
            registry: "ghcr.io".to_owned(),
            deadlines: options.deadlines,
            placement: options.placement,
        };
        let placer = Placer { store: store.clone(), limits: options.placement, drain: drain.clone() };
        let writer = AttemptWriter::new(store.clone());
        let pipeline = Arc::new(pipeline);
        let runner = Runner { store, writer, pipeline, credentials, settings, drain: drain.clone() };
        Self {
            drain,
            readiness,
            intake: tokio::spawn(intake.run()),
            held: tokio::spawn(held.run()),
            missing: tokio::spawn(missing.run()),
            ingest: tokio::spawn(ingest.run()),
            runner: tokio::spawn(runner.run()),
            relay: tokio::spawn(relay.run()),
            presence: tokio::spawn(presence.run()),
            placer: tokio::spawn(placer.run()),
            finish,
        }
    }

    /// Drains and waits for the end.
    pub async fn stop(self) {
        self.drain.begin();
        self.intake.await.unwrap();
        self.held.await.unwrap();
        self.missing.await.unwrap();
        self.ingest.await.unwrap();
        self.runner.await.unwrap();
        self.placer.await.unwrap();
        self.presence.await.unwrap();
        self.finish.cancel();
        self.relay.await.unwrap();
    }

    /// Ends at once, as a crash does.
    pub async fn kill(self) {
        for task in
            [self.intake, self.held, self.missing, self.ingest, self.runner, self.relay, self.presence, self.placer]
        {
            task.abort();
            let _ = task.await;
        }
    }
}

/// The world outside: publishes requests and follows events and dead letters.
pub struct TestClient {
    _link: BrokerConnection,
    pub publisher: Publisher,
    pub events: Subscription,
    pub dead: Subscription,
}

impl TestClient {
    pub async fn new(amqp: &SecretString) -> Self {
        let link = broker(amqp, "outside").connect("test").await.unwrap();
        amqp::declare(&link.channel().await.unwrap()).await.unwrap();
        let publisher = Publisher::open(&link).await.unwrap();
        let events = amqp::subscribe(&link, &["#"]).await.unwrap();
        let dead = amqp::consume(&link, "slipway.dead-letters", 0).await.unwrap();
        Self { _link: link, publisher, events, dead }
    }

    pub async fn publish(&self, body: &[u8]) {
        self.publisher.publish(&outgoing(body, &[])).await.unwrap();
    }

    /// The next result event.
    pub async fn result(&mut self) -> serde_json::Value {
        loop {
            let event = self.event().await;
            if event["type"] == "slipway.deployment.result.v1" {
                return event;
            }
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> serde_json::Value {
        serde_json::from_slice(&next(&mut self.events).await.body).unwrap()
    }

    /// The next dead letter.
    pub async fn dead_letter(&mut self) -> Incoming {
        next(&mut self.dead).await
    }
}

async fn next(subscription: &mut Subscription) -> Incoming {
    tokio::time::timeout(Duration::from_secs(30), subscription.next()).await.unwrap().unwrap().unwrap().incoming
}

/// Polls until `holds`, for at most a minute.
pub async fn eventually<F: std::future::Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn migrated(worker: &str) -> (TestDatabase, Store) {
    TestDatabase::migrated(worker).await
}
