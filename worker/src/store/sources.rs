//! The operators' rules about which source may ask for what, and what is needed to judge a message by them.

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_protocol::{Action, DeploymentId, ProjectId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::scheduler::{Pattern, SourceScope};
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::client::Statements;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::{Result, Store};

/// A rule as it's stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRule {
    /// Its number.
    pub id: i64,
    /// What it allows.
    pub scope: SourceScope,
    /// Who made it, and why.
    pub added: SourceRuleChange,
    /// Who took it back, and why; absent while it holds.
    pub revoked: Option<SourceRuleChange>,
}

/// Who changed a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRuleChange {
    /// A person or a program.
    pub who: String,
    /// The reason that was given.
    pub why: String,
    /// When, by the database's clock.
    pub at: Timestamp,
}

/// What a deployment is about, for whoever asks to change it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentSubject {
    /// The project's slug.
    pub project: Option<String>,
    /// The repository.
    pub repository: Option<String>,
    /// The server's handle.
    pub server: Option<String>,
}

impl Store {
    /// The rules that hold, or with `revoked` all that ever did, in the order in which they were made.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn source_rules(&self, revoked: bool) -> Result<Vec<SourceRule>> {
        deadline(async {
            let client = self.client().await?;
            let sql = "SELECT * FROM source_rules WHERE $1 OR revoked_at IS NULL ORDER BY id";
            client.query(sql, &[&revoked]).await?.iter().map(rule).collect()
        })
        .await
    }

    /// Adds a rule, and records who did; gives its number.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn allow_source(&self, scope: &SourceScope, operator: &Operator) -> Result<i64> {
        deadline(async {
            let actions: Vec<&str> = scope.actions.iter().map(|action| action.as_str()).collect();
            let actions = (!actions.is_empty()).then_some(actions);
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let row = tx
                .query_one(
                    "INSERT INTO source_rules (source, amqp_user, projects, repositories, servers, actions, added_by,
                         added_because) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
                    &[
                        &scope.source.as_str(),
                        &scope.user,
                        &scope.projects.as_str(),
                        &scope.repositories.as_str(),
                        &scope.servers.as_str(),
                        &actions,
                        &operator.who,
                        &operator.why.as_deref().unwrap_or_default(),
                    ],
                )
                .await?;
            let id = row.get(0);
            record(&tx, OperatorAction::AllowSource, &subject(id, scope), operator, &facts(scope)).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(id)
        })
        .await
    }

    /// Takes a rule back, and records who did, and what it allowed; false when none of this number holds.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn revoke_source(&self, id: i64, operator: &Operator) -> Result<bool> {
        deadline(async {
            let sql = "UPDATE source_rules SET revoked_by = $2, revoked_because = $3, revoked_at = now()
                       WHERE id = $1 AND revoked_at IS NULL RETURNING *";
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let why = operator.why.as_deref().unwrap_or_default();
            let Some(row) = tx.query_opt(sql, &[&id, &operator.who, &why]).await? else { return Ok(false) };
            let was = scope(&row)?;
            record(&tx, OperatorAction::RevokeSource, &subject(id, &was), operator, &facts(&was)).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(true)
        })
        .await
    }

    /// What a deployment is about; `None` when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deployment_subject(&self, id: DeploymentId) -> Result<Option<DeploymentSubject>> {
        deadline(async {
            let sql = "SELECT project_slug, repository, server FROM deployments WHERE id = $1";
            let row = self.client().await?.query_opt(sql, &[&id.0]).await?;
            Ok(row.as_ref().map(deployment_subject))
        })
        .await
    }

    /// What a project's last accepted request was about; `None` when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn project_subject(&self, project: ProjectId) -> Result<Option<DeploymentSubject>> {
        deadline(async {
            let sql = "SELECT project_slug, repository, server FROM deployments
                       WHERE project_id = $1 AND request IS NOT NULL ORDER BY arrival DESC LIMIT 1";
            let row = self.client().await?.query_opt(sql, &[&project.0]).await?;
            Ok(row.as_ref().map(deployment_subject))
        })
        .await
    }

    /// The user who sent what an operator has replayed under this id; the outer `None` when nobody has. A message can say
    /// by itself that it's a replay: so it must be the very bytes, which do nothing when they come twice.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sender_of_replay(&self, replay: Uuid, body: &[u8]) -> Result<Option<Option<String>>> {
        deadline(async {
            let sql = "SELECT amqp_user FROM dead_letters WHERE replayed_as = $1 AND body = $2";
            Ok(self.client().await?.query_opt(sql, &[&replay, &body]).await?.map(|row| row.get(0)))
        })
        .await
    }

    /// The user who sent what an operator has edited and sent again as the event `id` of `source`; the outer `None` when
    /// nobody has.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sender_of_edited(&self, id: Uuid, source: &str) -> Result<Option<Option<String>>> {
        deadline(async {
            let sql = "SELECT l.amqp_user FROM dead_letters l JOIN deployments d ON d.id = l.deployment_id
                       WHERE l.replayed_as = $1 AND d.source = $2";
            Ok(self.client().await?.query_opt(sql, &[&id, &source]).await?.map(|row| row.get(0)))
        })
        .await
    }
}

fn deployment_subject(row: &Row) -> DeploymentSubject {
    let text = |column: &str| row.get(column);
    DeploymentSubject { project: text("project_slug"), repository: text("repository"), server: text("server") }
}

/// The scopes of the rules that hold.
pub(in crate::store) async fn scopes(client: &impl Statements) -> Result<Vec<SourceScope>> {
    let rows = client.rows("SELECT * FROM source_rules WHERE revoked_at IS NULL ORDER BY id", &[]).await?;
    rows.iter().map(scope).collect()
}

/// A rule as the record names it: found by its number and by its source.
fn subject(id: i64, scope: &SourceScope) -> String {
    format!("rule {id} of {}", scope.source.as_str())
}

/// What a rule allows, for the record.
fn facts(scope: &SourceScope) -> Value {
    json!({
        "user": scope.user,
        "projects": scope.projects.as_str(),
        "repositories": scope.repositories.as_str(),
        "servers": scope.servers.as_str(),
        "actions": scope.actions,
    })
}

fn scope(row: &Row) -> Result<SourceScope> {
    const TABLE: &str = "source_rules";
    let pattern = |column: &'static str| readable(TABLE, column, Pattern::new(row.get::<_, String>(column)));
    let actions = row.get::<_, Option<Vec<String>>>("actions").unwrap_or_default();
    let action = |name: &String| readable(TABLE, "actions", name.parse::<Action>());
    Ok(SourceScope {
        source: pattern("source")?,
        user: row.get("amqp_user"),
        projects: pattern("projects")?,
        repositories: pattern("repositories")?,
        servers: pattern("servers")?,
        actions: actions.iter().map(action).collect::<Result<_>>()?,
    })
}

pub(in crate::store) fn rule(row: &Row) -> Result<SourceRule> {
    let revoked = row.get::<_, Option<Timestamp>>("revoked_at").map(|at| SourceRuleChange {
        who: row.get::<_, Option<String>>("revoked_by").unwrap_or_default(),
        why: row.get::<_, Option<String>>("revoked_because").unwrap_or_default(),
        at,
    });
    let added = SourceRuleChange { who: row.get("added_by"), why: row.get("added_because"), at: row.get("added_at") };
    Ok(SourceRule { id: row.get("id"), scope: scope(row)?, added, revoked })
}
