//! What a subscriber of `slipway.events` hears, and what must be true of all of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use secrecy::SecretString;
use serde_json::{Value, json};
use slipway_protocol::{EventType, Stage, schema, topology};
use slipway_tests::world::World;
use slipway_worker::amqp::{BrokerEndpoints, Publisher, subscribe};
use slipway_worker::message::Outgoing;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A connection to the world's broker under this name.
fn broker(world: &World, name: &str) -> Result<BrokerEndpoints> {
    Ok(BrokerEndpoints::new(&SecretString::from(world.amqp_url()), None, name)?)
}

/// Publishes one message from inside the world, confirmed.
pub fn publish(world: &World, message: &Outgoing) -> Result<()> {
    let broker = broker(world, "orchestrator")?;
    world.block_on(async move {
        let link = broker.connect("requests").await?;
        Publisher::open(&link).await?.publish(message).await?;
        link.close().await;
        Ok(())
    })?
}

/// A subscriber of everything, on a thread of its own.
pub struct Listener {
    incoming: mpsc::Receiver<Value>,
    heard: Vec<Value>,
    repeats: bool,
    _open: DropGuard,
}

impl Listener {
    /// Returns once the queue is bound: what is published from now on is heard.
    pub fn start(world: &World) -> Result<Self> {
        let broker = broker(world, "monitoring")?;
        let (outgoing, incoming) = mpsc::channel();
        let (ready, bound) = mpsc::channel();
        let open = CancellationToken::new();
        let closed = open.clone();
        // A thread of a thread that entered the world is in the world, and may outlive this borrow of it.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<()> {
                world.enter()?;
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
                std::thread::spawn(move || {
                    let ended = runtime.block_on(closed.run_until_cancelled_owned(listen(broker, outgoing, &ready)));
                    if let Some(Err(error)) = ended {
                        let _ = ready.send(Err(error));
                    }
                });
                Ok(())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        bound.recv_timeout(Duration::from_secs(20)).context("the subscriber's queue is bound")??;
        Ok(Self { incoming, heard: Vec::new(), repeats: false, _open: open.drop_guard() })
    }

    /// From now on an event may come again, as it was: a worker that dies or freezes has told what it hasn't noted yet.
    pub fn expect_repeats(&mut self) {
        self.repeats = true;
    }

    fn hear(&mut self, event: Value) {
        if !(self.repeats && self.heard.contains(&event)) {
            self.heard.push(event);
        }
    }

    /// Everything about `deployment` up to the first event for which `last` is true.
    pub fn until(&mut self, deployment: &str, last: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let deadline = Instant::now() + Duration::from_secs(150);
        let of = |e: &&Value| e["data"]["deployment_id"] == deployment;
        loop {
            if let Some(end) = self.heard.iter().rposition(|e| of(&e) && last(e)) {
                return Ok(self.heard[..=end].iter().filter(of).cloned().collect());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.incoming.recv_timeout(left).map_err(|error| {
                let told: Vec<_> = self.heard.iter().filter(of).map(ToString::to_string).collect();
                anyhow::anyhow!("{error} while waiting for an event of {deployment}; so far:\n{}", told.join("\n"))
            })?;
            self.hear(event);
        }
    }

    /// Everything up to the result.
    pub fn story(&mut self, deployment: &str) -> Result<Story> {
        Ok(Story(self.until(deployment, is_result)?))
    }

    /// Everything ever heard, with all that was confirmed before this call.
    pub fn all(&mut self, world: &World) -> Result<&[Value]> {
        let marker = uuid::Uuid::new_v4().to_string();
        publish(
            world,
            &Outgoing {
                exchange: topology::EVENTS.to_owned(),
                routing_key: "marker".to_owned(),
                body: serde_json::to_vec(&json!({ "marker": marker }))?,
                ..Outgoing::default()
            },
        )?;
        loop {
            let event = self.incoming.recv_timeout(Duration::from_secs(20)).context("the marker comes back")?;
            if event["marker"] == marker.as_str() {
                return Ok(&self.heard);
            }
            self.hear(event);
        }
    }
}

async fn listen(
    broker: BrokerEndpoints,
    outgoing: mpsc::Sender<Value>,
    ready: &mpsc::Sender<Result<()>>,
) -> Result<()> {
    let link = broker.connect("events").await?;
    let mut subscription = subscribe(&link, &["#"]).await?;
    let _ = ready.send(Ok(()));
    while let Some(delivered) = subscription.next().await? {
        if outgoing.send(serde_json::from_slice(&delivered.incoming.body)?).is_err() {
            break;
        }
    }
    Ok(())
}

pub fn is_result(event: &Value) -> bool {
    event["type"] == EventType::Result.as_str()
}

/// All events of one deployment, the result last.
pub struct Story(pub Vec<Value>);

impl Story {
    /// The result's data.
    pub fn result(&self) -> &Value {
        &self.0[self.0.len() - 1]["data"]
    }

    /// Checks what holds for every deployment: order without gaps, schemas, distinct ids, the correlation echoed, one
    /// result.
    pub fn check(&self, correlation: &Value) -> Result<()> {
        let mut ids = BTreeSet::new();
        for (number, event) in (1..).zip(&self.0) {
            ensure!(event["sequence"] == format!("{number:010}"), "number {number} is {event}");
            ensure!(ids.insert(event["id"].to_string()), "one id twice: {event}");
            ensure!(event["data"]["correlation"] == *correlation, "the correlation isn't echoed: {event}");
            fits_its_schema(event)?;
        }
        let refused = self.0.len() == 1 && self.result()["attempts"] == 0;
        ensure!(refused || self.0[0]["data"]["kind"] == "accepted", "the first is {}", self.0[0]);
        ensure!(self.0.iter().filter(|e| is_result(e)).count() == 1, "more than one result");
        Ok(())
    }

    /// Checks that every stage was begun and finished, in order, in one attempt.
    pub fn is_complete(&self) -> Result<()> {
        let of = |kind: &str| -> Vec<&str> {
            let events = self.0.iter().map(|e| &e["data"]).filter(|data| data["kind"] == kind);
            events.filter_map(|data| data["stage"].as_str()).collect()
        };
        let stages = Stage::ALL.map(Stage::as_str);
        ensure!(of("stage_started") == stages, "begun: {:?}", of("stage_started"));
        ensure!(of("stage_finished") == stages, "finished: {:?}", of("stage_finished"));
        ensure!(self.result()["attempts"] == 1, "{}", self.result());
        Ok(())
    }

    /// The result's stages: name, `changed` or `unchanged`, milliseconds.
    pub fn stages(&self) -> Vec<(String, String, u64)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let stages = self.result()["stages"].as_array().into_iter().flatten();
        stages.map(|s| (text(&s["stage"]), text(&s["change"]), s["duration_ms"].as_u64().unwrap_or_default())).collect()
    }
}

/// Compares an event with the checked-in schema of its type, not with the one that today's types would give.
fn fits_its_schema(event: &Value) -> Result<()> {
    let event_type = EventType::ALL.into_iter().find(|t| event["type"] == t.as_str()).context("an unknown type")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/schemas");
    let schema = std::fs::read(folder.join(schema::file_name(event_type)))?;
    let validator = jsonschema::draft202012::new(&serde_json::from_slice(&schema)?)?;
    let errors: Vec<String> = validator.iter_errors(event).map(|e| e.to_string()).collect();
    ensure!(errors.is_empty(), "{errors:?}: {event}");
    Ok(())
}
