//! What is asked of the database at the end of a deployment, in one question.

use slipway_protocol::Exposed;
use tokio_postgres::types::Json;

use crate::store::Result;
use crate::store::deployment::history::LINEAGE;
use crate::store::deployment::locked::LockedDeployment;

/// What is asked at the end of a deployment.
pub(in crate::store) struct SeenAtEnd {
    /// Whether any stage changed anything, or may have.
    pub changed: bool,
    /// What was found to be reachable, by stage verify if it came that far.
    pub exposed: Vec<Exposed>,
    /// Whether the project has the CI of a repository that it may not use any more.
    pub repository_is_stale: bool,
    /// Whether Slipway deploys pushes of the project itself.
    pub is_watched: bool,
    /// Whether the project was ever asked for on another server.
    pub was_elsewhere: bool,
}

impl LockedDeployment<'_> {
    /// What the journals of this deployment, and of those that it resumes, say, and what there is to settle. Facts that can't
    /// be read are no reason not to end.
    pub(in crate::store) async fn seen(&self) -> Result<SeenAtEnd> {
        // The last attempt may have found all of it done, or may have changed something in a stage that it didn't finish.
        let sql = format!(
            "WITH journal AS MATERIALIZED (
                 SELECT stage, change, outcome, outcome_at, facts -> $2 AS exposed FROM stage_journal
                 WHERE deployment_id IN ({LINEAGE}))
             SELECT EXISTS (SELECT 1 FROM journal WHERE change = 'changed' OR (outcome IS DISTINCT FROM 'done'
                        AND stage NOT IN ('preflight', 'verify'))) AS changed,
                 (SELECT exposed FROM journal WHERE stage IN ('firewall', 'verify') AND exposed IS NOT NULL
                  ORDER BY outcome_at DESC LIMIT 1) AS exposed,
                 EXISTS (SELECT FROM repository_owners r WHERE r.project_id = d.project_id
                         AND (r.repository IS DISTINCT FROM lower(d.repository)
                              OR d.request #>> '{{data,repository,pushes_deployed_by}}' = 'webhook'
                              OR NOT EXISTS (SELECT FROM slug_owners s WHERE s.project_id = d.project_id)))
                     AS repository_is_stale,
                 EXISTS (SELECT FROM watched_branches w WHERE w.project_id = d.project_id) AS is_watched,
                 EXISTS (SELECT FROM project_places p WHERE p.project_slug = d.project_slug
                         AND p.project_id = d.project_id AND p.server <> d.server) AS was_elsewhere
             FROM deployments d WHERE d.id = $1"
        );
        let row = self.tx.query_one(&sql, &[&self.head.id.0, &Exposed::FACT]).await?;
        let exposed = row.try_get::<_, Option<Json<_>>>("exposed").ok().flatten().map(|Json(exposed)| exposed);
        Ok(SeenAtEnd {
            changed: row.get("changed"),
            exposed: exposed.unwrap_or_default(),
            repository_is_stale: row.get("repository_is_stale"),
            is_watched: row.get("is_watched"),
            was_elsewhere: row.get("was_elsewhere"),
        })
    }
}
