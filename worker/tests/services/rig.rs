//! The engine on real services, driven by a scripted pipeline.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use slipway_deploy::retry::{Deadlines, Policy};
use slipway_deploy::{Done, Reporter, Settled, StageError, StageReport, Work};
use slipway_protocol::{CONTENT_TYPE, Change, Stage};
use slipway_worker::amqp::{self, Link, Publisher, Subscription};
use slipway_worker::credentials::Credentials;
use slipway_worker::ingest::Ingest;
use slipway_worker::intake::Intake;
use slipway_worker::lifecycle::Drain;
use slipway_worker::message::{Incoming, Outgoing};
use slipway_worker::presence::Presence;
use slipway_worker::readiness::{Condition, Readiness};
use slipway_worker::relay::Relay;
use slipway_worker::runner::{Attempt, Pipeline, Runner, Settings};
use slipway_worker::scheduler::Limits;
use slipway_worker::store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Database, broker};

type Future<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// A stage being run.
pub struct Call {
    pub stage: Stage,
    /// Which attempt, from 1, counted over all deployments.
    pub attempt: u32,
    pub work: Work,
    pub reporter: Arc<dyn Reporter>,
    pub cancel: CancellationToken,
}

type Settling = dyn Fn(CancellationToken) -> Future<'static, Settled> + Send + Sync;
type Script = dyn Fn(Call) -> Future<'static, Result<StageReport, StageError>> + Send + Sync;

/// An attempt and the stages that it was offered.
pub type Offer = (u32, Vec<Stage>);

/// A pipeline whose stages do what the test says.
#[derive(Clone)]
pub struct Scripted {
    script: Arc<Script>,
    attempts: Arc<AtomicU32>,
    /// Stages that were run, with their attempt.
    pub calls: Arc<Mutex<Vec<(u32, Stage)>>>,
    /// Attempts that put back, and whether they were to keep what runs.
    pub settled: Arc<Mutex<Vec<(u32, bool)>>>,
    /// What comes of that.
    settling: Arc<Settling>,
    /// What was offered to be resumed, with its attempt.
    pub offered: Arc<Mutex<Vec<Offer>>>,
    /// Stages that are proven when they're offered.
    proves: &'static [Stage],
    /// Whether an offer is ever answered.
    resumes: bool,
}

impl Scripted {
    pub fn new<F>(script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: std::future::Future<Output = Result<StageReport, StageError>> + Send + 'static,
    {
        Self {
            script: Arc::new(move |call| Box::pin(script(call))),
            attempts: Arc::default(),
            calls: Arc::default(),
            settled: Arc::default(),
            settling: Arc::new(|_| Box::pin(std::future::ready(Settled::Nothing))),
            offered: Arc::default(),
            proves: &[],
            resumes: true,
        }
    }

    /// The same, and this is what comes of putting back.
    pub fn settling(self, settling: Settled) -> Self {
        self.settling_with(move |_| std::future::ready(settling.clone()))
    }

    /// The same, and this is how it puts back.
    pub fn settling_with<F>(self, settle: impl Fn(CancellationToken) -> F + Send + Sync + 'static) -> Self
    where
        F: std::future::Future<Output = Settled> + Send + 'static,
    {
        Self { settling: Arc::new(move |cancel| Box::pin(settle(cancel))), ..self }
    }

    /// The same, and whoever asks what is proven gets no answer.
    pub fn never_resuming(self) -> Self {
        Self { resumes: false, ..self }
    }

    /// The same, with these stages proven when they're offered.
    pub fn proving(self, proves: &'static [Stage]) -> Self {
        Self { proves, ..self }
    }

    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::SeqCst)
    }
}

struct ScriptedAttempt {
    pipeline: Scripted,
    number: u32,
    work: Work,
    reporter: Arc<dyn Reporter>,
    cancel: CancellationToken,
}

impl Pipeline for Scripted {
    fn begin(&self, work: Work, reporter: Arc<dyn Reporter>, cancel: CancellationToken) -> Box<dyn Attempt> {
        let number = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        Box::new(ScriptedAttempt { pipeline: self.clone(), number, work, reporter, cancel })
    }
}

impl Attempt for ScriptedAttempt {
    fn run(&mut self, stage: Stage) -> Future<'_, Result<StageReport, StageError>> {
        self.pipeline.calls.lock().unwrap().push((self.number, stage));
        (self.pipeline.script)(Call {
            stage,
            attempt: self.number,
            work: self.work.clone(),
            reporter: self.reporter.clone(),
            cancel: self.cancel.clone(),
        })
    }

    fn resume<'a>(&'a mut self, done: &'a Done) -> Future<'a, Result<BTreeMap<Stage, StageReport>, StageError>> {
        self.pipeline.offered.lock().unwrap().push((self.number, done.keys().copied().collect()));
        if !self.pipeline.resumes {
            return Box::pin(std::future::pending());
        }
        let proven = done.iter().filter(|(stage, _)| self.pipeline.proves.contains(stage)).map(|(stage, facts)| {
            let again = StageReport { facts: facts.clone(), ..report(Change::Unchanged) };
            (*stage, again.fact("resumed", true))
        });
        Box::pin(std::future::ready(Ok(proven.collect())))
    }

    fn settle(&mut self, keep: bool, cancel: CancellationToken) -> Future<'_, Settled> {
        self.pipeline.settled.lock().unwrap().push((self.number, keep));
        (self.pipeline.settling)(cancel)
    }

    fn round_trips(&self) -> u32 {
        7
    }

    fn close(self: Box<Self>) -> Future<'static, ()> {
        Box::pin(async {})
    }
}

/// What a stage reports that had something to do.
pub fn report(change: Change) -> StageReport {
    StageReport { change, facts: serde_json::Map::new(), services: Vec::new(), github_digests: None, url: None }
}

/// A valid request without secrets, for an own server; `edit` changes it.
pub fn request(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut event: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../../protocol/samples/project-ready.v1.json")).unwrap();
    event["id"] = uuid::Uuid::new_v4().to_string().into();
    event["time"] = jiff::Timestamp::now().to_string().into();
    event["data"]["project"]["id"] = uuid::Uuid::new_v4().to_string().into();
    event["data"].as_object_mut().unwrap().remove("secrets");
    edit(&mut event);
    serde_json::to_vec(&event).unwrap()
}

pub fn incoming(body: &[u8]) -> Incoming {
    Incoming {
        body: body.to_vec(),
        content_type: Some(CONTENT_TYPE.to_owned()),
        headers: BTreeMap::new(),
        exchange: "slipway.requests".to_owned(),
        routing_key: "slipway.project.ready.v1".to_owned(),
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
    Credentials { ssh_key: Some(ssh_key), ..Credentials::default() }
}

/// A worker: intake, runner and relay as tasks.
pub struct Worker {
    pub drain: Drain,
    pub readiness: Readiness,
    intake: JoinHandle<()>,
    ingest: JoinHandle<()>,
    runner: JoinHandle<()>,
    relay: JoinHandle<()>,
    presence: JoinHandle<()>,
    finish: CancellationToken,
}

pub struct Options {
    pub credentials: Credentials,
    pub attempts: Policy,
    pub limits: Limits,
    pub lease: Duration,
    pub drain: Duration,
    pub deadlines: Deadlines,
}

impl Default for Options {
    fn default() -> Self {
        let soon = Duration::from_millis(50);
        Self {
            credentials: credentials(),
            attempts: Policy { initial: soon, max: soon, multiplier: 1.0, attempts: 3 },
            limits: Limits::default(),
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            deadlines: Deadlines::DEFAULT,
        }
    }
}

impl Worker {
    pub fn start(store: Store, amqp: &SecretString, pipeline: Scripted, options: Options) -> Self {
        let drain = Drain::new(options.drain);
        let readiness = Readiness::new(&drain);
        let credentials = Arc::new(options.credentials);
        let (canary, canaries) = watch::channel(None);
        let finish = CancellationToken::new();
        let broker = broker(amqp, store.name());
        readiness.met(Condition::Database);
        let presence = Presence { store: store.clone(), readiness: readiness.clone(), stop: drain.token().clone() };
        let relay = Relay {
            store: store.clone(),
            broker: broker.clone(),
            readiness: readiness.clone(),
            canary: canaries,
            finish: finish.clone(),
        };
        let ingest = Ingest { store: store.clone(), broker: broker.clone(), drain: drain.clone() };
        let intake = Intake {
            store: store.clone(),
            broker,
            credentials: credentials.clone(),
            readiness: readiness.clone(),
            drain: drain.clone(),
            prefetch: 8,
            versions: 3,
            canary,
        };
        let settings = Settings {
            concurrency: 4,
            lease: options.lease,
            attempts: options.attempts,
            limits: options.limits,
            registry: "ghcr.io".to_owned(),
            deadlines: options.deadlines,
        };
        let runner = Runner { store, pipeline: Arc::new(pipeline), credentials, settings, drain: drain.clone() };
        Self {
            drain,
            readiness,
            intake: tokio::spawn(intake.run()),
            ingest: tokio::spawn(ingest.run()),
            runner: tokio::spawn(runner.run()),
            relay: tokio::spawn(relay.run()),
            presence: tokio::spawn(presence.run()),
            finish,
        }
    }

    /// Drains and waits for the end.
    pub async fn stop(self) {
        self.drain.begin();
        self.intake.await.unwrap();
        self.ingest.await.unwrap();
        self.runner.await.unwrap();
        self.presence.await.unwrap();
        self.finish.cancel();
        self.relay.await.unwrap();
    }

    /// Ends at once, as a crash does.
    pub async fn kill(self) {
        for task in [self.intake, self.ingest, self.runner, self.relay, self.presence] {
            task.abort();
            let _ = task.await;
        }
    }
}

/// The world outside: publishes requests and follows events and dead letters.
pub struct Outside {
    _link: Link,
    pub publisher: Publisher,
    pub events: Subscription,
    pub dead: Subscription,
}

impl Outside {
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

pub async fn migrated(worker: &str) -> (Database, Store) {
    Database::migrated(worker).await
}
