//! A server that the inventory doesn't have, as every command about servers tells it.

use slipway_protocol::names::ServerHandle;

use crate::terminal::error::CliError;

pub(crate) fn unknown_server(handle: &ServerHandle) -> CliError {
    CliError::usage(format!("{handle} isn't in the inventory")).hint("`slipway servers list` shows it")
}
