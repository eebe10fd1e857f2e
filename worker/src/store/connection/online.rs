//! Migrations of versions before on a large table: as files they'd hold locks for as long as they read, build indexes and write
//! all of it. Here the same statements are carried out one after the other, each in a transaction of its own, with its place
//! written down; indexes are made beside the work of others. The record of migrations is the same afterwards.
//!
//! A file of a later version is written so that it needs none of this.

use std::time::Duration;

use refinery::Migration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

/// The last version whose file isn't fit for a large table.
const LAST: i32 = 15;
/// With fewer deployments a file is faster.
const LARGE: i64 = 20_000;
/// Projects whose deployments one statement changes.
const PROJECTS: i64 = 20;
/// The tables that grow.
const GROWING: [&str; 4] = ["deployments", "outbox", "stage_journal", "dead_letters"];
/// So long a statement waits for a lock, and others behind it.
pub(super) const LOCK_WAIT: &str = "SET lock_timeout = '500ms'";
/// After a lock couldn't be had, others get so much time.
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(700);
/// V14 asks for each deployment whether its project was undeployed since.
const UNDEPLOYMENTS: &str = "ON deployments (project_id, project_slug, server, arrival)
     WHERE action = 'undeploy' AND remove_volumes AND state IN ('succeeded', 'already_deployed')";

/// Brings a large database of a version before to [`LAST`]; does nothing where that's done, or where the files will do.
pub(super) async fn migrate_large(client: &Client, migrations: &[Migration]) -> Result<(), Error> {
    if !is_there(client, "refinery_schema_history").await? || !is_there(client, "deployments").await? {
        return Ok(());
    }
    let row = client.query_one("SELECT coalesce(max(version), 0) FROM refinery_schema_history", &[]).await?;
    let applied: i32 = row.get(0);
    let begun = is_there(client, "online_migrations").await?;
    let few = format!("SELECT count(*) FROM (SELECT FROM deployments LIMIT {LARGE}) few");
    if applied >= LAST || (!begun && client.query_one(&few, &[]).await?.get::<_, i64>(0) < LARGE) {
        return Ok(());
    }
    let steps =
        "CREATE TABLE IF NOT EXISTS online_migrations (version integer, step integer, PRIMARY KEY (version, step))";
    client.batch_execute(steps).await?;
    for migration in in_order(migrations).filter(|m| m.version() > applied && m.version() <= LAST) {
        carry_out(client, migration).await?;
    }
    client.batch_execute("DROP TABLE online_migrations").await
}

async fn is_there(client: &Client, table: &str) -> Result<bool, Error> {
    Ok(client.query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&table]).await?.get(0))
}

fn in_order(migrations: &[Migration]) -> impl Iterator<Item = &Migration> {
    let mut sorted: Vec<&Migration> = migrations.iter().collect();
    sorted.sort_by_key(|migration| migration.version());
    sorted.into_iter()
}

async fn carry_out(client: &Client, migration: &Migration) -> Result<(), Error> {
    let version = migration.version();
    for (step, statement) in (0_i32..).zip(statements(migration.sql().unwrap_or_default())) {
        let done = "SELECT FROM online_migrations WHERE version = $1 AND step = $2";
        if client.query_opt(done, &[&version, &step]).await?.is_some() {
            continue;
        }
        tracing::info!(version, step, "a step of a migration on a large database begins");
        let note = format!("INSERT INTO online_migrations VALUES ({version}, {step})");
        if let Some((name, definition)) = index_on_growing(&statement) {
            make_index(client, name, definition).await?;
            client.batch_execute(&note).await?;
        } else if version == 10 && statement.starts_with("UPDATE deployments") {
            order_in_batches(client).await?;
            client.batch_execute(&note).await?;
        } else if statement.starts_with("INSERT INTO slug_owners") {
            make_index(client, "undeployments_for_owners", UNDEPLOYMENTS).await?;
            alone(client, &statement, &note).await?;
            client.batch_execute("DROP INDEX CONCURRENTLY IF EXISTS undeployments_for_owners").await?;
        } else {
            alone(client, &statement, &note).await?;
        }
    }
    let (name, checksum) = (migration.name(), migration.checksum().to_string());
    let now = jiff::Timestamp::now().to_string();
    let record = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES ($1, $2, $3, $4)";
    client.execute(record, &[&version, &name, &now, &checksum]).await?;
    Ok(())
}

/// The statements of a file without functions, without comments.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = code.join("\n");
    let statements = code.split(";\n").map(|statement| statement.trim().trim_end_matches(';').to_owned());
    statements.filter(|statement| !statement.is_empty()).collect()
}

/// Name and definition of an index on a table that grows.
fn index_on_growing(statement: &str) -> Option<(&str, &str)> {
    let (name, definition) = statement.strip_prefix("CREATE INDEX ")?.split_once(char::is_whitespace)?;
    let table = definition.trim_start().strip_prefix("ON ")?.split([' ', '(']).next()?;
    GROWING.contains(&table).then_some((name, definition))
}

/// Makes an index beside the work of others, who don't wait for it. One that was broken off serves nobody.
async fn make_index(client: &Client, name: &str, definition: &str) -> Result<(), Error> {
    loop {
        client.batch_execute("SET lock_timeout = 0").await?;
        client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
        match client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {name} {definition}")).await {
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
                tokio::time::sleep(LOCK_PAUSE).await
            }
            made => return made,
        }
    }
}

/// One statement in a transaction of its own. Its locks are waited for so briefly that nobody waits behind it for long.
async fn alone(client: &Client, statement: &str, note: &str) -> Result<(), Error> {
    loop {
        let whole = format!("{LOCK_WAIT}; BEGIN; {statement}; {note}; COMMIT");
        match client.batch_execute(&whole).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                client.batch_execute("ROLLBACK").await?;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            done => return done,
        }
    }
}

/// The update of V10, for some projects at a time.
async fn order_in_batches(client: &Client) -> Result<(), Error> {
    let mut after = Uuid::nil();
    loop {
        let sql = "WITH RECURSIVE p (id, n) AS (
                       (SELECT project_id, 1::bigint FROM deployments WHERE project_id > $1 ORDER BY project_id LIMIT 1)
                       UNION ALL
                       SELECT (SELECT d.project_id FROM deployments d WHERE d.project_id > p.id ORDER BY d.project_id LIMIT 1),
                           n + 1 FROM p WHERE p.id IS NOT NULL AND n < $2)
                   SELECT id FROM p WHERE id IS NOT NULL ORDER BY id";
        let projects: Vec<Uuid> = client.query(sql, &[&after, &PROJECTS]).await?.iter().map(|row| row.get(0)).collect();
        let Some(last) = projects.last() else { return Ok(()) };
        after = *last;
        let update = "UPDATE deployments d SET producer_sequence = k.highest
                      FROM (SELECT id, max(producer_sequence) OVER (PARTITION BY project_id
                                ORDER BY coalesce(event_time, accepted_at), arrival) AS highest
                            FROM deployments WHERE request IS NOT NULL AND project_id = ANY($1)) k
                      WHERE d.id = k.id AND d.producer_sequence IS NULL AND k.highest IS NOT NULL";
        client.batch_execute("SET lock_timeout = '10s'").await?;
        client.execute(update, &[&projects]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_apart_into_its_statements() {
        let sql = include_str!("../../../migrations/V9__unsettled.sql");
        let parts = statements(sql);
        assert_eq!(parts.len(), 3);
        assert!(parts[0].starts_with("ALTER TABLE project_leases") && parts[1].starts_with("UPDATE project_leases"));
        let (name, definition) = index_on_growing(&parts[2]).unwrap_or_default();
        assert_eq!(name, "deployments_undeploying");
        assert!(definition.starts_with("ON deployments (server, project_slug)"));
        assert_eq!(index_on_growing("CREATE INDEX a ON watched_branches (look_at)"), None);
        assert_eq!(index_on_growing("CREATE UNIQUE INDEX a ON allowances (x)"), None);
    }
}
