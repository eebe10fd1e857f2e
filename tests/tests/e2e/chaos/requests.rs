//! What is asked for: a few small projects, several commits each, by a publisher who repeats each request until the
//! broker has confirmed it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use slipway_tests::checker::SentRequest;
use slipway_tests::observer::{self, Observer};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Generation, Module, Sample, Variant};

use crate::chaos::plan::ChaosSettings;

/// How long a confirm is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// One request, and where its project would answer.
#[derive(Debug, Clone)]
pub struct ChaosRequest {
    pub body: Vec<u8>,
    pub slug: String,
    pub commit: String,
    pub target: usize,
    pub port: u16,
}

/// Only a web service, in one container: a hundred of them fit on two cores.
const BASE: &str = r#"
services:
  backend:
    build:
      context: ..
      dockerfile: services/backend/Dockerfile
    environment: { POSTGRES_HOST: "", DATABASE_URL: "" }
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/health"]
      interval: 2s
      timeout: 3s
      retries: 10
      start_period: 10s
"#;
const PROD: &str = r#"
services:
  backend:
    extends:
      file: compose.base.yml
      service: backend
    image: ${BACKEND_IMAGE:?Set BACKEND_IMAGE}
    env_file: ../.env
    ports:
      - "${BACKEND_PORT:?Set BACKEND_PORT}:8000"
"#;

fn order(number: usize, settings: &ChaosSettings, data: &Value) -> ChaosRequest {
    let project = number % settings.projects;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = json!({
        "specversion": "1.0",
        "id": format!("request-{number}"),
        "source": "/chaos",
        "type": "slipway.project.ready.v1",
        "datacontenttype": "application/json",
        "data": data,
    });
    ChaosRequest {
        body: event.to_string().into_bytes(),
        slug: text(&data["project"]["slug"]),
        commit: text(&data["repository"]["commit"]),
        target: project % settings.targets.max(1),
        port: port(project),
    }
}

fn slug(project: usize) -> String {
    format!("project-{project}")
}

fn port(project: usize) -> u16 {
    8100 + u16::try_from(project).unwrap_or(0)
}

fn data(project: usize, number: usize, commit: &str, server: &Value, repository: &str) -> Value {
    json!({
        "project": { "id": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, slug(project).as_bytes()), "slug": slug(project) },
        "repository": { "name": repository, "commit": commit, "branch": "main" },
        "server": server,
        "allocations": [{ "service": "backend", "host_port": port(project), "container_port": 8000 }],
        "modules": ["backend"],
        "sequence": number,
        "correlation": { "correlation_id": format!("chaos-{number}") },
    })
}

/// Requests for projects that exist on a model only.
pub fn imagined(settings: &ChaosSettings) -> Vec<ChaosRequest> {
    let order = |number| {
        let project = number % settings.projects;
        let server = json!({ "handle": format!("model-{}", project % 5), "address": "203.0.113.10" });
        let data = data(project, number, &format!("{number:040x}"), &server, &format!("Acme/{}", slug(project)));
        order(number, settings, &data)
    };
    (0..settings.deployments).map(order).collect()
}

/// Projects in the world's git server and registry, and the requests for their commits.
pub fn real(stack: &Stack, settings: &ChaosSettings) -> Result<Vec<ChaosRequest>> {
    let mut samples: BTreeMap<usize, Sample> = BTreeMap::new();
    let mut orders = Vec::new();
    for number in 0..settings.deployments {
        let project = number % settings.projects;
        let sample = samples.remove(&project).unwrap_or_else(|| {
            Sample::new(Generation::Two, "Acme", &slug(project))
                .of(&[Module::Backend])
                .with_file("infra/compose.base.yml", BASE)
                .with_file("infra/compose.prod.yml", PROD)
        });
        let sample = sample.with_file("README.md", &format!("request {number}\n"));
        let commit = stack.publish(&sample, Variant::Healthy)?;
        let server = json!({ "handle": format!("target-{}", project % settings.targets) });
        let repository = format!("{}/{}", sample.owner(), sample.repository());
        orders.push(order(number, settings, &data(project, number, &commit.sha, &server, &repository)));
        samples.insert(project, sample);
    }
    Ok(orders)
}

/// Publishes what the numbers name, each until it's confirmed; gives what was attempted. To be run inside the world.
pub async fn publish(urls: &str, orders: &[ChaosRequest], numbers: Receiver<usize>) -> Result<Vec<SentRequest>> {
    let numbers = Arc::new(std::sync::Mutex::new(numbers));
    let mut observer: Option<Observer> = None;
    let mut requests = Vec::new();
    loop {
        let numbers = numbers.clone();
        let next = tokio::task::spawn_blocking(move || {
            numbers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv().ok()
        });
        let Some(number) = next.await? else { return Ok(requests) };
        let body = &orders[number].body;
        loop {
            let connected = match observer.take() {
                Some(observer) => Some(observer),
                None => Observer::connect(urls).await.ok(),
            };
            let Some(connected) = connected else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, connected.publish(body)).await {
                observer = Some(connected);
                requests.push(SentRequest { confirmed: true, ..observer::request(body)? });
                break;
            }
        }
    }
}
