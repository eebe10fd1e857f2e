//! Keeps the books: which requests were confirmed, and everything that was told about them, from a queue that outlives
//! the broker. Says what is lost, told twice, out of order or missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use secrecy::SecretString;
use slipway_protocol::{DeploymentId, EventType, topology};
use slipway_worker::amqp::{self, BrokerConnection, PublishError, Publisher};
use slipway_worker::message::Outgoing;
use tokio::time::Instant;

use super::broker;
use super::test_worker::outgoing;

/// The queue of everything that is told.
pub const TOLD: &str = "told";
/// How long everything may take to be told; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was told about one deployment, in the order in which it came.
#[derive(Default)]
struct Told {
    /// Sequence, event's id, whether it's a result.
    events: Vec<(u64, String, bool)>,
}

/// The books of one virtual host.
pub struct TestLedger {
    url: SecretString,
    confirmed: BTreeMap<String, Vec<u8>>,
    told: BTreeMap<String, Told>,
    excused: BTreeSet<(String, u64)>,
}

impl TestLedger {
    /// Declares the topology and the queue.
    pub async fn open(url: SecretString) -> Self {
        let link = broker(&url, "book").connect("open").await.unwrap();
        let channel = link.channel().await.unwrap();
        amqp::declare(&channel).await.unwrap();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        // On a cluster it outlives each node.
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(TOLD.into(), durable, arguments).await.unwrap();
        let (all, options) = ("#".into(), QueueBindOptions::default());
        channel.queue_bind(TOLD.into(), topology::EVENTS.into(), all, options, FieldTable::default()).await.unwrap();
        link.close().await;
        Self { url, confirmed: BTreeMap::new(), told: BTreeMap::new(), excused: BTreeSet::new() }
    }

    /// A connection of the producer's, however often it has to try.
    pub async fn connect(&self) -> BrokerConnection {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match broker(&self.url, "book").connect("publish").await {
                Ok(link) => return link,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Publishes `bodies` until each is confirmed.
    pub async fn publish(&mut self, bodies: Vec<Vec<u8>>) {
        let mut left = bodies;
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() {
            let link = self.connect().await;
            let publisher = Publisher::open(&link).await.unwrap();
            let (mut refused, mut broken) = (Vec::new(), false);
            for body in left {
                let message = Outgoing { message_id: id_of(&body), ..outgoing(&body, &[]) };
                let sent = if broken { None } else { Some(publisher.publish(&message).await) };
                broken |= matches!(sent, Some(Err(PublishError::Broken(_))));
                if matches!(sent, Some(Ok(()))) {
                    self.confirmed.insert(id_of(&body), body);
                } else {
                    refused.push(body);
                }
            }
            link.close().await;
            left = refused;
            assert!(Instant::now() < deadline, "{} requests can't be published", left.len());
        }
    }

    /// Lets events be missing, by deployment and sequence.
    pub fn excuse(&mut self, events: impl Iterator<Item = (String, u64)>) {
        self.excused.extend(events);
    }

    /// Every request that was confirmed.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.confirmed.values().cloned().collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.confirmed.len()
    }

    /// Reads what was told until every confirmed request has its result, and checks all of it.
    pub async fn balance(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // A connection may break here as well, on a machine that is busy; what wasn't acknowledged comes again.
        while self.without_result().is_some() {
            let link = self.connect().await;
            let mut told = amqp::consume(&link, TOLD, 500).await.unwrap();
            while let Some(missing) = self.without_result() {
                let next = tokio::time::timeout_at(deadline, told.next()).await;
                let Ok(Some(delivered)) = next.unwrap_or_else(|_| panic!("lost: no result of {missing}")) else {
                    break;
                };
                let event: serde_json::Value = serde_json::from_slice(&delivered.incoming.body).unwrap();
                let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
                let sequence = event["sequence"].as_str().unwrap().parse().unwrap();
                let entry = (sequence, text(&event["id"]), event["type"] == EventType::Result.as_str());
                self.told.entry(text(&event["data"]["deployment_id"])).or_default().events.push(entry);
                if !matches!(delivered.ack().await, Ok(true)) {
                    break;
                }
            }
            link.close().await;
        }
        assert_eq!(self.told.len(), self.confirmed.len(), "deployments that nobody asked for");
        for (deployment, told) in &self.told {
            told.check(deployment, &self.excused);
        }
    }

    fn without_result(&self) -> Option<&str> {
        let has_result = |id: &str| self.told.get(id).is_some_and(|told| told.events.iter().any(|(_, _, end)| *end));
        self.confirmed.keys().map(String::as_str).find(|id| !has_result(id))
    }
}

impl Told {
    /// 1, 2, 3 … up to the result; what comes again has the same id.
    fn check(&self, deployment: &str, excused: &BTreeSet<(String, u64)>) {
        let mut seen: Vec<Option<&str>> = Vec::new();
        let mut results = 0;
        for (sequence, id, is_result) in &self.events {
            let place = usize::try_from(*sequence).unwrap() - 1;
            while seen.len() < place && excused.contains(&(deployment.to_owned(), seen.len() as u64 + 1)) {
                seen.push(None);
            }
            assert!(place <= seen.len(), "{deployment}: {sequence} came after {}", seen.len());
            if place == seen.len() {
                assert_eq!(results, 0, "{deployment}: told after its result");
                results += u32::from(*is_result);
                seen.push(Some(id));
            }
            assert!(seen[place].is_none_or(|first| first == id), "{deployment}: another event {sequence}");
        }
        assert_eq!(results, 1, "{deployment}: results");
    }
}

/// The deployment that a request becomes.
pub fn id_of(body: &[u8]) -> String {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None).to_string()
}
