//! Who prunes, and how far that has come. Both are rows, since a lock of a session would be lost behind a pooler.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::Json;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::seconds;
use crate::store::{Result, Store};

/// How far a chore has come.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoreProgress {
    /// Its name, such as `deployments`.
    pub name: String,
    /// Whether a pass is under way.
    pub under_way: bool,
    /// How many rows it has changed or removed so far.
    pub changed: u64,
    /// How many the last pass changed or removed that ended.
    pub last_changed: Option<u64>,
    /// When that was.
    pub ended_at: Option<Timestamp>,
    /// Why it can't go on.
    pub problem: Option<String>,
}

impl Store {
    /// Takes the chores, if they are due and nobody has them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_chores(&self, lease: Duration) -> Result<bool> {
        deadline(async {
            let sql = "UPDATE chores SET owner = $1, leased_until = now() + $2 * interval '1 second'
                       WHERE name = 'lease' AND leased_until <= now() AND due_at <= now()";
            Ok(self.client().await?.execute(sql, &[&self.name, &seconds(lease)]).await? == 1)
        })
        .await
    }

    /// Keeps the chores for another `lease`; false when somebody else has them by now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_chores(&self, lease: Duration) -> Result<bool> {
        deadline(async {
            let sql = "UPDATE chores SET leased_until = now() + $2 * interval '1 second'
                       WHERE name = 'lease' AND owner = $1 AND leased_until > now()";
            Ok(self.client().await?.execute(sql, &[&self.name, &seconds(lease)]).await? == 1)
        })
        .await
    }

    /// Gives the chores back; they are due again after `pause`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_chores(&self, pause: Duration) -> Result<()> {
        deadline(async {
            let sql = "UPDATE chores SET leased_until = now(), due_at = now() + $2 * interval '1 second'
                       WHERE name = 'lease' AND owner = $1";
            self.client().await?.execute(sql, &[&self.name, &seconds(pause)]).await?;
            Ok(())
        })
        .await
    }

    /// Where the pass of a chore goes on; `None` at its beginning.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn chore_position(&self, name: &str) -> Result<Option<Value>> {
        deadline(async {
            let row = self.client().await?.query_opt("SELECT position FROM chores WHERE name = $1", &[&name]).await?;
            Ok(row.and_then(|row| row.get::<_, Option<Json<Value>>>(0)).map(|Json(position)| position))
        })
        .await
    }

    /// Writes down how far a chore has come: `changed` rows more, and where it goes on. Without a position the pass has
    /// ended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_chore(
        &self,
        name: &str,
        changed: u64,
        position: Option<&Value>,
        problem: Option<&str>,
    ) -> Result<()> {
        deadline(async {
            let sql = "INSERT INTO chores AS c (name, position, changed, last_changed, ended_at, problem)
                       VALUES ($1, $3, CASE WHEN $3::jsonb IS NULL THEN 0 ELSE $2::bigint END, CASE WHEN $3 IS NULL THEN $2 END,
                           CASE WHEN $3 IS NULL THEN now() END, $4)
                       ON CONFLICT (name) DO UPDATE SET position = $3, problem = $4,
                           changed = CASE WHEN $3 IS NULL THEN 0 ELSE c.changed + $2 END,
                           last_changed = CASE WHEN $3 IS NULL THEN c.changed + $2 ELSE c.last_changed END,
                           ended_at = CASE WHEN $3 IS NULL THEN now() ELSE c.ended_at END";
            let changed = i64::try_from(changed).unwrap_or(i64::MAX);
            self.client().await?.execute(sql, &[&name, &changed, &position.map(Json), &problem]).await?;
            Ok(())
        })
        .await
    }

    /// How far each chore has come, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn chores(&self) -> Result<Vec<ChoreProgress>> {
        deadline(async {
            let sql = "SELECT name, position IS NOT NULL AS under_way, changed, last_changed, ended_at, problem
                       FROM chores WHERE name <> 'lease' ORDER BY name";
            let rows = self.client().await?.query(sql, &[]).await?;
            let progress = |row: &tokio_postgres::Row| ChoreProgress {
                name: row.get("name"),
                under_way: row.get("under_way"),
                changed: u64::try_from(row.get::<_, i64>("changed")).unwrap_or(0),
                last_changed: row.get::<_, Option<i64>>("last_changed").and_then(|n| u64::try_from(n).ok()),
                ended_at: row.get("ended_at"),
                problem: row.get("problem"),
            };
            Ok(rows.iter().map(progress).collect())
        })
        .await
    }
}
