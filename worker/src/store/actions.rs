//! What operators do with dead letters beside sending them again, and the record of everything that they did: who, why
//! and when, in the same transaction.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::types::Json;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::dead_letters::MATCHES;
use super::{DeadLetterFilter, DeadLetterState, Result, Store, StoreTransaction, commit, deadline};
use crate::failpoint::TransactionKind;

/// Who does something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// A person or a program, `ada@bastion`.
    pub who: String,
    /// Their reason, where they gave one.
    pub why: Option<String>,
}

/// Something that was done with a dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// The dead letter.
    pub dead_letter: Uuid,
    /// `replay`, `edit`, `archive`, `restore`, `note` or `export`.
    pub action: String,
    /// Who did it, and why.
    pub operator: Operator,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// What exactly.
    pub details: Value,
}

/// Which entries of the record; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// About this dead letter.
    pub dead_letter: Option<Uuid>,
    /// Done by this operator.
    pub who: Option<String>,
    /// This action.
    pub action: Option<String>,
    /// At this time or later.
    pub since: Option<Timestamp>,
}

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
        self.step("archive", [DeadLetterState::Open, DeadLetterState::Archived], filter, operator, limit).await
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
        self.step("restore", [DeadLetterState::Archived, DeadLetterState::Open], filter, operator, limit).await
    }

    async fn step(
        &self,
        action: &str,
        [from, to]: [DeadLetterState; 2],
        filter: &DeadLetterFilter,
        operator: &Operator,
        limit: u32,
    ) -> Result<Vec<Uuid>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let sql = format!(
                "WITH picked AS (
                     SELECT l.id FROM dead_letters l WHERE {MATCHES} ORDER BY l.last_failed_at, l.id LIMIT $9 FOR UPDATE)
                 UPDATE dead_letters l SET state = $10, updated_at = now() FROM picked WHERE l.id = picked.id
                 RETURNING l.id"
            );
            let (from, to, limit) = (Some(from.as_str()), to.as_str(), i64::from(limit));
            let rows = tx.query(&sql, &filter.parameters(&from, &[&limit, &to])).await?;
            let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
            record(&tx, &ids, action, operator, &json!({})).await?;
            commit(tx, TransactionKind::DeadLetters).await?;
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
            record(&tx, &[id], "note", operator, &json!({ "text": text })).await?;
            commit(tx, TransactionKind::DeadLetters).await?;
            Ok(true)
        })
        .await
    }

    /// Records that the bytes of dead letters are about to be written out to `place`.
    ///
    /// # Errors
    /// When the database fails; then they must not be written.
    pub async fn record_export(&self, ids: &[Uuid], place: &str, operator: &Operator) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            record(&tx, ids, "export", operator, &json!({ "to": place })).await?;
            commit(tx, TransactionKind::DeadLetters).await
        })
        .await
    }

    /// What was done, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letter_audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditEntry>> {
        deadline(async {
            let sql = "SELECT * FROM dead_letter_audit
                       WHERE ($1::uuid IS NULL OR dead_letter_id = $1) AND ($2::text IS NULL OR who = $2)
                         AND ($3::text IS NULL OR action = $3) AND ($4::timestamptz IS NULL OR at >= $4)
                       ORDER BY number DESC LIMIT $5";
            let client = self.client().await?;
            let AuditFilter { dead_letter, who, action, since } = filter;
            let rows = client.query(sql, &[dead_letter, who, action, since, &i64::from(limit)]).await?;
            let entry = |row: &Row| AuditEntry {
                dead_letter: row.get("dead_letter_id"),
                action: row.get("action"),
                operator: Operator { who: row.get("who"), why: row.get("why") },
                at: row.get("at"),
                details: row.get::<_, Json<Value>>("details").0,
            };
            Ok(rows.iter().map(entry).collect())
        })
        .await
    }
}

/// Records that `action` is done with each of `ids`.
pub(super) async fn record(
    tx: &Transaction<'_>,
    ids: &[Uuid],
    action: &str,
    operator: &Operator,
    details: &Value,
) -> Result<()> {
    tx.execute(
        "INSERT INTO dead_letter_audit (dead_letter_id, action, who, why, details) SELECT id, $2, $3, $4, $5
         FROM unnest($1::uuid[]) AS id",
        &[&ids, &action, &operator.who, &operator.why, &Json(details)],
    )
    .await?;
    Ok(())
}
