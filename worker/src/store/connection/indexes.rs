//! Indexes that no migration makes on a large table: a migration is one transaction, and everybody would wait for it. On a
//! small one they are made with the schema; on a large one beside the work, one after the other. Without one, what it's for
//! is slower, and as right.

use std::time::Duration;

use tokio_postgres::{Client, Error};

use crate::store::{Result, Store};

/// Key of the advisory lock under which indexes are made ("indexes" in ASCII).
const INDEX_LOCK: i64 = 0x69_6e_64_65_78_65_73;

/// A table with fewer rows gets its indexes with the schema.
const SMALL: i64 = 1000;

/// Name, table, and what is indexed. Rows of deployments that haven't ended change often, and those that have don't: what
/// only lists need is written once, at the end.
const INDEXES: &[(&str, &str, &str)] = &[
    ("deployments_open", "deployments", "(project_id, arrival) WHERE state IN ('pending', 'running')"),
    // What came after a move that has begun waits for it, on either server.
    ("deployments_moving", "deployments", "(project_slug) WHERE state IN ('pending', 'running') AND action = 'move'"),
    (
        "deployments_ended_of_place",
        "deployments",
        "(project_slug, coalesce(server, ''), state, arrival) WHERE state NOT IN ('pending', 'running')",
    ),
    (
        "deployments_ended_of_server",
        "deployments",
        "(server, state, arrival) WHERE state NOT IN ('pending', 'running')",
    ),
    (
        "deployments_unpruned_versions",
        "deployments",
        "(project_id, project_slug, server, arrival)
         WHERE state = 'succeeded' AND action IN ('deploy', 'rollback', 'move') AND pruned = 0",
    ),
    ("deployments_ended", "deployments", "(state, arrival) WHERE state NOT IN ('pending', 'running')"),
    ("dead_letters_by_time", "dead_letters", "(last_failed_at, id)"),
    ("dead_letters_open_of_code", "dead_letters", "(code, last_failed_at, id) WHERE state = 'open'"),
    ("dead_letters_of_code", "dead_letters", "(code, last_failed_at)"),
    ("dead_letters_of_class", "dead_letters", "(class, last_failed_at)"),
    ("dead_letters_of_stage", "dead_letters", "(stage, last_failed_at)"),
    ("dead_letters_of_project", "dead_letters", "(project_slug, last_failed_at)"),
    (
        "deployments_by_kind",
        "deployments",
        "(coalesce(project_id, '00000000-0000-0000-0000-000000000000'), coalesce(server, ''), coalesce(project_slug, ''),
             action, (CASE WHEN request IS NULL THEN '?' WHEN started_at IS NULL THEN '-' ELSE '+' END || state), arrival)
         WHERE finished_at IS NOT NULL",
    ),
    ("dead_letters_of_deployment", "dead_letters", "(deployment_id)"),
    ("dead_letters_closed", "dead_letters", "(updated_at, id) WHERE state <> 'open'"),
    ("dead_letters_with_body", "dead_letters", "(updated_at, id) WHERE state <> 'open' AND body IS NOT NULL"),
    ("cancellations_by_time", "cancellations", "(requested_at)"),
];

/// Makes the missing indexes of small tables.
pub(super) async fn make_small(client: &Client) -> Result<(), Error> {
    if missing(client).await?.is_empty() {
        return Ok(());
    }
    lock(client).await?;
    for (name, table, what) in missing(client).await? {
        let rows = format!("SELECT count(*) FROM (SELECT FROM {table} LIMIT {SMALL}) few");
        if client.query_one(&rows, &[]).await?.get::<_, i64>(0) < SMALL {
            client
                .batch_execute(&format!("DROP INDEX IF EXISTS {name}; CREATE INDEX {name} ON {table} {what}"))
                .await?;
        }
    }
    unlock(client).await
}

impl Store {
    /// Makes the indexes that are missing; gives their names. On a connection of its own: it may take minutes, and nothing
    /// that others do waits for it.
    ///
    /// # Errors
    /// When the database fails. What is half made then is removed and made anew the next time.
    pub async fn make_indexes(&self) -> Result<Vec<&'static str>> {
        // Where no session is ours, a worker makes them that has one.
        let Some(hosts) = &self.sessions else { return Ok(Vec::new()) };
        let (client, connection) = hosts.connect().await?;
        let connection = tokio::spawn(connection);
        let made = async {
            lock(&client).await?;
            client.batch_execute("SET statement_timeout = 0; SET lock_timeout = '2s'").await?;
            let mut made = Vec::new();
            for (name, table, what) in missing(&client).await? {
                // One that was broken off is there, takes part in every write, and serves nobody.
                client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
                client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {name} ON {table} {what}")).await?;
                made.push(name);
            }
            unlock(&client).await?;
            Ok(made)
        }
        .await;
        drop(client);
        let _ = connection.await;
        made
    }
}

/// Of several processes one makes indexes; the others wait, without holding anything that it would have to wait for.
async fn lock(client: &Client) -> Result<(), Error> {
    while !client.query_one("SELECT pg_try_advisory_lock($1)", &[&INDEX_LOCK]).await?.get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn unlock(client: &Client) -> Result<(), Error> {
    client.execute("SELECT pg_advisory_unlock($1)", &[&INDEX_LOCK]).await.map(drop)
}

type Index = (&'static str, &'static str, &'static str);

async fn missing(client: &Client) -> Result<Vec<Index>, Error> {
    let sql = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
               WHERE i.indisvalid AND c.relnamespace = current_schema()::regnamespace";
    let valid: Vec<String> = client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    Ok(INDEXES.iter().filter(|(name, ..)| !valid.iter().any(|index| index == name)).copied().collect())
}
