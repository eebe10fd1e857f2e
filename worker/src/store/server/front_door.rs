//! What was seen of the servers' front doors: what a stage told of one last, and why one couldn't be used. It's for people;
//! no deployment depends on it.

use jiff::Timestamp;
use serde_json::Value;
use slipway_deploy::FrontDoorFacts;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{ErrorCode, Failure};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::value::readable;
use crate::store::{Result, Store};

/// What is known of a server's front door.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerDoor {
    /// Which server.
    pub server: ServerHandle,
    /// What was seen of it last; absent where nothing was, or where that can't be read.
    pub facts: Option<FrontDoorFacts>,
    /// When that was.
    pub seen_at: Option<Timestamp>,
    /// Since when it couldn't be used, and why, where nobody has seen it work since.
    pub problem: Option<(Timestamp, String)>,
}

impl Store {
    /// Notes what a stage has told of a server's door; `null`: it has none any more. What was told less than a minute ago
    /// isn't written again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_front_door(&self, server: &ServerHandle, facts: &Value) -> Result<()> {
        let sql = match facts {
            Value::Null => "DELETE FROM front_doors WHERE server = $1 AND $2::jsonb IS NOT NULL",
            _ => {
                "INSERT INTO front_doors AS d (server, facts, seen_at) VALUES ($1, $2, now())
                 ON CONFLICT (server) DO UPDATE SET facts = $2, seen_at = now(), problem = NULL, problem_at = NULL
                     WHERE d.facts IS DISTINCT FROM $2 OR d.problem IS NOT NULL OR d.seen_at IS NULL
                         OR d.seen_at < now() - interval '1 minute'"
            }
        };
        self.write_front_door(sql, server, &Json(facts)).await
    }

    /// Notes what follows for a server's door from what a stage found, or failed with. That this can't be written holds no
    /// deployment up.
    pub(in crate::store) async fn heed_front_door(
        &self,
        server: &ServerHandle,
        outcome: std::result::Result<&serde_json::Map<String, Value>, &Failure>,
    ) {
        let written = match outcome {
            Ok(facts) => match facts.get(FrontDoorFacts::FACT) {
                Some(facts) => self.record_front_door(server, facts).await,
                None => return,
            },
            Err(failure) if failure.code == ErrorCode::FrontDoorFailed => {
                let sql = "INSERT INTO front_doors AS d (server, problem, problem_at) VALUES ($1, $2, now())
                           ON CONFLICT (server) DO UPDATE SET problem = $2, problem_at = coalesce(d.problem_at, now())";
                self.write_front_door(sql, server, &failure.message).await
            }
            Err(_) => return,
        };
        if let Err(error) = written {
            tracing::warn!(server.handle = %server, "what was seen of the front door isn't noted: {error}");
        }
    }

    async fn write_front_door(
        &self,
        sql: &str,
        server: &ServerHandle,
        value: &(dyn tokio_postgres::types::ToSql + Sync),
    ) -> Result<()> {
        deadline(async {
            let client = self.client().await?;
            client.write(TransactionKind::RecordProgress, sql, &[&server.as_str(), value]).await.map(drop)
        })
        .await
    }

    /// What is known of the front doors of all servers, by the servers' names.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn front_doors(&self) -> Result<Vec<ServerDoor>> {
        deadline(async {
            let client = self.client().await?;
            client.query("SELECT * FROM front_doors ORDER BY server", &[]).await?.iter().map(door).collect()
        })
        .await
    }

    /// What is known of a server's front door.
    ///
    /// # Errors
    /// As [`Store::front_doors`].
    pub async fn front_door(&self, server: &ServerHandle) -> Result<Option<ServerDoor>> {
        deadline(async {
            let client = self.client().await?;
            let row = client.query_opt("SELECT * FROM front_doors WHERE server = $1", &[&server.as_str()]).await?;
            row.as_ref().map(door).transpose()
        })
        .await
    }
}

fn door(row: &Row) -> Result<ServerDoor> {
    // What a newer worker wrote in another way is no reason to show nothing.
    let facts = row.try_get::<_, Option<Json<FrontDoorFacts>>>("facts").ok().flatten().map(|Json(facts)| facts);
    let since: Option<Timestamp> = row.get("problem_at");
    Ok(ServerDoor {
        server: readable("front_doors", "server", ServerHandle::new(row.get::<_, String>("server")))?,
        facts,
        seen_at: row.get("seen_at"),
        problem: since.zip(row.get("problem")),
    })
}
