//! What GitHub is known to hold of a project's secrets, as keyed digests: no value can be read from them.

use std::collections::BTreeMap;

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Project, ProjectId};

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::{Result, Store};

impl Store {
    /// Keyed digests of the GitHub secrets that were written for this project and server, by name. An
    /// empty one: an attempt began to write and never said how far it came.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn github_digests(&self, project: ProjectId, server: &ServerHandle) -> Result<BTreeMap<String, String>> {
        deadline(async {
            let client = self.client().await?;
            let rows = client
                .query(
                    "SELECT name, digest FROM github_digests WHERE project_id = $1 AND server = $2",
                    &[&project.0, &server.as_str()],
                )
                .await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
        })
        .await
    }

    /// Forgets what GitHub holds under `name`, so that the project's next deployment to `server` writes it anew; false,
    /// and nothing is forgotten, while somebody acts on the project there, who would only remember it again. Without
    /// the digest of `DEPLOY_SSH_KEY` that deployment makes a new deploy key, and the old one is refused from then on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_github_digest(
        &self,
        project: &Project,
        server: &ServerHandle,
        name: &str,
        operator: &Operator,
    ) -> Result<bool> {
        deadline(async {
            // A claim needs the lease's row as well, and so comes before this or after it.
            let sql = "WITH free AS (
                           SELECT 1 FROM project_leases
                           WHERE project_slug = $1 AND server = $2 AND expires_at <= now() FOR UPDATE),
                       forgotten AS (
                           DELETE FROM github_digests WHERE project_id = $3 AND name = $4 AND EXISTS (SELECT FROM free))
                       SELECT EXISTS (SELECT FROM free)";
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&project.slug.as_str(), &server.as_str(), &project.id.0, &name];
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            if !tx.query_one(sql, &values).await?.get::<_, bool>(0) {
                return Ok(false);
            }
            let subject = format!("{} on {server}", project.slug);
            let details = serde_json::json!({ "project_id": project.id, "secret": name });
            record(&tx, OperatorAction::RotateKey, &subject, operator, &details).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(true)
        })
        .await
    }

    /// Stores the digests of what GitHub holds after a stage that failed. Without them, a value that GitHub no longer
    /// holds could be taken for its present one.
    ///
    /// # Errors
    /// [`crate::store::StoreError::LeaseLost`], or when the database fails.
    pub async fn record_digests(
        &self,
        lease: &Lease,
        project: ProjectId,
        digests: &BTreeMap<String, String>,
    ) -> Result<()> {
        self.record_digests_of(lease, &lease.server, project, digests).await
    }

    /// As [`Store::record_digests`], where what GitHub holds is for another server than the attempt's: after a move that failed.
    ///
    /// # Errors
    /// As there.
    pub async fn record_digests_of(
        &self,
        lease: &Lease,
        server: &ServerHandle,
        project: ProjectId,
        digests: &BTreeMap<String, String>,
    ) -> Result<()> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            LockedDeployment::lock_leased(&tx, lease).await?;
            save_digests(&tx, project, server, digests).await?;
            commit(tx, TransactionKind::RecordProgress).await?;
            Ok(())
        })
        .await
    }
}

async fn save_digests(
    tx: &StoreTransaction<'_>,
    project: ProjectId,
    server: &ServerHandle,
    digests: &BTreeMap<String, String>,
) -> Result<()> {
    // A repository has one set of secrets, and it's this server's now: to go back to another, all must be written anew.
    tx.execute("DELETE FROM github_digests WHERE project_id = $1", &[&project.0]).await?;
    let names: Vec<&str> = digests.keys().map(String::as_str).collect();
    let values: Vec<&str> = digests.values().map(String::as_str).collect();
    tx.execute(
        "INSERT INTO github_digests (project_id, server, name, digest)
         SELECT $1, $2, * FROM unnest($3::text[], $4::text[])",
        &[&project.0, &server.as_str(), &names, &values],
    )
    .await?;
    Ok(())
}
