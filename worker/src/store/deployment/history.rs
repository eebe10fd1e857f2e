//! The history of a deployment that is claimed: how old it is, and which of its stages are done.

use jiff::Timestamp;
use slipway_deploy::CompletedStages;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::readable;
use crate::store::deployment::lease::Lease;
use crate::store::{Result, Store};

/// Selects the deployments whose journals count for deployment `$1`: itself, and those that it resumes.
pub(in crate::store) const LINEAGE: &str = "WITH RECURSIVE lineage (id) AS (SELECT $1::uuid UNION SELECT d.resumes FROM lineage l \
     JOIN deployments d ON d.id = l.id WHERE d.resumes IS NOT NULL) SELECT id FROM lineage";

/// A deployment's past, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeploymentHistory {
    /// When this was read; ages count up to here.
    pub now: Timestamp,
    /// When its request was stored.
    pub accepted_at: Timestamp,
    /// When its first attempt began.
    pub started_at: Timestamp,
    /// Whether an operator sent it again: then the event's own time says nothing.
    pub replayed: bool,
    /// Whether it goes on where an earlier one failed.
    pub resumes: bool,
    /// Whether any stage of it has ever begun.
    pub begun: bool,
    /// Whether the release on the server is unproven, be it of this deployment or of one before it.
    pub unproven: bool,
}

/// What [`DeploymentHistory::read`] needs of a deployment `d`.
pub(in crate::store) const HISTORY_COLUMNS: &str = "now() AS now, accepted_at, coalesce(started_at, now()) AS started_at, replay_id IS NOT NULL AS replayed, \
     resumes IS NOT NULL AS resumes, EXISTS (SELECT 1 FROM stage_journal WHERE deployment_id = d.id) AS begun, \
     EXISTS (SELECT 1 FROM project_leases l WHERE l.project_slug = d.project_slug AND l.server = d.server AND l.unsettled) \
         AS unsettled";

impl DeploymentHistory {
    pub(in crate::store) fn read(row: &Row) -> Self {
        Self {
            now: row.get("now"),
            accepted_at: row.get("accepted_at"),
            started_at: row.get("started_at"),
            replayed: row.get("replayed"),
            resumes: row.get("resumes"),
            begun: row.get("begun"),
            unproven: row.get("unsettled"),
        }
    }
}

impl Store {
    /// The stages that the journal calls done for this very input, with the facts of their last end: in earlier
    /// attempts of this deployment, whoever made them, and in those that it resumes. Whether they're done still, only
    /// the server knows.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn completed_stages(&self, lease: &Lease, input_hash: &[u8]) -> Result<CompletedStages> {
        deadline(async {
            let client = self.client().await?;
            let rows = client
                .query(
                    &format!(
                        "SELECT DISTINCT ON (stage) stage, facts FROM ({LINEAGE}) lineage CROSS JOIN LATERAL (
                             SELECT * FROM stage_journal j WHERE j.deployment_id = lineage.id OFFSET 0) journal
                         WHERE input_hash = $2 AND outcome = 'done'
                           AND facts IS NOT NULL AND (deployment_id, fence) <> ($1, $3)
                         ORDER BY stage, outcome_at DESC"
                    ),
                    &[&lease.deployment.0, &input_hash, &lease.fence.get()],
                )
                .await?;
            let entry = |row: &Row| {
                let stage = readable("stage_journal", "stage", row.get::<_, &str>("stage").parse())?;
                let Json(facts) = readable("stage_journal", "facts", row.try_get("facts"))?;
                Ok((stage, facts))
            };
            rows.iter().map(entry).collect()
        })
        .await
    }
}
