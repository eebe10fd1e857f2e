//! The servers' circuits as they are stored; what opens and closes them is decided in [`crate::scheduler`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{DeploymentId, ErrorCode, Failure};
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{GenericClient, Row, Transaction};

use super::claims::seconds;
use super::ending::{AttemptSummary, DeploymentEnd};
use super::error::readable;
use super::ledger::{HEAD, LockedDeployment, first_readable, number};
use super::{Result, Store, StoreTransaction, commit, deadline, wakeups};
use crate::crash::TransactionKind;
use crate::scheduler::{Circuit, CircuitState, Limits, Load};

impl Store {
    /// The servers to which the last connection failed, and whom their circuits let through now.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn circuits(&self) -> Result<BTreeMap<ServerHandle, (Circuit, CircuitState)>> {
        deadline(async {
            let client = self.client().await?;
            let now: Timestamp = client.query_one("SELECT now()", &[]).await?.get(0);
            let circuits = all(&**client).await?.into_iter();
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

    /// Ends one deployment that has waited for a dead server for as long as `limits` allow: its result and its dead
    /// letter, as after its last attempt. `None` when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_up(&self, limits: &Limits) -> Result<Option<DeploymentId>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let now: Timestamp = tx.query_one("SELECT now()", &[]).await?.get(0);
            let load = Load { attempts: BTreeMap::new(), in_registry: 0, circuits: all(&**tx).await? };
            let servers = load.unreachable_servers(limits, now);
            if servers.is_empty() {
                return Ok(None);
            }
            let sql = format!(
                "SELECT {HEAD}, failure FROM deployments WHERE state = 'pending' AND id <> ALL ($1)
                   AND server = ANY ($2) AND accepted_at <= now() - $3 * interval '1 second'
                 ORDER BY arrival LIMIT 1 FOR UPDATE SKIP LOCKED"
            );
            let more: [&(dyn ToSql + Sync); 2] = [&servers, &seconds(limits.patience)];
            let Some((head, row)) = first_readable(&tx, &sql, &more).await? else { return Ok(None) };
            let last = row.try_get::<_, Option<Json<Failure>>>("failure").ok().flatten().map(|Json(failure)| failure);
            let mut ledger = LockedDeployment { tx: &tx, head };
            let id = ledger.head.id;
            let end =
                DeploymentEnd::Failed { failure: unreachable(limits, last), missing_secret: None, reason: "exhausted" };
            ledger.finish(self, &end, &AttemptSummary::default()).await?;
            commit(tx, TransactionKind::GiveUp).await?;
            Ok(Some(id))
        })
        .await
    }
}

/// What a deployment fails with that has waited in vain; `last` is why its own last attempt failed, if it made one.
fn unreachable(limits: &Limits, last: Option<Failure>) -> Failure {
    let waited = format!("the server couldn't be reached for {} s or longer", limits.patience.as_secs());
    match last.filter(|failure| failure.code.is_connection_failure()) {
        Some(last) => {
            let message = format!("{waited}; the last attempt: {}", last.message);
            Failure { tail: last.tail, ..Failure::new(ErrorCode::ServerUnreachable, last.stage, message) }
        }
        None => Failure::new(ErrorCode::ServerUnreachable, None, waited),
    }
}

/// All circuits, by the server's handle.
pub(super) async fn all(client: &impl GenericClient) -> Result<BTreeMap<String, Circuit>> {
    let rows = client.query("SELECT server, failures, since, open_until FROM server_circuits", &[]).await?;
    Ok(rows.iter().map(|row| (row.get("server"), circuit(row))).collect())
}

fn circuit(row: &Row) -> Circuit {
    Circuit { failures: number(row, "failures"), since: row.get("since"), open_until: row.get("open_until") }
}

/// Notes that a connection was made: whatever failed before is forgotten, and who waits may go on.
pub(super) async fn contact_made(client: &impl GenericClient, server: &ServerHandle) -> Result<()> {
    let forgotten = "DELETE FROM server_circuits WHERE server = $1 RETURNING open_until IS NOT NULL";
    let row = client.query_opt(forgotten, &[&server.as_str()]).await?;
    if row.is_some_and(|row| row.get(0)) {
        tracing::info!(server.handle = %server, "the server's circuit is closed");
        client.execute("SELECT pg_notify($1, '')", &[&wakeups::DEPLOYMENTS]).await?;
    }
    Ok(())
}

/// Notes that no connection could be made, if that is `new`. Gives how long the circuit is open from now, if it is.
pub(super) async fn contact_failed(tx: &Transaction<'_>, server: &ServerHandle, new: bool) -> Result<Option<Duration>> {
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
