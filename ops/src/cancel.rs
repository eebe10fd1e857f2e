//! `slipway cancel`: straight into the database, so that it works while RabbitMQ is away. Who asked, when and why is
//! kept.

use clap::Args;
use serde_json::json;
use slipway_protocol::MAX_REASON;
use slipway_worker::store::{CancelRequest, State};

use crate::dead_letters::at_the_keyboard;
use crate::memory::Database;
use crate::print::Printer;
use crate::settings::ConnectionSettings;
use crate::trouble::{CliError, CommandExit};

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The deployment's id, or a beginning of it that no other has
    #[arg(value_name = "DEPLOYMENT")]
    id: String,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    why: Option<String>,

    /// Who asks for it, for the record; `user@host` when left out
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// One line that fits an event.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(format!("a reason must be one line of 1 to {MAX_REASON} printable characters"));
    }
    Ok(text.to_owned())
}

pub(crate) async fn run(
    args: CancelArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let memory = Database::new(settings)?;
    let id = memory.find(&args.id).await?;
    let who = args.by.unwrap_or_else(at_the_keyboard);
    let wish = CancelRequest::of_operator(id, &who, args.why);
    let met = memory.store.request_cancel(&wish).await.map_err(|e| memory.trouble(&e))?;
    let Some(was) = met.found else { return Err(CliError::usage(format!("there is no deployment {id}"))) };
    if was.is_terminal() {
        return Err(CliError::new(CommandExit::Failed, format!("deployment {id} has ended already: {was}")));
    }
    if printer.is_json() {
        printer.json(&json!({ "deployment_id": id, "was": was.as_str(), "cancel_requested": true }));
    } else if was == State::Pending {
        printer.note(&format!("Cancelled {id}, which hadn't begun"));
    } else {
        printer.note(&format!("Asked {id} to stop; what served before goes on serving"));
    }
    Ok(CommandExit::Success)
}
