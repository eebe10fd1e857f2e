//! The workers' heartbeats: who lives, and for how long each has been silent.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::duration;
use crate::store::{Result, Store};

/// A worker and its latest heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSeen {
    /// The worker's name, unique among all workers.
    pub name: String,
    /// The version that it announced with its latest heartbeat.
    pub version: String,
    /// When its row was made, with its first heartbeat; a row that outlives a crash keeps this time.
    pub started_at: Timestamp,
    /// How long it has been silent, by the database's clock.
    pub silent: Duration,
}

impl Store {
    /// Writes a heartbeat of this process, which is of version `version`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_heartbeat(&self, version: &str) -> Result<()> {
        deadline(async {
            let client = self.client().await?;
            let sql = "INSERT INTO workers (name, version) VALUES ($1, $2)
                       ON CONFLICT (name) DO UPDATE SET version = $2, seen_at = now()";
            client.execute(sql, &[&self.name, &version]).await?;
            Ok(())
        })
        .await
    }

    /// Removes the heartbeat of this process, which stops.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_heartbeat(&self) -> Result<()> {
        deadline(async {
            self.client().await?.execute("DELETE FROM workers WHERE name = $1", &[&self.name]).await?;
            Ok(())
        })
        .await
    }

    /// Removes workers that have been silent for longer than `age`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_workers(&self, age: Duration) -> Result<u64> {
        deadline(async {
            let client = self.client().await?;
            let sql = "DELETE FROM workers WHERE seen_at < now() - $1 * interval '1 second'";
            Ok(client.execute(sql, &[&age.as_secs_f64()]).await?)
        })
        .await
    }

    /// The workers, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn workers(&self) -> Result<Vec<WorkerSeen>> {
        deadline(async {
            let sql = "SELECT name, version, started_at, extract(epoch FROM now() - seen_at)::float8
                       FROM workers ORDER BY name";
            let rows = self.client().await?.query(sql, &[]).await?;
            let worker = |row: &tokio_postgres::Row| WorkerSeen {
                name: row.get(0),
                version: row.get(1),
                started_at: row.get(2),
                silent: duration(row.get(3)),
            };
            Ok(rows.iter().map(worker).collect())
        })
        .await
    }
}
