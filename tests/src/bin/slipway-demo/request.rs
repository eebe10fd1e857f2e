//! What the demo asks for: sent with the command line, and how it ended.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, DeploymentResult, EventType};
use slipway_tests::stack::Stack;
use slipway_tests::world::ended;

use crate::say;

const SOURCE: &str = "/slipway/demo";
/// The event that asks for the first commit.
pub(crate) const EVENT: &str = "demo-1";
/// The event that asks for the second one.
pub(crate) const SECOND_EVENT: &str = "demo-2";
/// The event that asks for the bad commit.
pub(crate) const BAD_EVENT: &str = "demo-3";
pub(crate) const SLUG: &str = "corner-shop";
pub(crate) const PORT: u16 = 8080;

/// Publishes the request with the command line and lets it show the deployment on this terminal.
pub(crate) fn submit(stack: &Stack, event_id: &str, ready: &Value) -> Result<ExitStatus> {
    let mut command = command(stack, event_id, ready)?;
    // The demo's own stdout carries the URL and the answers, nothing else.
    command.stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
    for name in ["TERM", "NO_COLOR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    ended(&mut command.spawn().context("starting slipway")?)
}

/// As [`submit`], with something below that moves: each line is told by the demo itself.
pub(crate) fn submit_beside(stack: &Stack, event_id: &str, ready: &Value) -> Result<ExitStatus> {
    let (told, telling) = std::io::pipe()?;
    let mut command = command(stack, event_id, ready)?;
    let mut child = command.stdout(telling.try_clone()?).stderr(telling).spawn().context("starting slipway")?;
    // It holds the writing end, without which there is an end to read.
    drop(command);
    thread::scope(|scope| {
        scope.spawn(|| BufReader::new(told).lines().map_while(Result::ok).for_each(|line| say::line(&line)));
        ended(&mut child)
    })
}

fn command(stack: &Stack, event_id: &str, ready: &Value) -> Result<Command> {
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
    command.args(["submit", "--watch"]).arg(&file).stdin(Stdio::null());
    Ok(command)
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
