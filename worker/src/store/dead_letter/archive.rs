//! What operators do with dead letters beside sending them again: archiving, restoring and notes.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record_letters};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::dead_letter::list::{DeadLetterFilter, DeadLetterState, FILTER_CONDITION};
use crate::store::{Result, Store};

impl Store {
    /// Puts open dead letters aside, the oldest first, at most `limit`; gives their ids.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn archive_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        operator: &Operator,
        limit: u32,
    ) -> Result<Vec<Uuid>> {
        self.step(
            OperatorAction::ArchiveDeadLetter,
            [DeadLetterState::Open, DeadLetterState::Archived],
            filter,
            operator,
            limit,
        )
        .await
    }

    /// Takes archived dead letters up again, the oldest first, at most `limit`; gives their ids.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn restore_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        operator: &Operator,
        limit: u32,
    ) -> Result<Vec<Uuid>> {
        self.step(
            OperatorAction::RestoreDeadLetter,
            [DeadLetterState::Archived, DeadLetterState::Open],
            filter,
            operator,
            limit,
        )
        .await
    }

    async fn step(
        &self,
        action: OperatorAction,
        [from, to]: [DeadLetterState; 2],
        filter: &DeadLetterFilter,
        operator: &Operator,
        limit: u32,
    ) -> Result<Vec<Uuid>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            tx.plan_by_values().await?;
            let sql = format!(
                "WITH picked AS (
                     SELECT l.id FROM dead_letters l WHERE {FILTER_CONDITION} ORDER BY l.last_failed_at, l.id LIMIT $14 FOR UPDATE)
                 UPDATE dead_letters l SET state = $15, updated_at = now() FROM picked WHERE l.id = picked.id
                 RETURNING l.id"
            );
            let (from, to, limit) = (Some(from.as_str()), to.as_str(), i64::from(limit));
            let rows = tx.query(&sql, &filter.parameters(&from, &[&limit, &to])).await?;
            let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            record_letters(&tx, &ids, action, operator, &json!({})).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(ids)
        })
        .await
    }

    /// Adds a line to the notes of a dead letter; false when there is no such dead letter.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_dead_letter(&self, id: Uuid, text: &str, operator: &Operator) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let line = format!("{} {}: {text}", Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ"), operator.who);
            let sql =
                "UPDATE dead_letters SET note = concat_ws(E'\\n', note, $2::text), updated_at = now() WHERE id = $1";
            if tx.execute(sql, &[&id, &line]).await? == 0 {
                return Ok(false);
            }
            record_letters(&tx, &[id], OperatorAction::NoteDeadLetter, operator, &json!({ "text": text })).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(true)
        })
        .await
    }
}
