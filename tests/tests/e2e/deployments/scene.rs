//! One stack with one server, one project and a subscriber: what every scenario here begins with.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_protocol::{CONTENT_TYPE, CloudEvent, DeploymentId, EventType, topology};
use slipway_tests::github::CreatedDeployment;
use slipway_tests::stack::Stack;
use slipway_tests::world::{Commit, Generation, Sample, TargetServer, eventually};
use slipway_worker::message::Outgoing;

use crate::deployments::events::{Listener, Story, is_result, publish};

/// Who asks.
const ORCHESTRATOR: &str = "/orchestrator";
/// The project's one spelling.
pub const SLUG: &str = "corner-shop";
/// The project's directory on the server.
pub const DIRECTORY: &str = "/opt/services/corner-shop";
/// The host port of the backend.
pub const PORT: u16 = 8080;

/// A stack with worker 0, its server in the inventory, and a project.
pub struct ProjectScene {
    pub listener: Listener,
    pub sample: Sample,
    pub stack: Stack,
}

impl ProjectScene {
    /// `environment` is for the worker.
    pub fn new(generation: Generation, environment: &[(&str, &str)]) -> Result<Self> {
        let mut stack = Stack::start(1)?;
        let listener = Listener::start(&stack.world)?;
        // The first worker makes the tables.
        stack.worker(environment)?;
        stack.enlist(0)?;
        Ok(Self { listener, sample: Sample::new(generation, "Acme-Org", "Corner.Shop"), stack })
    }

    pub fn server(&self) -> &TargetServer {
        self.stack.world.target(0)
    }

    /// `owner/name` on GitHub.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.sample.owner(), self.sample.repository())
    }

    /// The request to deploy `commit`.
    pub fn ready(&self, commit: &Commit) -> Result<Value> {
        self.stack.ready(&self.sample, commit, SLUG, 0, PORT)
    }

    /// Publishes a new event that asks for `data`, as the orchestrator does.
    pub fn request(&self, data: &Value) -> Result<String> {
        let id = uuid::Uuid::new_v4().to_string();
        let event = CloudEvent::new(EventType::ProjectReady, ORCHESTRATOR, &id, data);
        let message = Outgoing {
            exchange: topology::REQUESTS.to_owned(),
            routing_key: EventType::ProjectReady.to_string(),
            message_id: id.clone(),
            event_type: EventType::ProjectReady.to_string(),
            content_type: Some(CONTENT_TYPE.to_owned()),
            headers: BTreeMap::new(),
            body: serde_json::to_vec(&CloudEvent { time: Some(jiff::Timestamp::now()), ..event })?,
            correlation_id: None,
        };
        publish(&self.stack.world, &message)?;
        Ok(DeploymentId::of(ORCHESTRATOR, &id, None).to_string())
    }

    /// As [`Self::request`], by hand: through the command line and a file.
    pub fn submit(&self, data: &Value) -> Result<String> {
        let file = self.stack.world.folder().join("request.json");
        std::fs::write(&file, serde_json::to_vec(data)?)?;
        let said = self.stack.slipway(&["--json", "submit", &file.display().to_string()])?;
        let said: Value = serde_json::from_str(&said)?;
        Ok(said["deployment_id"].as_str().context("the deployment's id")?.to_owned())
    }

    /// Waits for the deployment's result and checks what holds for every deployment.
    pub fn story(&mut self, deployment: &str) -> Result<Story> {
        let story = self.listener.story(deployment)?;
        story.check(&json!({ "correlation_id": "c-17", "chat": { "id": -100 }, "story_id": null }))?;
        Ok(story)
    }

    /// The deployment as the command line shows it.
    pub fn shown(&self, deployment: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.stack.slipway(&["--json", "deployments", "show", deployment])?)?)
    }

    /// The open dead letters.
    pub fn dead_letters(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.stack.slipway(&["--json", "dead-letters", "list"])?)?)
    }

    /// What somebody outside gets from the project's health page.
    pub fn health(&self) -> Result<(u16, String)> {
        let answer = self.stack.world.get(&format!("http://{}:{PORT}/health", self.server().ip()))?;
        Ok((answer.status, answer.body))
    }

    /// Waits until GitHub's pages show these deployments, oldest first: the commit, and what was told last.
    pub fn github_shows(&self, expected: &[(&str, &str)]) -> Result<()> {
        eventually("what GitHub's pages show", Duration::from_secs(20), || {
            let shown = self.stack.github.deployments(&self.repository());
            let last = |d: &CreatedDeployment| d.statuses.last().map(|s| s.state.clone()).unwrap_or_default();
            let said: Vec<_> = shown.iter().map(|d| (d.sha.clone(), last(d))).collect();
            let said: Vec<_> = said.iter().map(|(sha, state)| (sha.as_str(), state.as_str())).collect();
            ensure!(said == expected, "{said:?}");
            let url = format!("http://{}:{PORT}", self.server().ip());
            let ends = shown.iter().filter_map(|d| d.statuses.last());
            ensure!(ends.filter(|s| s.state == "success").all(|s| s.environment_url == url), "{shown:?}");
            ensure!(shown.iter().all(|d| d.environment == "target-0"), "{shown:?}");
            Ok(())
        })
    }

    /// Every container of the server: id, start, restarts.
    pub fn containers(&self) -> Result<Vec<String>> {
        let format = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
        let told = self.server().sh(&format!("docker ps -aq | xargs -r docker inspect --format '{format}' | sort"))?;
        Ok(told.lines().map(str::to_owned).collect())
    }

    /// Drains worker `number`, which is nothing to be alarmed about, and checks that nothing followed on any result and
    /// that none came twice.
    pub fn end(mut self, number: usize) -> Result<()> {
        let before = self.stack.running(number).log()?.len();
        let code = self.stack.running(number).drain()?;
        let log = self.stack.running(number).log()?;
        ensure!(code == Some(0), "the drain ended with {code:?}:\n{log}");
        ensure!(!log[before..].contains("ERROR"), "an orderly end alarms people:\n{}", &log[before..]);
        let mut ended = BTreeMap::new();
        for event in self.listener.all(&self.stack.world)? {
            let id = event["data"]["deployment_id"].to_string();
            ensure!(!ended.contains_key(&id), "{event} came after the result");
            if is_result(event) {
                ended.insert(id, event.clone());
            }
        }
        ensure!(!ended.is_empty(), "no result at all");
        Ok(())
    }
}
