//! `slipway cancel`: the request is written into the database, so that it works while RabbitMQ is away. Who asked, when
//! and why is recorded there.

use clap::Args;
use serde_json::json;
use slipway_worker::store::State;

use crate::commands::operator::RecordArgs;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The deployment's id, or a beginning of it that no other has
    #[arg(value_name = "DEPLOYMENT")]
    id: String,

    #[command(flatten)]
    record: RecordArgs,
}

pub(crate) async fn run(
    args: CancelArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    let id = database.find_deployment(&args.id).await?;
    let operator = args.record.to_operator();
    let outcome = database.store.cancel_by_operator(id, &operator).await.map_err(|e| database.cli_error(&e))?;
    let Some(was) = outcome.found else { return Err(CliError::usage(format!("there is no deployment {id}"))) };
    if was.is_terminal() {
        return Err(CliError::new(CommandExit::Failed, format!("deployment {id} has ended already: {was}")));
    }
    if printer.is_json() {
        printer.json(&json!({ "deployment_id": id, "was": was.as_str(), "cancel_requested": true }));
    } else if was == State::Pending {
        printer.message(&format!("Cancelled {id}, which hadn't begun"));
    } else {
        printer.message(&format!("Asked {id} to stop; what served before goes on serving"));
    }
    Ok(CommandExit::Success)
}
