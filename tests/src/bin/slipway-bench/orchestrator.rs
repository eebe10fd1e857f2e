//! Who asks for deployments: as many as wanted, all at once or evenly over time, each confirmed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lapin::options::{ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, EventType, topology};
use slipway_tests::bus::{self, ReceivedMessage};
use uuid::Uuid;

/// Who asks.
const SOURCE: &str = "/bench";
/// How many messages are sent before their confirms are waited for.
const WINDOW: usize = 100;

/// A connection that publishes requests.
pub struct Orchestrator {
    channel: Channel,
    _connection: Connection,
    asked: u64,
    /// Over how many servers projects are spread.
    pub servers: u64,
}

impl Orchestrator {
    /// Connects.
    pub async fn connect(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, _connection: connection, asked: 0, servers: 64 })
    }

    /// Empties the queues that a run before may have left something in.
    pub async fn purge(&self) -> Result<()> {
        for queue in [topology::DEPLOYMENTS_QUEUE, topology::DEAD_LETTERS_QUEUE] {
            self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        }
        Ok(())
    }

    /// A request for a project of its own; gives the deployment's id as well.
    fn request(&mut self) -> Result<(String, ReceivedMessage)> {
        self.asked += 1;
        let (event, project) = (Uuid::new_v4().to_string(), Uuid::new_v4());
        let slug = format!("p{}", project.simple());
        let slug = &slug[..13];
        let commit = format!("{:040x}", project.as_u128());
        let body: Value = json!({
            "specversion": "1.0", "id": event, "source": SOURCE, "type": EventType::ProjectReady.as_str(),
            "subject": slug, "time": jiff::Timestamp::now().to_string(), "datacontenttype": "application/json",
            "data": {
                "project": { "id": project, "slug": slug },
                "repository": { "name": format!("acme/{slug}"), "commit": commit, "branch": "main" },
                "server": { "handle": format!("vps-{}", self.asked % self.servers), "address": "203.0.113.10" },
                "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
                "modules": ["backend", "tg_bot"],
                "variables": { "APP_NAME": slug, "APP_ENV": "production" },
                "correlation": { "correlation_id": "c-1", "task_id": 42, "chat": { "id": -100 } },
            },
        });
        let id = DeploymentId::of(SOURCE, &event, None).to_string();
        Ok((id, ReceivedMessage::structured(serde_json::to_vec(&body)?)))
    }

    /// Publishes `count` requests as fast as they are confirmed.
    pub async fn ask(&mut self, count: usize) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let (new, messages): (Vec<_>, Vec<_>) = (0..WINDOW.min(count - ids.len()))
                .map(|_| self.request())
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .unzip();
            bus::publish(&self.channel, &messages.iter().collect::<Vec<_>>()).await?;
            ids.extend(new);
        }
        Ok(ids)
    }

    /// Publishes a request for just this; gives the deployment's id, once it's confirmed.
    pub async fn ask_for(&self, data: &Value) -> Result<String> {
        let event = Uuid::new_v4().to_string();
        let body = json!({
            "specversion": "1.0", "id": event, "source": SOURCE, "type": EventType::ProjectReady.as_str(),
            "time": jiff::Timestamp::now().to_string(), "datacontenttype": "application/json", "data": data,
        });
        bus::publish(&self.channel, &[&ReceivedMessage::structured(serde_json::to_vec(&body)?)]).await?;
        Ok(DeploymentId::of(SOURCE, &event, None).to_string())
    }

    /// Publishes `rate` requests a second for `span`; gives when each was handed to the broker.
    pub async fn ask_evenly(&mut self, rate: f64, span: Duration) -> Result<BTreeMap<String, Instant>> {
        let mut sent = BTreeMap::new();
        let mut confirms = Vec::new();
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        let begun = Instant::now();
        while begun.elapsed() < span {
            tick.tick().await;
            let (id, message) = self.request()?;
            let channel = self.channel.clone();
            sent.insert(id, Instant::now());
            confirms.push(tokio::spawn(async move { bus::publish(&channel, &[&message]).await }));
        }
        for confirm in confirms {
            confirm.await.context("a publication")??;
        }
        Ok(sent)
    }
}
