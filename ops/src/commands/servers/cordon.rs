//! `slipway servers cordon` and `uncordon`: whether a server gets new projects.

use clap::Args;
use serde_json::json;
use slipway_protocol::names::ServerHandle;

use super::unknown_server::unknown_server;
use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct CordonArgs {
    /// The server's name
    handle: ServerHandle,

    #[command(flatten)]
    record: RecordArgs,
}

pub(super) async fn run(
    args: &CordonArgs,
    cordoned: bool,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let handle = &args.handle;
    let changed = database.store.cordon_server(handle, cordoned, &args.record.to_operator()).await;
    let Some(changed) = changed.map_err(|e| database.cli_error(&e))? else { return Err(unknown_server(handle)) };
    if printer.is_json() {
        printer.json(&json!({ "handle": handle, "cordoned": cordoned, "changed": changed }));
        return Ok(CommandExit::Success);
    }
    printer.message(&match (cordoned, changed) {
        (true, true) => {
            format!(
                "Cordoned {handle}: it gets no new projects, unless a request names it; the ones that live there go on being \
                 deployed"
            )
        }
        (true, false) => format!("{handle} was cordoned already"),
        (false, true) => format!("Uncordoned {handle}: it gets new projects again"),
        (false, false) => format!("{handle} wasn't cordoned"),
    });
    Ok(CommandExit::Success)
}
