//! The worker's process: reads the configuration, starts telemetry, admin server and engine, and exits. What the worker
//! does is in the library.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use slipway_worker::config::Config;
use slipway_worker::process::command_line::{self, WorkerCommand};
use slipway_worker::process::{AdminServer, Drain, LivenessProbe, Readiness, drain_on_signals, exit};
use slipway_worker::{engine, telemetry};
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

/// How long after the drain's deadline the engine may take to publish what is left and to close its connections.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// How long sending the last telemetry may take, also when the collector is down.
const TELEMETRY_FLUSH: Duration = Duration::from_secs(1);
/// How long the event loop may be stuck before `/healthz` reports it.
const STUCK_AFTER: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let command = match WorkerCommand::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(unknown) => return exit_with_usage_error(unknown),
    };
    match command {
        WorkerCommand::Help => command_line::print(&command_line::help()),
        WorkerCommand::Version => command_line::print(&command_line::version()),
        WorkerCommand::Check | WorkerCommand::Run => match Config::from_env() {
            Err(mistakes) => return exit_with_usage_error(mistakes),
            Ok(config) if command == WorkerCommand::Run => return start(config),
            Ok(config) => report_valid(&config),
        },
    }
    ExitCode::SUCCESS
}

fn exit_with_usage_error(problem: impl std::fmt::Display) -> ExitCode {
    command_line::print_error(problem);
    ExitCode::from(exit::USAGE)
}

fn report_valid(config: &Config) {
    for warning in &config.warnings {
        command_line::print_warning(warning);
    }
    command_line::print("the configuration is valid");
}

/// Starts telemetry before the event loop and ends it after: its exporters must neither start nor end on the loop.
fn start(config: Config) -> ExitCode {
    let guard = match telemetry::init(&config.telemetry) {
        Ok(guard) => guard,
        Err(error) => {
            command_line::print_error(format!("{error:#}"));
            return ExitCode::from(exit::INTERNAL);
        }
    };
    log_panics();
    let code = match run_worker(config) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(error = format!("{error:#}"), "the worker failed");
            ExitCode::from(exit::INTERNAL)
        }
    };
    guard.shutdown(TELEMETRY_FLUSH);
    code
}

/// Makes a panic a line of the log, since a log pipeline can't read the raw text.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        error!(panic = panic.payload_as_str(), place, "panicked; this is a mistake in Slipway");
    }));
}

fn run_worker(config: Config) -> anyhow::Result<()> {
    let drain = Drain::new(config.worker.drain_timeout);
    drain_on_signals(drain.clone()).context("can't handle signals")?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        worker = config.worker.name,
        database = %config.database.url,
        broker = %config.broker.url,
        concurrency = config.worker.concurrency,
        "starting"
    );
    let readiness = Readiness::new(&drain);
    let liveness = LivenessProbe::new(STUCK_AFTER);
    let admin = AdminServer::start(config.admin.address, readiness.clone(), liveness.clone())?;
    info!(address = %admin.address(), "admin server listening");
    let runtime = Runtime::new().context("can't start the event loop")?;
    runtime.spawn(liveness.run());
    let outcome = runtime.block_on(supervise(config, readiness, drain));
    // Tasks that are left belong to work that was dropped; they aren't waited for.
    runtime.shutdown_background();
    outcome
}

/// Runs the engine until it ends, or until its drain is overdue.
async fn supervise(config: Config, readiness: Readiness, drain: Drain) -> anyhow::Result<()> {
    // A task of its own, so that a panic is an error here and telemetry is still flushed.
    let mut engine = tokio::spawn(engine::run(config, readiness, drain.clone()));
    tokio::select! {
        outcome = &mut engine => match outcome {
            Ok(Ok(())) if drain.has_begun() => Ok(()),
            Ok(Ok(())) => bail!("the engine ended though nothing asked it to"),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(panic).context("the engine panicked"),
        },
        () = drain.overdue(DRAIN_GRACE) => {
            engine.abort();
            bail!("the drain didn't end in time; leases of running deployments will expire, and other workers go on")
        }
    }
}
