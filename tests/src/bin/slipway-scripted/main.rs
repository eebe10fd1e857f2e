//! A worker whose stages act on a model of servers, by a script: the real engine with its real configuration, database
//! and broker, for tests of what the engine does when it's killed. It reads the worker's environment and
//! `SLIPWAY_SCRIPT`, `SLIPWAY_SCRIPT_MODEL`. What the stages may do stands in `slipway_tests::script`.

mod pipeline;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use slipway_tests::model::Model;
use slipway_tests::script::{MODEL, Rule, SCRIPT};
use slipway_worker::config::Config;
use slipway_worker::process::{Drain, Readiness, command_line, drain_on_signals};
use slipway_worker::{engine, telemetry};

use pipeline::ScriptedPipeline;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command_line::print_error(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<()> {
    let mut config = Config::from_env()?;
    // The model's servers are in no inventory.
    config.servers.from_events = true;
    let _telemetry = telemetry::init(&config.telemetry)?;
    let model = Model::new(std::env::var_os(MODEL).context("SLIPWAY_SCRIPT_MODEL isn't set")?.as_ref());
    let rules: Vec<Rule> = match std::env::var(SCRIPT) {
        Ok(text) => serde_json::from_str(&text).context("SLIPWAY_SCRIPT")?,
        Err(_) => Vec::new(),
    };
    let drain = Drain::new(config.worker.drain_timeout);
    drain_on_signals(drain.clone())?;
    let readiness = Readiness::new(&drain);
    let pipeline = ScriptedPipeline::new(model, rules);
    tokio::runtime::Runtime::new()?.block_on(engine::run_with(config, Arc::new(pipeline), readiness, drain))
}
