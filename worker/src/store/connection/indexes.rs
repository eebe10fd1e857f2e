//! Indexes that are made beside the migrations, since making them blocks nobody: a migration is one transaction, and
//! would keep every writer of a large table waiting. Without one, what it's for is slower, and as right.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// Key of the advisory lock under which indexes are made ("indexes" in ASCII).
const INDEX_LOCK: i64 = 0x69_6e_64_65_78_65_73;

/// A table with fewer rows gets its indexes in the usual way, which is faster.
const SMALL: i64 = 1000;

/// Name, table, and what is indexed. Rows of deployments that haven't ended change often, and those that have don't: what
/// only lists need is written once, at the end.
const INDEXES: &[(&str, &str, &str)] = &[
    ("deployments_open", "deployments", "(project_id, arrival) WHERE state IN ('pending', 'running')"),
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
    ("deployments_ended", "deployments", "(state, arrival) WHERE state NOT IN ('pending', 'running')"),
    ("dead_letters_by_time", "dead_letters", "(last_failed_at, id)"),
    ("dead_letters_of_code", "dead_letters", "(code, last_failed_at)"),
    ("dead_letters_of_class", "dead_letters", "(class, last_failed_at)"),
    ("dead_letters_of_stage", "dead_letters", "(stage, last_failed_at)"),
    ("dead_letters_of_project", "dead_letters", "(project_slug, last_failed_at)"),
];

/// Makes the indexes that aren't there. Of several processes one does it; the others wait, without holding anything that
/// it would have to wait for.
pub(super) async fn make_missing(client: &Client) -> Result<(), Error> {
    if missing(client).await?.is_empty() {
        return Ok(());
    }
    while !client.query_one("SELECT pg_try_advisory_lock($1)", &[&INDEX_LOCK]).await?.get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.batch_execute("SET statement_timeout = '30min'; SET lock_timeout = 0").await?;
    for (name, table, what) in missing(client).await? {
        let rows = format!("SELECT count(*) FROM (SELECT FROM {table} LIMIT {SMALL}) few");
        let beside = if client.query_one(&rows, &[]).await?.get::<_, i64>(0) < SMALL { "" } else { "CONCURRENTLY" };
        // One that was broken off is there, takes part in every write, and serves nobody.
        client.batch_execute(&format!("DROP INDEX {beside} IF EXISTS {name}")).await?;
        match client.batch_execute(&format!("CREATE INDEX {beside} {name} ON {table} {what}")).await {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                tracing::warn!(
                    db.index = name,
                    "an index couldn't be made within 30 minutes, since a transaction on this database lasts longer: \
                     some commands are slow until the next start of a worker makes it"
                );
            }
            made => made?,
        }
    }
    client.execute("SELECT pg_advisory_unlock($1)", &[&INDEX_LOCK]).await?;
    Ok(())
}

type Index = (&'static str, &'static str, &'static str);

async fn missing(client: &Client) -> Result<Vec<Index>, Error> {
    let sql = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
               WHERE i.indisvalid AND c.relnamespace = current_schema()::regnamespace";
    let valid: Vec<String> = client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    Ok(INDEXES.iter().filter(|(name, ..)| !valid.iter().any(|index| index == name)).copied().collect())
}
