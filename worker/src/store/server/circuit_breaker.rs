//! The servers' circuits as they are stored; what opens and closes them is decided in [`crate::scheduler`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::names::ServerHandle;
use tokio_postgres::Row;

use crate::scheduler::{Circuit, CircuitState};
use crate::store::connection::client::Statements;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::{number, readable};
use crate::store::connection::wakeups;
use crate::store::{Result, Store};

impl Store {
    /// The servers to which the last connection failed, and whom their circuits let through now.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn circuits(&self) -> Result<BTreeMap<ServerHandle, (Circuit, CircuitState)>> {
        deadline(async {
            let client = self.client().await?;
            let now: Timestamp = client.query_one("SELECT now()", &[]).await?.get(0);
            let circuits = read_circuits(&client).await?.into_iter();
            let read = |(server, circuit): (String, Circuit)| {
                Ok((
                    readable("server_circuits", "server", ServerHandle::new(server))?,
                    (circuit, circuit.state_at(now)),
                ))
            };
            circuits.map(read).collect()
        })
        .await
    }
}

impl Store {
    /// Closes a server's circuit, since a connection was made: what waits for the server goes on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_reachable(&self, server: &ServerHandle) -> Result<()> {
        deadline(async { close_circuit(&self.client().await?, server).await }).await
    }
}

/// All circuits, by the server's handle.
pub(in crate::store) async fn read_circuits(client: &impl Statements) -> Result<BTreeMap<String, Circuit>> {
    let rows = client.rows("SELECT server, failures, since, open_until FROM server_circuits", &[]).await?;
    Ok(rows.iter().map(|row| (row.get("server"), circuit(row))).collect())
}

pub(in crate::store) fn circuit(row: &Row) -> Circuit {
    Circuit { failures: number(row, "failures"), since: row.get("since"), open_until: row.get("open_until") }
}

/// Closes the circuit after a connection was made: failures before it are forgotten, and who waits may go on.
pub(in crate::store) async fn close_circuit(client: &impl Statements, server: &ServerHandle) -> Result<()> {
    let forgotten = "DELETE FROM server_circuits WHERE server = $1 RETURNING open_until IS NOT NULL";
    let row = client.row(forgotten, &[&server.as_str()]).await?;
    if row.is_some_and(|row| row.get(0)) {
        tracing::info!(server.handle = %server, "the server's circuit is closed");
        client.row("SELECT pg_notify($1, '')", &[&wakeups::DEPLOYMENTS]).await?;
    }
    Ok(())
}

/// Counts a failure to connect, if it is `new`. Returns how long the circuit is open from now, if it is.
pub(in crate::store) async fn record_connection_failure(
    tx: &StoreTransaction<'_>,
    server: &ServerHandle,
    new: bool,
) -> Result<Option<Duration>> {
    if new {
        // The first of two that fail at once makes the row, and each changes it under its lock.
        tx.execute(
            "INSERT INTO server_circuits (server, failures, since) VALUES ($1, 0, now()) ON CONFLICT DO NOTHING",
            &[&server.as_str()],
        )
        .await?;
    }
    let locked = "SELECT failures, since, open_until, clock_timestamp() AS now, random() AS luck
                  FROM server_circuits WHERE server = $1 FOR UPDATE";
    let Some(row) = tx.query_opt(locked, &[&server.as_str()]).await? else { return Ok(None) };
    let (known, now) = (circuit(&row), row.get::<_, Timestamp>("now"));
    let circuit = if new { Circuit::failed(Some(known), now, row.get("luck")) } else { known };
    if circuit != known {
        tx.execute(
            "UPDATE server_circuits SET failures = $2, since = $3, open_until = $4 WHERE server = $1",
            &[
                &server.as_str(),
                &i32::try_from(circuit.failures).unwrap_or(i32::MAX),
                &circuit.since,
                &circuit.open_until,
            ],
        )
        .await?;
    }
    let CircuitState::Open(until) = circuit.state_at(now) else { return Ok(None) };
    if circuit != known {
        tracing::warn!(
            server.handle = %server,
            circuit.failures = circuit.failures,
            circuit.open_until = %until,
            "the server can't be reached: its circuit is open, and its deployments wait"
        );
    }
    Ok(Duration::try_from(until.duration_since(now)).ok())
}
