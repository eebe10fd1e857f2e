//! The part of `slipway status` about servers that can't be reached.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_protocol::names::ServerHandle;
use slipway_worker::scheduler::{Circuit, CircuitState};

use crate::commands::status_parts::format_age;
use crate::terminal::format::millis_between;

/// The servers to which the last connection failed.
pub(crate) type Circuits = BTreeMap<ServerHandle, (Circuit, CircuitState)>;

/// Servers that nobody is let through to, or one attempt at a time: their deployments wait.
pub(crate) fn circuit_problems(circuits: &Circuits, now: Timestamp) -> Vec<String> {
    let open = circuits.iter().filter(|(_, (_, state))| !matches!(state, CircuitState::Closed));
    let problem = |(server, (circuit, _)): (&ServerHandle, &(Circuit, CircuitState))| {
        let since = format_age(Duration::from_millis(millis_between(circuit.since, now)));
        format!(
            "server {server} can't be reached for {since} ({} connections failed), and its deployments wait: run `slipway \
             servers check {server}`",
            circuit.failures
        )
    };
    open.map(problem).collect()
}

pub(crate) fn circuits_json(circuits: &Circuits) -> Value {
    let circuit = |(server, (circuit, state)): (&ServerHandle, &(Circuit, CircuitState))| {
        let state = match state {
            CircuitState::Closed => "closed",
            CircuitState::Open(_) => "open",
            CircuitState::HalfOpen => "half_open",
        };
        json!({
            "server": server, "state": state, "failures": circuit.failures, "since": circuit.since,
            "open_until": circuit.open_until,
        })
    };
    circuits.iter().map(circuit).collect()
}
