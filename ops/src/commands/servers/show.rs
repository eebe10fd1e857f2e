//! `slipway servers show`: all that is known of one server of the inventory, and of its front door as it was seen last.

use jiff::Timestamp;
use serde_json::Value;
use slipway_protocol::names::ServerHandle;

use super::json::server_json;
use crate::commands::front_doors::{describe_choice, door_json, print_door};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::text_or_dash;
use crate::terminal::print::{Printer, Table};

pub(super) async fn run(
    handle: &ServerHandle,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let failed = |e| database.cli_error(&e);
    let Some(server) = database.store.server(handle).await.map_err(failed)? else {
        return Err(CliError::usage(format!("{handle} isn't in the inventory")).hint("`slipway servers list` shows it"));
    };
    let door = database.store.front_door(handle).await.map_err(failed)?;
    let now = Timestamp::now();
    if printer.is_json() {
        let mut value = server_json(&server);
        value["front_door_seen"] = door.as_ref().map_or(Value::Null, |door| door_json(door, now));
        printer.json(&value);
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["SERVER", &handle.to_string()]);
    let host_key = server.host_key.as_ref().map(ToString::to_string);
    for (name, value) in [
        ("address", server.address.to_string()),
        ("SSH port", server.ssh_port.to_string()),
        ("SSH user", server.ssh_user.to_string()),
        (
            "host key",
            host_key.unwrap_or_else(|| {
                if server.trust_on_first_use { "the first one that it shows" } else { "unknown" }.to_owned()
            }),
        ),
        ("SSH key", if server.ssh_key_enc.is_some() { "its own" } else { "the workers'" }.to_owned()),
        ("front door", describe_choice(server.front_door).to_owned()),
        ("note", text_or_dash(server.notes.as_deref())),
    ] {
        table.row([name.to_owned(), value]);
    }
    printer.table(&table);
    match door {
        Some(door) => {
            printer.line("");
            print_door(&door, now, printer);
        }
        None => printer.message("No front door was seen there yet"),
    }
    Ok(CommandExit::Success)
}
