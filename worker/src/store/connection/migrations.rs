//! Migrations of the schema. The statements themselves are in `worker/migrations`.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::store::connection::deadline::deadline;
use crate::store::connection::indexes::make_small;
use crate::store::connection::online::{LOCK_PAUSE, LOCK_WAIT, migrate_large};
use crate::store::{Result, Store, StoreError};

/// How long migrations are tried while others hold the locks that they need.
const LOCK_PATIENCE: Duration = Duration::from_secs(600);

/// Key of the advisory lock under which the schema is migrated ("slipway" in ASCII).
const MIGRATION_LOCK: i64 = 0x73_6c_69_70_77_61_79;

mod embedded {
    refinery::embed_migrations!("migrations");
}

impl Store {
    /// Brings the schema up to date; of several processes that try, one does it and the others wait.
    ///
    /// # Errors
    /// When the database can't be reached, or its schema is newer than this program or was changed by hand; or when it isn't
    /// up to date, and there is only a pooler that gives no sessions.
    pub async fn migrate(&self) -> Result<()> {
        let Some(hosts) = &self.sessions else { return deadline(self.is_migrated()).await };
        let connect = async { Ok(hosts.connect().await?) };
        let (mut client, connection) = deadline(connect).await?;
        // A connection of its own: the lock ends with it, whatever happens, and it may wait longer than others.
        let connection = tokio::spawn(connection);
        let migrated = migrate_alone(&mut client).await;
        drop(client);
        // Ends by itself once the client is gone; waiting makes the lock free when this returns.
        let _ = connection.await;
        migrated
    }

    /// Whether somebody else has brought the schema up to date.
    async fn is_migrated(&self) -> Result<()> {
        let needed = embedded::migrations::runner().get_migrations().iter().map(|m| m.version()).max().unwrap_or(0);
        let client = self.client().await?;
        let made = client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await?;
        let found = match made.get(0) {
            true => client.query_one("SELECT max(version) FROM refinery_schema_history", &[]).await?.get(0),
            false => None::<i32>,
        };
        if found == Some(needed) { Ok(()) } else { Err(StoreError::NoSessions { found: found.unwrap_or(0), needed }) }
    }
}

/// Migrates once nobody else does.
async fn migrate_alone(client: &mut Client) -> Result<()> {
    // Whoever waits in a statement would be waited for by whoever makes an index.
    while !client.query_one("SELECT pg_try_advisory_lock($1)", &[&MIGRATION_LOCK]).await?.get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.batch_execute("SET statement_timeout = 0").await?;
    let runner = embedded::migrations::runner();
    migrate_large(client, runner.get_migrations()).await?;
    let begun = Instant::now();
    loop {
        // What others do waits behind a statement that waits for a lock.
        client.batch_execute(LOCK_WAIT).await?;
        match runner.run_async(client).await {
            Ok(_) => return Ok(make_small(client).await?),
            Err(error) if is_locked(&error) && begun.elapsed() < LOCK_PATIENCE => {
                tracing::info!("a migration waits for a lock, and tries again");
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => return Err(StoreError::Migration(Box::new(error))),
        }
    }
}

/// Whether a migration failed since somebody held what it needed.
fn is_locked(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<tokio_postgres::Error>())
        .any(|error| matches!(error.code(), Some(code) if [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)))
}
