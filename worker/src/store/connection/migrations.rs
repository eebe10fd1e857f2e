//! Migrations of the schema. The statements themselves are in `worker/migrations`.

use crate::store::connection::deadline::deadline;
use crate::store::connection::indexes::make_missing;
use crate::store::{Result, Store, StoreError};

/// Key of the advisory lock under which the schema is migrated ("slipway" in ASCII).
const MIGRATION_LOCK: i64 = 0x73_6c_69_70_77_61_79;

mod embedded {
    refinery::embed_migrations!("migrations");
}

impl Store {
    /// Brings the schema up to date; of several processes that try, one does it and the others wait.
    ///
    /// # Errors
    /// When the database can't be reached, or its schema is newer than this program or was changed by hand.
    pub async fn migrate(&self) -> Result<()> {
        let connect = async { Ok(self.config.connect(self.tls.clone()).await?) };
        let (mut client, connection) = deadline(connect).await?;
        // A connection of its own: the lock ends with it, whatever happens, and it may wait longer than others.
        let connection = tokio::spawn(connection);
        client.batch_execute("SET statement_timeout = '120s'; SET lock_timeout = '120s'").await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        let report = embedded::migrations::runner().run_async(&mut client).await;
        client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await?;
        let indexed = if report.is_ok() { make_missing(&client).await } else { Ok(()) };
        drop(client);
        // Ends by itself once the client is gone; waiting makes the lock free when this returns.
        let _ = connection.await;
        report.map_err(|e| StoreError::Migration(Box::new(e)))?;
        Ok(indexed?)
    }
}
