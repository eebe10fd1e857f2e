//! Halves whose time to wait is over.

use slipway_protocol::ProjectId;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::dead_letter::refusal::RefusedMessage;
use crate::store::deployment::project_lock::lock_project;
use crate::store::deployment::refuse::end_refused;
use crate::store::halves::rows::{StoredHalf, stored};
use crate::store::{Result, Store};

impl Store {
    /// The halves that have waited for long enough, those that have for longest before others; at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn overdue_halves(&self, limit: u32) -> Result<Vec<(ProjectId, StoredHalf)>> {
        deadline(async {
            let sql = "SELECT * FROM project_halves WHERE waits_until <= now() ORDER BY waits_until LIMIT $1";
            let rows = self.client().await?.query(sql, &[&i64::from(limit)]).await?;
            Ok(rows.iter().map(|row| (ProjectId(row.get("project_id")), stored(row))).collect())
        })
        .await
    }

    /// Ends the waiting of a half, which is kept: its sender is told the refusal. False when it doesn't wait any more, or
    /// somebody else has told it; then nothing was written.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn miss_half(&self, project: ProjectId, half: &StoredHalf, refusal: &RefusedMessage) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            lock_project(&tx, project).await?;
            let sql = "UPDATE project_halves SET waits_until = NULL, missed_at = now()
                       WHERE id = $1 AND waits_until <= now()";
            if tx.execute(sql, &[&half.id.0]).await? == 0 {
                return Ok(false);
            }
            if end_refused(&tx, refusal, half.incoming.user.as_deref()).await? {
                NewDeadLetter::of_refused(refusal, &half.incoming).insert(&tx, self).await?;
            }
            commit(tx, TransactionKind::Refuse).await?;
            Ok(true)
        })
        .await
    }
}
