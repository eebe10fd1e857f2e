//! The worker's process: configuration, telemetry, admin server, engine, and the way out. What it does between start
//! and end is the library's matter.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use slipway_worker::admin::{AdminServer, LivenessProbe};
use slipway_worker::cli::{self, WorkerCommand};
use slipway_worker::config::Config;
use slipway_worker::lifecycle::{self, Drain, exit};
use slipway_worker::readiness::Readiness;
use slipway_worker::{engine, telemetry};
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

/// How long after the drain's deadline the engine may take to flush and let go.
const GRACE: Duration = Duration::from_secs(2);
/// How long the last telemetry may take; a collector that is down costs no more.
const TELEMETRY_FLUSH: Duration = Duration::from_secs(1);
/// How long the event loop may stand still before `/healthz` says so.
const STUCK_AFTER: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let command = match WorkerCommand::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(unknown) => return refuse(unknown),
    };
    match command {
        WorkerCommand::Help => cli::print(&cli::help()),
        WorkerCommand::Version => cli::print(&cli::version()),
        WorkerCommand::Check | WorkerCommand::Run => match Config::from_env() {
            Err(mistakes) => return refuse(mistakes),
            Ok(config) if command == WorkerCommand::Run => return start(config),
            Ok(config) => report_valid(&config),
        },
    }
    ExitCode::SUCCESS
}

fn refuse(why: impl std::fmt::Display) -> ExitCode {
    cli::complain(why);
    ExitCode::from(exit::USAGE)
}

fn report_valid(config: &Config) {
    for warning in &config.warnings {
        cli::warn(warning);
    }
    cli::print("the configuration is valid");
}

/// Telemetry spans the whole life of the event loop: its exporters must neither start nor end on it.
fn start(config: Config) -> ExitCode {
    let guard = match telemetry::init(&config.telemetry) {
        Ok(guard) => guard,
        Err(error) => {
            cli::complain(format!("{error:#}"));
            return ExitCode::from(exit::INTERNAL);
        }
    };
    log_panics();
    let code = match work(config) {
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

/// A panic is a line of the log like any other, and not raw text that no log pipeline reads.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        error!(panic = panic.payload_as_str(), place, "panicked; this is a mistake in Slipway");
    }));
}

fn work(config: Config) -> anyhow::Result<()> {
    let drain = Drain::new(config.worker.drain_timeout);
    lifecycle::drain_on_signals(drain.clone()).context("can't handle signals")?;
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
    let heartbeat = LivenessProbe::new(STUCK_AFTER);
    let admin = AdminServer::start(config.admin.address, readiness.clone(), heartbeat.clone())?;
    info!(address = %admin.address(), "admin server listening");
    let runtime = Runtime::new().context("can't start the event loop")?;
    runtime.spawn(heartbeat.keep());
    let outcome = runtime.block_on(supervise(config, readiness, drain));
    // Tasks that are left belong to work that was dropped; nothing is waited for twice.
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
            Err(panic) => Err(panic).context("the engine broke off"),
        },
        () = drain.overdue(GRACE) => {
            engine.abort();
            bail!("the drain didn't end in time; leases of running deployments will expire, and other workers go on")
        }
    }
}
