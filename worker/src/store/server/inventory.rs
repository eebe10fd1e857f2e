//! The inventory: the servers that projects are deployed to, and how to log in to them.

use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName};
use tokio_postgres::Row;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record as record_action};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::server::circuit_breaker;
use crate::store::{Result, Store};

/// A server of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// The name by which events and operators refer to it.
    pub handle: ServerHandle,
    /// Where it answers.
    pub address: Host,
    /// The port of sshd.
    pub ssh_port: Port,
    /// The user that Slipway logs in as.
    pub ssh_user: UserName,
    /// Its pinned host key.
    pub host_key: Option<HostKey>,
    /// Whether the first host key shown is to be pinned, as long as none is.
    pub trust_on_first_use: bool,
    /// Its private SSH key, encrypted to the workers' age identity (armored); the mounted key where there is none.
    pub ssh_key_enc: Option<String>,
    /// What operators noted about it, its capacity for one.
    pub notes: Option<String>,
    /// Whether it has a front door; as the workers' setting says where nothing was said for this one.
    pub front_door: Option<bool>,
}

pub(in crate::store) const COLUMNS: &str =
    "handle, address, ssh_port, ssh_user, host_key, trust_on_first_use, ssh_key_enc, notes, front_door";

impl Store {
    /// The server `handle`, if the inventory has it.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn server(&self, handle: &ServerHandle) -> Result<Option<ServerRecord>> {
        deadline(async {
            let client = self.client().await?;
            let sql = format!("SELECT {COLUMNS} FROM servers WHERE handle = $1");
            client.query_opt(&sql, &[&handle.as_str()]).await?.as_ref().map(record).transpose()
        })
        .await
    }

    /// All servers, by name.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn servers(&self) -> Result<Vec<ServerRecord>> {
        deadline(async {
            let client = self.client().await?;
            let sql = format!("SELECT {COLUMNS} FROM servers ORDER BY handle");
            client.query(&sql, &[]).await?.iter().map(record).collect()
        })
        .await
    }

    /// Adds a server or replaces all that is known about it; the record tells what was changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_server(&self, server: &ServerRecord, operator: &Operator) -> Result<()> {
        deadline(async {
            let port = i32::from(server.ssh_port.get());
            let sql = format!(
                "INSERT INTO servers ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (handle) DO UPDATE SET address = $2, ssh_port = $3, ssh_user = $4, host_key = $5,
                     trust_on_first_use = $6, ssh_key_enc = $7, notes = $8, front_door = $9,
                     updated_at = now()"
            );
            let host_key = server.host_key.as_ref().map(HostKey::as_str);
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let details = changes(locked_server(&tx, &server.handle).await?.as_ref(), server);
            tx.execute(
                &sql,
                &[
                    &server.handle.as_str(),
                    &server.address.as_str(),
                    &port,
                    &server.ssh_user.as_str(),
                    &host_key,
                    &server.trust_on_first_use,
                    &server.ssh_key_enc,
                    &server.notes,
                    &server.front_door,
                ],
            )
            .await?;
            // The server may be reachable with its new data, so that no cool-down applies.
            circuit_breaker::close_circuit(&tx, &server.handle).await?;
            record_action(&tx, OperatorAction::AddServer, server.handle.as_str(), operator, &details).await?;
            commit(tx, TransactionKind::Operate).await
        })
        .await
    }

    /// Removes a server from the inventory; false when it wasn't there. What is deployed on it stays, and the record tells
    /// what was known of it, and which `projects` live there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_server(&self, handle: &ServerHandle, projects: &[String], operator: &Operator) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let known = locked_server(&tx, handle).await?;
            tx.execute("DELETE FROM servers WHERE handle = $1", &[&handle.as_str()]).await?;
            // Nobody asks it any more, so that nothing would free what succeeded there.
            let sql = "DELETE FROM reservations WHERE server = $1 AND succeeded_at IS NOT NULL";
            tx.execute(sql, &[&handle.as_str()]).await?;
            tx.execute("DELETE FROM front_doors WHERE server = $1", &[&handle.as_str()]).await?;
            circuit_breaker::close_circuit(&tx, handle).await?;
            if let Some(known) = &known {
                let details = json!({ "was": facts(known), "projects": projects });
                record_action(&tx, OperatorAction::RemoveServer, handle.as_str(), operator, &details).await?;
            }
            commit(tx, TransactionKind::Operate).await?;
            Ok(known.is_some())
        })
        .await
    }

    /// Pins the host key that a server showed first. A server that only the event described enters the inventory with
    /// it, so that the next deployment is held to this key. False when another key is pinned already. `operator`: who had
    /// it looked at; none when a deployment did.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pin_host_key(
        &self,
        server: &ServerRecord,
        key: &HostKey,
        operator: Option<&Operator>,
    ) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let pinned = tx
                .execute(
                    "INSERT INTO servers (handle, address, ssh_port, ssh_user, host_key) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (handle) DO UPDATE SET host_key = $5, updated_at = now()
                         WHERE servers.host_key IS NULL OR servers.host_key = $5",
                    &[
                        &server.handle.as_str(),
                        &server.address.as_str(),
                        &i32::from(server.ssh_port.get()),
                        &server.ssh_user.as_str(),
                        &key.as_str(),
                    ],
                )
                .await?;
            if let Some(operator) = operator.filter(|_| pinned == 1) {
                let details = json!({ "pinned": key.as_str() });
                record_action(&tx, OperatorAction::CheckServer, server.handle.as_str(), operator, &details).await?;
            }
            commit(tx, TransactionKind::Operate).await?;
            Ok(pinned == 1)
        })
        .await
    }
}

/// What is known of a server, before it's changed.
pub(in crate::store) async fn locked_server(
    tx: &StoreTransaction<'_>,
    handle: &ServerHandle,
) -> Result<Option<ServerRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM servers WHERE handle = $1 FOR UPDATE");
    tx.query_opt(&sql, &[&handle.as_str()]).await?.as_ref().map(record).transpose()
}

/// All that is known of a server; of its private key, the digest of what is stored encrypted.
fn facts(server: &ServerRecord) -> Map<String, Value> {
    let digest = |text: &String| HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    let facts = [
        ("address", json!(server.address.as_str())),
        ("ssh_port", json!(server.ssh_port.get())),
        ("ssh_user", json!(server.ssh_user.as_str())),
        ("host_key", json!(server.host_key.as_ref().map(HostKey::as_str))),
        ("trust_on_first_use", json!(server.trust_on_first_use)),
        ("ssh_key_sha256", json!(server.ssh_key_enc.as_ref().map(digest))),
        ("notes", json!(server.notes)),
        ("front_door", json!(server.front_door)),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What differs, as it was and as it is.
fn changes(before: Option<&ServerRecord>, after: &ServerRecord) -> Value {
    let Some(before) = before.map(facts) else { return json!({ "added": facts(after) }) };
    let differing = facts(after).into_iter().filter(|(name, value)| before.get(name) != Some(value));
    let changed: Map<String, Value> =
        differing.map(|(name, value)| (name.clone(), json!([before.get(&name), value]))).collect();
    json!({ "changed": changed })
}

pub(in crate::store) fn record(row: &Row) -> Result<ServerRecord> {
    let text = |column: &str| row.get::<_, String>(column);
    let port = u16::try_from(row.get::<_, i32>("ssh_port")).unwrap_or(0);
    Ok(ServerRecord {
        handle: readable("servers", "handle", ServerHandle::new(text("handle")))?,
        address: readable("servers", "address", Host::new(text("address")))?,
        ssh_port: readable("servers", "ssh_port", Port::new(port))?,
        ssh_user: readable("servers", "ssh_user", UserName::new(text("ssh_user")))?,
        host_key: readable(
            "servers",
            "host_key",
            row.get::<_, Option<String>>("host_key").map(HostKey::new).transpose(),
        )?,
        trust_on_first_use: row.get("trust_on_first_use"),
        ssh_key_enc: row.get("ssh_key_enc"),
        notes: row.get("notes"),
        front_door: row.get("front_door"),
    })
}
