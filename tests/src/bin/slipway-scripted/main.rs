//! A worker whose stages act on a model of servers, by a script: the real engine with its real configuration, database
//! and broker, for tests of what the engine does when it's killed. It reads the worker's environment and
//! `SLIPWAY_SCRIPT`, `SLIPWAY_SCRIPT_MODEL`. What the stages may do stands in `slipway_tests::script`. Without a model, and
//! where `SLIPWAY_SCRIPT_STAGE_MS` says how long each takes, the stages do nothing: that's what the bench measures the
//! engine with.

mod idle_pipeline;
mod pipeline;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use slipway_tests::model::Model;
use slipway_tests::script::{MODEL, Rule, SCRIPT, STAGE_MS};
use slipway_worker::config::Config;
use slipway_worker::process::{Drain, Readiness, command_line, drain_on_signals};
use slipway_worker::run::Pipeline;
use slipway_worker::{engine, telemetry};

use idle_pipeline::IdlePipeline;
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
    let drain = Drain::new(config.worker.drain_timeout);
    drain_on_signals(drain.clone())?;
    let readiness = Readiness::new(&drain);
    tokio::runtime::Runtime::new()?.block_on(engine::run_with(config, pipeline()?, readiness, drain))
}

fn pipeline() -> Result<Arc<dyn Pipeline>> {
    let stage = std::env::var(STAGE_MS).ok().map(|text| text.parse()).transpose().context(STAGE_MS)?;
    let model = match (std::env::var_os(MODEL), stage) {
        (Some(model), None) => model,
        (_, stage) => return Ok(Arc::new(IdlePipeline { stage: Duration::from_millis(stage.unwrap_or(0)) })),
    };
    let rules: Vec<Rule> = match std::env::var(SCRIPT) {
        Ok(text) => serde_json::from_str(&text).context(SCRIPT)?,
        Err(_) => Vec::new(),
    };
    Ok(Arc::new(ScriptedPipeline::new(Model::new(model.as_ref()), rules)))
}
