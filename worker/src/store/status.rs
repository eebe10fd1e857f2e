//! How things stand, in a few numbers, and the workers' signs of life.

use std::time::Duration;

use jiff::Timestamp;

use super::{Result, Store, deadline};

/// A worker and its latest sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSeen {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it has been silent, by the database's clock.
    pub silent: Duration,
}

/// What waits and what runs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StatusCounts {
    /// Deployments that wait, those between two attempts included.
    pub pending: u64,
    /// How long the oldest of those that are due has waited for a worker; zero when none is due.
    pub oldest_due: Duration,
    /// Deployments that run.
    pub running: u64,
    /// Dead letters that nobody has dealt with.
    pub open_dead_letters: u64,
}

impl Store {
    /// Gives a sign of life of this process, of version `version`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sign_on(&self, version: &str) -> Result<()> {
        deadline(async {
            let client = self.client().await?;
            let sql = "INSERT INTO workers (name, version) VALUES ($1, $2)
                       ON CONFLICT (name) DO UPDATE SET version = $2, seen_at = now()";
            client.execute(sql, &[&self.name, &version]).await?;
            Ok(())
        })
        .await
    }

    /// Removes this process from those that live.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sign_off(&self) -> Result<()> {
        deadline(async {
            self.client().await?.execute("DELETE FROM workers WHERE name = $1", &[&self.name]).await?;
            Ok(())
        })
        .await
    }

    /// Forgets workers that have been silent for longer than `age`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_workers(&self, age: Duration) -> Result<u64> {
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
                silent: span(row.get(3)),
            };
            Ok(rows.iter().map(worker).collect())
        })
        .await
    }

    /// What waits and what runs.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn counts(&self) -> Result<StatusCounts> {
        deadline(async {
            let sql = "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'running'),
                           coalesce(extract(epoch FROM now() - min(greatest(run_at, accepted_at))
                               FILTER (WHERE state = 'pending' AND run_at <= now())), 0)::float8,
                           (SELECT count(*) FROM dead_letters WHERE state = 'open')
                       FROM deployments WHERE state IN ('pending', 'running')";
            let row = self.client().await?.query_one(sql, &[]).await?;
            let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
            Ok(StatusCounts {
                pending: count(0),
                running: count(1),
                oldest_due: span(row.get(2)),
                open_dead_letters: count(3),
            })
        })
        .await
    }
}

/// Seconds as the database counts them; its clock may have been set back.
fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
