//! `slipway servers remove`: a server leaves the inventory, and with it all that is known of how to log in to it.

use clap::Args;
use serde_json::json;
use slipway_protocol::names::ServerHandle;
use slipway_worker::store::{Owned, OwnedThing};

use super::unknown_server::unknown_server;
use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The server's name
    handle: ServerHandle,

    /// Remove it though projects live there, as for a machine that is lost; needs --why
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    record: RecordArgs,
}

pub(super) async fn run(args: &RemoveArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let handle = &args.handle;
    let living = database.store.projects_on(handle).await.map_err(|e| database.cli_error(&e))?;
    if !living.is_empty() && !args.force {
        return Err(CliError::new(CommandExit::Failed, format!("projects live on {handle} ({})", living.len()))
            .details(living)
            .hint(format!(
                "`slipway servers drain {handle}` moves them to others, `slipway undeploy` takes one off; where the machine is \
                 lost, give --force and --why"
            )));
    }
    let owned = database.store.owned().await.map_err(|e| database.cli_error(&e))?;
    let there = |owned: &&Owned| matches!(&owned.thing, OwnedThing::Slug { server, .. } if server == handle);
    let operator = match living.len().max(owned.iter().filter(there).count()) {
        0 => args.record.to_operator(),
        projects => args.record.require_reason(&format!("removing {handle}, which has projects ({projects}),"))?,
    };
    let removed = database.store.remove_server(handle, &living, &operator).await;
    if !removed.map_err(|e| database.cli_error(&e))? {
        return Err(unknown_server(handle));
    }
    if printer.is_json() {
        printer.json(&json!({ "handle": handle, "removed": true, "projects": living }));
    } else {
        printer.message(&format!("Removed {handle} from the inventory; what runs on it stays"));
        if !living.is_empty() {
            printer.hint(&format!(
                "`slipway audit {handle}` keeps what was known of it, its host key and these projects: {}",
                living.join(", ")
            ));
        }
    }
    Ok(CommandExit::Success)
}
