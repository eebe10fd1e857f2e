//! `slipway servers list`: the inventory, how the last connections went, and how much room there is.

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_worker::scheduler::{Circuit, CircuitState};
use slipway_worker::store::ServerRecord;

use super::json::server_json;
use super::room::{room_json, room_table};
use crate::commands::front_doors::describe_choice;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::format_time;
use crate::terminal::print::{Printer, Table};

pub(super) async fn run(database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let servers = database.store.servers().await.map_err(|e| database.cli_error(&e))?;
    let circuits = database.store.circuits().await.map_err(|e| database.cli_error(&e))?;
    let rooms = database.store.server_rooms().await.map_err(|e| database.cli_error(&e))?;
    let availability = database.store.server_availability().await.map_err(|e| database.cli_error(&e))?;
    let now = Timestamp::now();
    if printer.is_json() {
        let with_circuit = |server: &ServerRecord| {
            let mut value = server_json(server);
            value["circuit"] = circuits.get(&server.handle).map_or(Value::Null, circuit_json);
            let room = rooms.iter().find(|room| room.server == server.handle);
            value["room"] = room_json(room, availability.iter().find(|of| of.server == server.handle), now);
            value
        };
        printer.json(&servers.iter().map(with_circuit).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let mut table =
        Table::new(&["SERVER", "ADDRESS", "PORT", "USER", "HOST KEY", "SSH KEY", "FRONT DOOR", "CONNECTION", "NOTE"]);
    for s in &servers {
        table.row([
            s.handle.to_string(),
            s.address.to_string(),
            s.ssh_port.to_string(),
            s.ssh_user.to_string(),
            describe_host_key(s).to_owned(),
            describe_ssh_key(s).to_owned(),
            describe_choice(s.front_door).to_owned(),
            describe_connection(circuits.get(&s.handle)),
            s.notes.clone().unwrap_or_default(),
        ]);
    }
    printer.table(&table);
    if !table.is_empty() {
        printer.line("");
        printer.table(&room_table(&rooms, &availability, now));
    }
    // Servers that only events name have connections, too.
    for (handle, circuit) in circuits.iter().filter(|(handle, _)| servers.iter().all(|s| s.handle != **handle)) {
        printer.message(&format!("{handle}, which isn't in the inventory: {}", describe_connection(Some(circuit))));
    }
    if circuits.values().any(|(_, gate)| *gate != CircuitState::Closed) {
        printer.hint(
            "deployments wait for a server that fails, and one at a time tries to connect; `slipway servers check` tries \
             at once, and `slipway servers add` lets all through again",
        );
    }
    if table.is_empty() {
        printer.message("The inventory is empty");
        printer.hint("add a server with `slipway servers add HANDLE --address HOST --host-key KEY`");
    }
    Ok(CommandExit::Success)
}

fn describe_host_key(server: &ServerRecord) -> &'static str {
    match (&server.host_key, server.trust_on_first_use) {
        (Some(_), _) => "pinned",
        (None, true) => "trusted on first use",
        (None, false) => "unknown",
    }
}

fn describe_ssh_key(server: &ServerRecord) -> &'static str {
    if server.ssh_key_enc.is_some() { "its own" } else { "the workers'" }
}

/// How the last connections went.
fn describe_connection(circuit: Option<&(Circuit, CircuitState)>) -> String {
    match circuit {
        None => "-".to_owned(),
        Some((circuit, CircuitState::Closed)) => format!("{} failed", circuit.failures),
        Some((circuit, CircuitState::Open(until))) => {
            format!("{} failed, none before {}", circuit.failures, format_time(*until))
        }
        Some((circuit, CircuitState::HalfOpen)) => format!("{} failed, one may try", circuit.failures),
    }
}

fn circuit_json((circuit, gate): &(Circuit, CircuitState)) -> Value {
    let state = match gate {
        CircuitState::Closed => "closed",
        CircuitState::Open(_) => "open",
        CircuitState::HalfOpen => "half_open",
    };
    json!({
        "state": state,
        "failures": circuit.failures,
        "since": circuit.since,
        "open_until": circuit.open_until,
    })
}
