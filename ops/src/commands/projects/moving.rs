//! `slipway projects move`: a project goes to another server, as by an event of the orchestrator's.

use clap::Args;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, Correlation, EventType, MoveData, ProjectMove};
use slipway_worker::store::OperatorAction;

use crate::commands::lifecycle::{LifecycleArgs, LifecycleCommand};
use crate::connect::settings::ConnectionSettings;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    command: LifecycleArgs,

    /// The server that it goes to; Slipway chooses one when left out
    #[arg(long, value_name = "HANDLE")]
    to: Option<ServerHandle>,

    #[command(flatten)]
    data: MoveDataArgs,
}

/// What becomes of data.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct MoveDataArgs {
    /// What becomes of data in volumes: refuse, and a project that has some isn't moved; or copy, and it's stopped while they
    /// are copied
    #[arg(long, value_name = "WAY", default_value = "refuse")]
    pub(crate) data: MoveData,
}

pub(super) async fn run(
    args: MoveArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let target = LifecycleCommand::new(&args.command, Action::Move, settings).await?;
    let (project, server, reason, sequence) = target.event_fields();
    let (to, data, correlation) = (args.to.clone(), args.data.data, Correlation::new());
    let data = ProjectMove { project, server, to, data, reason, sequence, expires_at: None, correlation };
    target.publish(OperatorAction::Move, EventType::ProjectMove, data, printer).await
}
