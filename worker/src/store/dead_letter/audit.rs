//! The record of everything that operators do with dead letters: who, why and when, in the transaction of what they do.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::types::Json;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::{Result, Store};

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
    /// The id of the dead letter.
    pub dead_letter: Uuid,
    /// `replay`, `edit`, `archive`, `restore`, `note` or `export`.
    pub action: String,
    /// Who did it, and why.
    pub operator: Operator,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// The particulars, whose keys depend on the action: a note's text, a replay's options.
    pub details: Value,
}

/// Which entries of the record; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// About this dead letter.
    pub dead_letter: Option<Uuid>,
    /// Done by this operator.
    pub who: Option<String>,
    /// Of this action, named as in [`AuditEntry::action`].
    pub action: Option<String>,
    /// At this time or later.
    pub since: Option<Timestamp>,
}

impl Store {
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
pub(in crate::store) async fn record(
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
