//! `slipway cancel`: the request is written into the database, so that it works while RabbitMQ is away. Who asked, when
//! and why is recorded there.

use clap::Args;
use serde_json::json;
use slipway_worker::store::{CancelRequest, State};

use crate::commands::arguments::parse_reason;
use crate::commands::operator::user_at_host;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The deployment's id, or a beginning of it that no other has
    #[arg(value_name = "DEPLOYMENT")]
    id: String,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    why: Option<String>,

    /// Who asks for it, for the record; `user@host` when left out
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(crate) async fn run(
    args: CancelArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    let id = database.find_deployment(&args.id).await?;
    let who = args.by.unwrap_or_else(user_at_host);
    let request = CancelRequest::of_operator(id, &who, args.why);
    let outcome = database.store.request_cancel(&request).await.map_err(|e| database.cli_error(&e))?;
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
