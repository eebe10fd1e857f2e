//! What was seen of the servers, with its age, and whose turn it is to be asked. Any worker may ask any server.

use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::ServerMeasurement;
use slipway_protocol::names::ServerHandle;
use tokio_postgres::Row;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{readable, seconds};
use crate::store::placement::signed;
use crate::store::server::inventory::{COLUMNS, ServerRecord, record};
use crate::store::{Result, Store};

/// A server that is to be asked, and since when that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerToAsk {
    /// How to log in to it.
    pub server: ServerRecord,
    /// When it was claimed; what has happened there since isn't necessarily seen.
    pub at: Timestamp,
}

/// What is known of a server's room, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerRoom {
    /// Which server.
    pub server: ServerHandle,
    /// What was seen last; absent where nothing was.
    pub facts: Option<ServerMeasurement>,
    /// When that was.
    pub seen_at: Option<Timestamp>,
    /// Since when it couldn't be asked, and why, where nobody could since.
    pub problem: Option<(Timestamp, String)>,
    /// Projects that live there.
    pub projects: u32,
    /// How many projects it may have, where operators said so.
    pub project_limit: Option<u32>,
    /// Ports that are set aside for what is being deployed.
    pub reserved_ports: u32,
}

impl Store {
    /// Takes the servers that are due to be asked, `most` at most; each is due again after `interval`.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn servers_to_ask(&self, most: i64, interval: Duration) -> Result<Vec<ServerToAsk>> {
        deadline(async {
            let sql = format!(
                "WITH due AS (
                     SELECT server FROM server_facts WHERE ask_at <= now() ORDER BY ask_at LIMIT $1 FOR UPDATE SKIP LOCKED),
                 taken AS (
                     UPDATE server_facts f SET ask_at = now() + $2 * interval '1 second' FROM due
                     WHERE f.server = due.server RETURNING f.server)
                 SELECT {COLUMNS}, now() AS at FROM servers s JOIN taken t ON t.server = s.handle ORDER BY handle"
            );
            let client = self.client().await?;
            let rows = client.query(&sql, &[&most, &seconds(interval)]).await?;
            let to_ask = |row: &Row| Ok(ServerToAsk { server: record(row)?, at: row.get("at") });
            rows.iter().map(to_ask).collect()
        })
        .await
    }

    /// Notes what was seen of a server that was asked at `at`, or why it couldn't be asked. What succeeded there before isn't set
    /// aside any more: it's among what was seen.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_server_facts(
        &self,
        server: &ServerHandle,
        at: Timestamp,
        seen: std::result::Result<&ServerMeasurement, &str>,
    ) -> Result<()> {
        deadline(async {
            let client = self.client().await?;
            let facts = match seen {
                Ok(facts) => facts,
                Err(problem) => {
                    let sql = "UPDATE server_facts SET problem = $2, problem_at = coalesce(problem_at, now())
                               WHERE server = $1";
                    client.execute(sql, &[&server.as_str(), &problem]).await?;
                    return Ok(());
                }
            };
            let sql = "WITH seen AS (
                           UPDATE server_facts SET seen_at = $2, ram_mb = $3, free_ram_mb = $4, disk_mb = $5, free_disk_mb = $6,
                               free_inodes = $7, cpus = $8, load = $9, project_directories = $10, docker_mb = $11, ports = $12,
                               unfit = $13, problem = NULL, problem_at = NULL
                           WHERE server = $1 AND (seen_at IS NULL OR seen_at <= $2) RETURNING server)
                       DELETE FROM reservations r USING seen WHERE r.server = seen.server AND r.succeeded_at < $2";
            let ports: Vec<i32> = facts.ports.iter().map(|port| i32::from(*port)).collect();
            #[expect(clippy::cast_possible_truncation, reason = "a load has few digits")]
            let load = facts.load as f32;
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 13] = [
                &server.as_str(),
                &at,
                &signed(facts.ram_mb),
                &signed(facts.free_ram_mb),
                &signed(facts.disk_mb),
                &signed(facts.free_disk_mb),
                &facts.free_inodes.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
                &signed(facts.cpus),
                &load,
                &signed(facts.projects),
                &facts.docker_mb.map(signed),
                &ports,
                &facts.unfit,
            ];
            client.execute(sql, &values).await?;
            Ok(())
        })
        .await
    }

    /// Notes what a stage has told of the server.
    pub(in crate::store) async fn heed_facts(
        &self,
        server: &ServerHandle,
        facts: &serde_json::Map<String, serde_json::Value>,
    ) {
        self.heed_front_door(server, Ok(facts)).await;
        self.heed_preflight(server, facts).await;
    }

    /// Notes the memory and the disk that a deployment's preflight found free, where the server was asked before. That this
    /// can't be written holds no deployment up.
    async fn heed_preflight(&self, server: &ServerHandle, facts: &serde_json::Map<String, serde_json::Value>) {
        let mib = |name: &str| {
            let kib = facts.get(name).and_then(serde_json::Value::as_u64);
            kib.map(|kib| i32::try_from(kib / 1024).unwrap_or(i32::MAX))
        };
        let (Some(ram), Some(disk)) = (mib("memory_available_kb"), mib("disk_free_kb")) else { return };
        let written = deadline(async {
            // What was seen just now isn't written again, and it tells nothing of the time before.
            let sql = "UPDATE server_facts SET free_ram_mb = $2, free_disk_mb = $3
                       WHERE server = $1 AND seen_at < now() - interval '5 seconds'";
            self.client().await?.execute(sql, &[&server.as_str(), &ram, &disk]).await?;
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::warn!(server.handle = %server, "what preflight saw of the server's room isn't noted: {error}");
        }
    }

    /// What is known of the room of all servers, by their names.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn server_rooms(&self) -> Result<Vec<ServerRoom>> {
        deadline(async {
            let sql = "SELECT f.*, s.project_limit,
                           (SELECT count(*)::integer FROM project_places p
                            WHERE p.server = f.server AND p.succeeded > coalesce(p.undeployed, 0)) AS projects,
                           (SELECT count(*)::integer FROM reserved_ports r WHERE r.server = f.server) AS reserved_ports
                       FROM server_facts f JOIN servers s ON s.handle = f.server ORDER BY f.server";
            self.client().await?.query(sql, &[]).await?.iter().map(room).collect()
        })
        .await
    }
}

fn room(row: &Row) -> Result<ServerRoom> {
    let count = |column: &str| row.get::<_, Option<i32>>(column).and_then(|n| u32::try_from(n).ok());
    let facts = || {
        Some(ServerMeasurement {
            ram_mb: count("ram_mb")?,
            free_ram_mb: count("free_ram_mb")?,
            disk_mb: count("disk_mb")?,
            free_disk_mb: count("free_disk_mb")?,
            free_inodes: row.get::<_, Option<i64>>("free_inodes").and_then(|n| u64::try_from(n).ok()),
            cpus: count("cpus")?,
            load: f64::from(row.get::<_, Option<f32>>("load")?),
            projects: count("project_directories")?,
            docker_mb: count("docker_mb"),
            ports: crate::store::placement::port_set(row.get("ports")),
            unfit: row.get("unfit"),
        })
    };
    let since: Option<Timestamp> = row.get("problem_at");
    Ok(ServerRoom {
        server: readable("server_facts", "server", ServerHandle::new(row.get::<_, String>("server")))?,
        facts: facts(),
        seen_at: row.get("seen_at"),
        problem: since.zip(row.get("problem")),
        projects: count("projects").unwrap_or_default(),
        project_limit: count("project_limit"),
        reserved_ports: count("reserved_ports").unwrap_or_default(),
    })
}
