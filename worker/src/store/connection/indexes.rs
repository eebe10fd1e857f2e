//! Indexes that no migration makes on a large table: a migration is one transaction, and everybody would wait for it. On a
//! small one they are made with the schema; on a large one beside the work, one after the other. Without one, what it's for
//! is slower, and as right.

use std::time::{Duration, Instant};

use slipway_deploy::backoff::RetryPolicy;
use tokio_postgres::{Client, Error, Row};

use crate::store::connection::deadline::deadline;
use crate::store::{Result, Store, StoreError};

/// Key of the advisory lock under which indexes are made ("indexes" in ASCII).
const INDEX_LOCK: i64 = 0x69_6e_64_65_78_65_73;

/// So long making an index waits at once for transactions that began before. Who reads or writes isn't held up by it; vacuum and
/// migrations are, and those try for ten minutes.
const PATIENCE: &str = "SET statement_timeout = 0; SET lock_timeout = '5min'";

/// From an index that couldn't be made to the next try: at once where it was broken off, and else so that vacuum gets its turn.
const MAKE_AGAIN: RetryPolicy = RetryPolicy {
    initial: Duration::from_secs(2),
    max: Duration::from_secs(600),
    multiplier: 300.0,
    attempts: u32::MAX,
};

/// After so long it's told what an index waits for, and then more and more seldom.
const TELL_AFTER: Duration = Duration::from_secs(2);

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

/// Makes the missing indexes of small tables, unless somebody makes all that are missing.
pub(super) async fn make_small(client: &Client) -> Result<(), Error> {
    if missing(client).await?.is_empty() || !try_lock(client).await? {
        return Ok(());
    }
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
    /// Makes the indexes that are missing; gives their names. On a connection of its own: it may take long, and nobody who
    /// reads or writes waits for it. What can't be made is tried again within minutes, for as long as the database is there.
    ///
    /// # Errors
    /// When the database fails. What is half made then is removed and made anew the next time.
    pub async fn make_indexes(&self) -> Result<Vec<&'static str>> {
        // Where no session is ours, a worker makes them that has one.
        let Some(hosts) = &self.sessions else { return Ok(Vec::new()) };
        if self.missing_indexes().await?.is_empty() {
            return Ok(Vec::new());
        }
        let (client, connection) = hosts.connect().await?;
        let connection = tokio::spawn(connection);
        let made = self.make_missing(&client).await;
        drop(client);
        let _ = connection.await;
        made
    }

    /// The names of the indexes that are missing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn missing_indexes(&self) -> Result<Vec<&'static str>> {
        deadline(async {
            let valid = self.client().await?.query(VALID, &[]).await?;
            Ok(without(&valid).map(|(name, ..)| name).collect())
        })
        .await
    }

    /// Of several processes one makes indexes, also while it rests before the next try; the others leave them to it.
    async fn make_missing(&self, client: &Client) -> Result<Vec<&'static str>> {
        if !try_lock(client).await? {
            return Ok(Vec::new());
        }
        client.batch_execute(PATIENCE).await?;
        let process = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let (mut made, mut tried) = (Vec::new(), 0);
        loop {
            let mut failed = false;
            for index in missing(client).await? {
                match self.watch(process, index.0, make(client, index)).await {
                    Ok(()) => made.push(index.0),
                    Err(error) if client.is_closed() => return Err(error.into()),
                    Err(error) => {
                        failed = true;
                        let reason = StoreError::from(error).summary();
                        tracing::warn!(index = index.0, reason, "an index couldn't be made, and is tried again");
                    }
                }
            }
            if !failed {
                unlock(client).await?;
                return Ok(made);
            }
            tried += 1;
            tokio::time::sleep(MAKE_AGAIN.delay(tried).unwrap_or(MAKE_AGAIN.max)).await;
        }
    }

    /// Tells what `process` waits for while it makes an index.
    async fn watch<T>(&self, process: i32, index: &str, making: impl Future<Output = T>) -> T {
        tokio::pin!(making);
        let (begun, mut pause) = (Instant::now(), TELL_AFTER);
        loop {
            tokio::select! {
                made = &mut making => return made,
                () = tokio::time::sleep(pause) => {}
            }
            if let Ok(Some((blocker, application, age_s))) = self.blocker_of(process).await {
                let waited_s = begun.elapsed().as_secs();
                tracing::info!(
                    index,
                    waited_s,
                    blocker,
                    application,
                    age_s,
                    "an index waits for a transaction that began before"
                );
            }
            pause *= 2;
        }
    }

    /// The process that another one waits for, what it calls itself, and how old its transaction is, where we may see that.
    async fn blocker_of(&self, process: i32) -> Result<Option<(i32, Option<String>, Option<f64>)>> {
        deadline(async {
            let sql = "SELECT b.pid, a.application_name, extract(epoch FROM now() - a.xact_start)::float8
                       FROM unnest(pg_blocking_pids($1)) b (pid) LEFT JOIN pg_stat_activity a USING (pid) LIMIT 1";
            let row = self.client().await?.query_opt(sql, &[&process]).await?;
            Ok(row.map(|row| (row.get(0), row.get(1), row.get(2))))
        })
        .await
    }
}

/// Makes one index beside the work of others.
async fn make(client: &Client, (name, table, what): Index) -> Result<(), Error> {
    // One that was broken off is there, takes part in every write, and serves nobody.
    client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
    client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {name} ON {table} {what}")).await
}

async fn try_lock(client: &Client) -> Result<bool, Error> {
    Ok(client.query_one("SELECT pg_try_advisory_lock($1)", &[&INDEX_LOCK]).await?.get(0))
}

async fn unlock(client: &Client) -> Result<(), Error> {
    client.execute("SELECT pg_advisory_unlock($1)", &[&INDEX_LOCK]).await.map(drop)
}

type Index = (&'static str, &'static str, &'static str);

const VALID: &str = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                     WHERE i.indisvalid AND c.relnamespace = current_schema()::regnamespace";

async fn missing(client: &Client) -> Result<Vec<Index>, Error> {
    Ok(without(&client.query(VALID, &[]).await?).collect())
}

/// Those that aren't among the valid ones.
fn without(valid: &[Row]) -> impl Iterator<Item = Index> {
    let valid: Vec<String> = valid.iter().map(|row| row.get(0)).collect();
    INDEXES.iter().filter(move |(name, ..)| !valid.iter().any(|index| index == name)).copied()
}
