//! What operators allow a project, or all projects of a server, with who did so, why and when. What each allowance means is
//! decided by `slipway-deploy`.

use jiff::Timestamp;
use serde_json::json;
use slipway_deploy::Allowance;
use slipway_protocol::Project;
use slipway_protocol::names::ServerHandle;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::{Result, Store};

/// Whom an allowance is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowanceScope {
    /// All projects of a server.
    Server(ServerHandle),
    /// A project, on whichever server.
    Project(Project),
}

impl AllowanceScope {
    fn actions(&self) -> (OperatorAction, OperatorAction) {
        match self {
            Self::Server(_) => (OperatorAction::AllowServer, OperatorAction::RevokeServer),
            Self::Project(_) => (OperatorAction::AllowProject, OperatorAction::RevokeProject),
        }
    }

    fn subject(&self) -> &str {
        match self {
            Self::Server(handle) => handle.as_str(),
            Self::Project(project) => project.slug.as_str(),
        }
    }

    fn columns(&self) -> (Option<&str>, Option<Uuid>, Option<&str>) {
        match self {
            Self::Server(handle) => (Some(handle.as_str()), None, None),
            Self::Project(project) => (None, Some(project.id.0), Some(project.slug.as_str())),
        }
    }
}

/// An allowance on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAllowance {
    /// What is allowed, as it was written down; a later version may know what this one doesn't.
    pub allowance: String,
    /// Who allowed it, and why.
    pub operator: Operator,
    /// When.
    pub at: Timestamp,
    /// Who took it back, why and when.
    pub revoked: Option<(Operator, Timestamp)>,
}

impl Store {
    /// Allows something; false when it's allowed already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn allow(&self, scope: &AllowanceScope, allowance: &Allowance, operator: &Operator) -> Result<bool> {
        let ((server, id, slug), why) = (scope.columns(), operator.why.as_deref().unwrap_or_default());
        let sql = "INSERT INTO allowances (server, project_id, project_slug, allowance, who, why)
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let allowance = allowance.to_string();
            let added = tx.execute(sql, &[&server, &id, &slug, &allowance, &operator.who, &why]).await?;
            if added == 1 {
                let details = json!({ "allowance": allowance, "project_id": id });
                record(&tx, scope.actions().0, scope.subject(), operator, &details).await?;
            }
            commit(tx, TransactionKind::Operate).await?;
            Ok(added == 1)
        })
        .await
    }

    /// Takes an allowance back; false when there is none. What runs goes on until the project's next deployment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_allowance(
        &self,
        scope: &AllowanceScope,
        allowance: &Allowance,
        operator: &Operator,
    ) -> Result<bool> {
        let ((server, id, slug), why) = (scope.columns(), operator.why.as_deref().unwrap_or_default());
        let sql = format!(
            "UPDATE allowances SET revoked_by = $5, revoked_why = $6, revoked_at = now()
             WHERE {OF_SCOPE} AND allowance = $4 AND revoked_at IS NULL"
        );
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let allowance = allowance.to_string();
            let revoked = tx.execute(&sql, &[&server, &id, &slug, &allowance, &operator.who, &why]).await?;
            if revoked == 1 {
                let details = json!({ "allowance": allowance, "project_id": id });
                record(&tx, scope.actions().1, scope.subject(), operator, &details).await?;
            }
            commit(tx, TransactionKind::Operate).await?;
            Ok(revoked == 1)
        })
        .await
    }

    /// The record of one scope, the oldest first.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn recorded_allowances(&self, scope: &AllowanceScope) -> Result<Vec<RecordedAllowance>> {
        let (server, id, slug) = scope.columns();
        let sql = format!(
            "SELECT allowance, who, why, at, revoked_by, revoked_why, revoked_at FROM allowances
             WHERE {OF_SCOPE} ORDER BY number"
        );
        deadline(async {
            let client = self.client().await?;
            Ok(client.query(&sql, &[&server, &id, &slug]).await?.iter().map(recorded).collect())
        })
        .await
    }

    /// What this project is allowed on this server. What this version doesn't know isn't allowed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn allowances(&self, server: &ServerHandle, project: &Project) -> Result<Vec<Allowance>> {
        let sql = "SELECT DISTINCT allowance FROM allowances WHERE revoked_at IS NULL
                     AND (server = $1 OR (project_id = $2 AND project_slug = $3)) ORDER BY allowance";
        deadline(async {
            let client = self.client().await?;
            let rows = client.query(sql, &[&server.as_str(), &project.id.0, &project.slug.as_str()]).await?;
            Ok(rows.iter().filter_map(|row| row.get::<_, String>(0).parse().ok()).collect())
        })
        .await
    }
}

/// Rows of a scope in $1 to $3.
const OF_SCOPE: &str = "server IS NOT DISTINCT FROM $1 AND project_id IS NOT DISTINCT FROM $2
                        AND project_slug IS NOT DISTINCT FROM $3";

fn recorded(row: &Row) -> RecordedAllowance {
    let operator = |who: String, why: Option<String>| Operator::new(&who, why.as_deref().filter(|why| !why.is_empty()));
    let revoked = row.get::<_, Option<Timestamp>>("revoked_at").zip(row.get::<_, Option<String>>("revoked_by"));
    RecordedAllowance {
        allowance: row.get("allowance"),
        operator: operator(row.get("who"), row.get("why")),
        at: row.get("at"),
        revoked: revoked.map(|(at, who)| (operator(who, row.get("revoked_why")), at)),
    }
}
