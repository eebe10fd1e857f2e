//! What the demo asks for: sent with the command line, and how it ended.

use std::fs;
use std::os::fd::AsFd as _;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, DeploymentResult, EventType};
use slipway_tests::stack::Stack;
use slipway_tests::world::ended;

use crate::say;

const SOURCE: &str = "/slipway/demo";
/// The event that asks for the good commit.
pub(crate) const EVENT: &str = "demo-1";
/// The event that asks for the bad commit.
pub(crate) const BAD_EVENT: &str = "demo-2";
pub(crate) const SLUG: &str = "corner-shop";
pub(crate) const PORT: u16 = 8080;

/// Publishes the request with the command line and lets it show the deployment on this terminal.
pub(crate) fn submit(stack: &Stack, event_id: &str, ready: &Value) -> Result<ExitStatus> {
    let event = json!({
        "specversion": "1.0",
        "type": EventType::ProjectReady.as_str(),
        "source": SOURCE,
        "id": event_id,
        "data": ready,
    });
    let file = stack.world.folder().join("slipway/project-ready.json");
    fs::write(&file, serde_json::to_vec_pretty(&event)?)?;
    say::message(&format!("slipway submit --watch {}", file.display()));
    let mut command = stack.program("slipway")?;
    // The demo's own stdout carries the URL and the answer, nothing else.
    let stdout = std::io::stderr().as_fd().try_clone_to_owned()?;
    command.args(["submit", "--watch"]).arg(&file).stdin(Stdio::null()).stdout(stdout);
    for name in ["TERM", "NO_COLOR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    ended(&mut command.spawn().context("starting slipway")?)
}

/// The deployment that the demo's event asks for.
pub(crate) fn deployment() -> DeploymentId {
    DeploymentId::of(SOURCE, EVENT, None)
}

/// How the deployment that `event_id` asked for ended.
pub(crate) fn result(stack: &Stack, event_id: &str) -> Result<DeploymentResult> {
    let id = DeploymentId::of(SOURCE, event_id, None).to_string();
    let mut shown: Value = serde_json::from_str(&stack.slipway(&["deployments", "show", &id, "--json"])?)?;
    Ok(serde_json::from_value(shown["result"].take())?)
}
