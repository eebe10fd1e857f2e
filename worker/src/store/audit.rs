//! The record of everything that operators do: who, from where, to what, why and when, in the transaction of what they do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::{Result, Store};

/// Who does something, from where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// A person or a program, `ada@bastion`.
    pub who: String,
    /// Their reason, where they gave one.
    pub why: Option<String>,
    /// From where, as the system tells it.
    pub origin: OperatorOrigin,
}

impl Operator {
    /// An operator of whom it isn't known from where they act.
    #[must_use]
    pub fn new(who: &str, why: Option<&str>) -> Self {
        Self { who: who.to_owned(), why: why.map(str::to_owned), origin: OperatorOrigin::default() }
    }
}

/// From where an operator acts, as the system tells it and not they.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorOrigin {
    /// The system's user; behind `sudo` the one who called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The number of the user that the program runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The number of the user who has logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// The machine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The terminal; none where there is none, as in a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// The address that a session over SSH came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_client: Option<String>,
}

macro_rules! actions {
    ($($variant:ident $name:literal)*) => {
        /// What an operator does: each is named as its command is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum OperatorAction {
            $(#[doc = concat!("`slipway ", $name, "`")] $variant,)*
        }

        impl OperatorAction {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in the record.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

actions! {
    AllowProject "projects allow"
    RevokeProject "projects revoke"
    AllowServer "servers allow"
    RevokeServer "servers revoke"
    Submit "submit"
    Cancel "cancel"
    Stop "stop"
    Start "start"
    Rollback "rollback"
    Undeploy "undeploy"
    RotateKey "projects rotate-key"
    Move "projects move"
    HandOver "projects hand-over"
    AddServer "servers add"
    CheckServer "servers check"
    RemoveServer "servers remove"
    LabelServer "servers label"
    CordonServer "servers cordon"
    UncordonServer "servers uncordon"
    MaintainServer "servers maintenance"
    AllowSource "sources allow"
    RevokeSource "sources revoke"
    ReplayDeadLetter "dead-letters replay"
    EditDeadLetter "dead-letters edit"
    ArchiveDeadLetter "dead-letters archive"
    RestoreDeadLetter "dead-letters restore"
    NoteDeadLetter "dead-letters note"
    ExportDeadLetter "dead-letters export"
    ReplayEvents "events replay"
    ResendMessage "outbox resend"
    DropMessage "outbox drop"
    ApplyTopology "topology apply"
    RetryDeployment "deployments retry"
    ForgetWorker "workers forget"
}

impl std::str::FromStr for OperatorAction {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ");
        Self::ALL.iter().copied().find(|a| a.as_str() == name).ok_or_else(|| format!("must be one of {}", known()))
    }
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its number; later entries have higher ones.
    pub number: i64,
    /// What, named as in [`OperatorAction`]; a later version may have others.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// The id of the dead letter, where it was done to one.
    pub dead_letter: Option<Uuid>,
    /// Who did it, from where, and why.
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
    /// Of this action, or of this command's, such as `servers`.
    pub action: Option<String>,
    /// Done to something whose name holds this text.
    pub subject: Option<String>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before the entry of this number.
    pub before: Option<i64>,
}

impl Store {
    /// Records what is about to be done where the database has no part in it: publishing a request, writing a file. It
    /// must not be done when this fails. Gives the number of the entry.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_beforehand(
        &self,
        action: OperatorAction,
        subject: &str,
        operator: &Operator,
        details: &Value,
    ) -> Result<i64> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let number = record(&tx, action, subject, operator, details).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(number)
        })
        .await
    }

    /// Adds to an entry that what it tells didn't come about, or may not have.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_failure(&self, number: i64, error: &str) -> Result<()> {
        deadline(async {
            let sql = "UPDATE operator_audit SET details = details || $2 WHERE number = $1";
            self.client().await?.execute(sql, &[&number, &Json(json!({ "failed": error }))]).await?;
            Ok(())
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
            let details = json!({ "to": place });
            record_letters(&tx, ids, OperatorAction::ExportDeadLetter, operator, &details).await?;
            commit(tx, TransactionKind::Operate).await
        })
        .await
    }

    /// What was done, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditEntry>> {
        deadline(async {
            let sql = "SELECT * FROM operator_audit
                       WHERE ($1::uuid IS NULL OR dead_letter_id = $1) AND ($2::text IS NULL OR who = $2)
                         AND ($3::text IS NULL OR action = $3 OR starts_with(action, $3 || ' '))
                         AND ($4::timestamptz IS NULL OR at >= $4)
                         AND ($5::text IS NULL OR strpos(subject, $5) > 0) AND ($7::bigint IS NULL OR number < $7)
                       ORDER BY number DESC LIMIT $6";
            let AuditFilter { dead_letter, who, action, subject, since, before } = filter;
            let rows =
                self.filtered(sql, &[dead_letter, who, action, since, subject, &i64::from(limit), before]).await?;
            Ok(rows.iter().map(entry).collect())
        })
        .await
    }
}

fn entry(row: &Row) -> AuditEntry {
    let Json(origin) = row.try_get::<_, Json<OperatorOrigin>>("origin").unwrap_or(Json(OperatorOrigin::default()));
    AuditEntry {
        number: row.get("number"),
        action: row.get("action"),
        subject: row.get("subject"),
        dead_letter: row.get("dead_letter_id"),
        operator: Operator { who: row.get("who"), why: row.get("why"), origin },
        at: row.get("at"),
        details: row.get::<_, Json<Value>>("details").0,
    }
}

/// Records that `action` is done to `subject`; the one way into the record beside [`record_letters`], and in the
/// transaction of what is done. Gives the number of the entry.
pub(in crate::store) async fn record(
    tx: &StoreTransaction<'_>,
    action: OperatorAction,
    subject: &str,
    operator: &Operator,
    details: &Value,
) -> Result<i64> {
    let Operator { who, why, origin } = operator;
    let sql = "INSERT INTO operator_audit (action, subject, who, why, origin, details) VALUES ($1, $2, $3, $4, $5, $6)
               RETURNING number";
    let row = tx.query_one(sql, &[&action.as_str(), &subject, who, why, &Json(origin), &Json(details)]).await?;
    Ok(row.get(0))
}

/// As [`record`], of each of the dead letters `ids`.
pub(in crate::store) async fn record_letters(
    tx: &StoreTransaction<'_>,
    ids: &[Uuid],
    action: OperatorAction,
    operator: &Operator,
    details: &Value,
) -> Result<()> {
    let Operator { who, why, origin } = operator;
    tx.execute(
        "INSERT INTO operator_audit (dead_letter_id, subject, action, who, why, origin, details)
         SELECT id, id::text, $2, $3, $4, $5, $6 FROM unnest($1::uuid[]) AS id",
        &[&ids, &action.as_str(), who, why, &Json(origin), &Json(details)],
    )
    .await?;
    Ok(())
}
