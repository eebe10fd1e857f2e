#![doc = include_str!("../README.md")]

mod cli;
mod commands;
mod connect;
mod notify;
mod terminal;

use std::process::ExitCode;

pub use cli::Cli;
use cli::Command;
use commands::{
    audit, cancel, dead_letters, deployments, events, explain, keys, lifecycle, notify as notify_command, outbox,
    pending, placement, plan, projects, pushes, servers, sources, status, submit, topology, watch, workers,
};
use terminal::error::{CliError, CommandExit};
use terminal::print::Printer;

/// Runs one command to its end; what it says is printed already.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let printer = Printer::new(cli.json);
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(CommandExit::Failed, format!("the asynchronous runtime can't start: {e}")))
        .and_then(|runtime| runtime.block_on(dispatch(cli, &printer)));
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            printer.error(&error);
            error.exit.into()
        }
    }
}

async fn dispatch(cli: Cli, printer: &Printer) -> Result<CommandExit, CliError> {
    let settings = &cli.settings;
    match cli.command {
        Command::Submit(args) => submit::run(*args, settings, printer).await,
        Command::Placement(command) => placement::run(command, settings, printer).await,
        Command::Plan(args) => plan::run(*args, settings, printer).await,
        Command::Watch(args) => watch::run(&args, settings, printer).await,
        Command::Cancel(args) => cancel::run(args, settings, printer).await,
        Command::Stop(args) => lifecycle::stop(args, settings, printer).await,
        Command::Start(args) => lifecycle::start(args, settings, printer).await,
        Command::Rollback(args) => lifecycle::rollback(args, settings, printer).await,
        Command::Undeploy(args) => lifecycle::undeploy(args, settings, printer).await,
        Command::Projects(command) => projects::run(command, settings, printer).await,
        Command::Pending => pending::run(settings, printer).await,
        Command::Pushes => pushes::run(settings, printer).await,
        Command::Status(args) => status::run(&args, settings, printer).await,
        Command::Deployments(command) => deployments::run(command, settings, printer).await,
        Command::Workers(command) => workers::run(command, settings, printer).await,
        Command::Servers(command) => servers::run(command, settings, printer).await,
        Command::Sources(command) => sources::run(command, settings, printer).await,
        Command::DeadLetters(command) => dead_letters::run(command, settings, printer).await,
        Command::Outbox(command) => outbox::run(command, settings, printer).await,
        Command::Events(command) => events::run(command, settings, printer).await,
        Command::Notify(args) => notify_command::run(&args, settings, printer).await,
        Command::Audit(args) => audit::run(args, settings, printer).await,
        Command::Topology(command) => topology::run(command, settings, printer).await,
        Command::Keys(command) => keys::run(&command, printer),
        Command::Explain(args) => explain::run(&args, printer),
    }
}
