//! The lock of a project: requests for it are stored one after the other, and so is what follows from the end of its moves.

use slipway_protocol::ProjectId;

use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;

/// Waits for whoever else stores a request for the project.
pub(in crate::store) async fn lock_project(tx: &StoreTransaction<'_>, project: ProjectId) -> Result<()> {
    tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&project.to_string()]).await?;
    Ok(())
}
