//! How long it takes at half load: from the publication to the first event, to the result, and from the moment that an
//! event tells to the moment that a subscriber hears it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::contender::BenchedEngine;
use crate::orchestrator::Orchestrator;
use crate::record::{Record, Subject};
use crate::scene::BenchScene;
use crate::subscriber::{HeardMessage, PATIENCE, Subscriber};

/// How long a worker may take to start and settle before it's measured.
const SETTLE: Duration = Duration::from_secs(2);

/// What was measured, one duration for each deployment or event.
#[derive(Default)]
pub struct Latencies {
    first: Vec<Duration>,
    result: Vec<Duration>,
    event: Vec<Duration>,
}

impl Latencies {
    /// Writes it down.
    pub fn note(self, record: &mut Record, of: &Subject) -> Result<()> {
        record.note_latencies(of, "publish to first event", self.first)?;
        record.note_latencies(of, "publish to result", self.result)?;
        record.note_latencies(of, "event to subscriber", self.event)
    }
}

/// What a message says: about which job, whether it's the first or the last, and when it was said.
struct Said {
    job: String,
    is_first: bool,
    is_result: bool,
    at: SystemTime,
    /// When the job was sent, where it says so itself.
    sent: Option<SystemTime>,
}

/// Sends `rate` jobs a second to one process on a database of its own.
pub async fn measure(
    scene: &mut BenchScene,
    orchestrator: &mut Orchestrator,
    contender: &BenchedEngine,
    rate: f64,
    seconds: f64,
) -> Result<Latencies> {
    let database = scene.fresh_database().await?;
    contender.prepare(scene, orchestrator, &database).await?;
    on(scene, orchestrator, contender, &database, rate, seconds).await
}

/// The same on a database that is there.
pub async fn on(
    scene: &BenchScene,
    orchestrator: &mut Orchestrator,
    contender: &BenchedEngine,
    database: &str,
    rate: f64,
    seconds: f64,
) -> Result<Latencies> {
    let mut subscriber = Subscriber::bind(scene.stack.world.amqp_url(), contender.exchange()).await?;
    let _processes = contender.start(scene, database, 1)?;
    contender.ask(scene, orchestrator, database, 1).await?;
    subscriber.results(1, PATIENCE).await?;
    tokio::time::sleep(SETTLE).await;
    let span = Duration::from_secs_f64(seconds);
    let sent = contender.ask_evenly(scene, orchestrator, database, rate, span).await?;
    let expected = if sent.is_empty() { (rate * seconds).ceil() as usize } else { sent.len() };
    let (mut all, mut results) = (Latencies::default(), 0);
    while results < expected {
        let heard = subscriber.next(PATIENCE).await?;
        let said = read(&heard, contender.peer.is_some())?;
        results += usize::from(said.is_result);
        all.event.push(heard.clock.duration_since(said.at).unwrap_or_default());
        let since = since_sent(&heard, &said, &sent);
        if let Some(since) = since.filter(|_| said.is_first) {
            all.first.push(since);
        }
        if let Some(since) = since.filter(|_| said.is_result) {
            all.result.push(since);
        }
    }
    subscriber.end().await;
    Ok(all)
}

fn since_sent(heard: &HeardMessage, said: &Said, sent: &BTreeMap<String, Instant>) -> Option<Duration> {
    match said.sent {
        Some(sent) => heard.clock.duration_since(sent).ok(),
        None => sent.get(&said.job).map(|sent| heard.at.saturating_duration_since(*sent)),
    }
}

fn read(heard: &HeardMessage, is_peer: bool) -> Result<Said> {
    let event: Value = serde_json::from_slice(&heard.body)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("text");
    let is_result = heard.key.starts_with("result");
    if is_peer {
        let moment = |value: &Value| value.as_f64().map(|seconds| UNIX_EPOCH + Duration::from_secs_f64(seconds));
        return Ok(Said {
            job: text(&event["job"])?,
            is_first: event["sequence"] == 1,
            is_result,
            at: moment(&event["at"]).context("when")?,
            sent: moment(&event["sent"]),
        });
    }
    let at: jiff::Timestamp = text(&event["time"])?.parse()?;
    Ok(Said {
        job: text(&event["data"]["deployment_id"])?,
        is_first: event["data"]["kind"] == "accepted",
        is_result,
        at: SystemTime::from(at),
        sent: None,
    })
}
