//! What is asked of the database at the end of a deployment, in one question.

use std::collections::BTreeMap;

use serde::Deserialize;
use slipway_protocol::{Exposed, MoveReport, VolumeName};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::store::connection::transaction::StoreTransaction;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::{Result, StoreError};

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
    /// What a move has measured.
    pub moved: Option<MeasuredMove>,
    /// The domains that the project has.
    pub domains: SeenDomains,
}

/// What a move has measured, as the fact [`MoveReport::FACT`] of its stages has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(in crate::store) struct MeasuredMove {
    pub gap_ms: u64,
    pub bytes: u64,
    pub volumes: Vec<VolumeName>,
    #[serde(default)]
    pub left_volumes: Vec<String>,
}

/// The domains that a project has at the end of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SeenDomains {
    /// None.
    None,
    /// Those of the deployment's request, or some of them.
    Requested,
    /// Others as well.
    Others,
}

/// What the journals of these deployments, and of those that they resume, say, and what there is to settle.
const SEEN: &str = "
    SELECT d.id, journal.*,
        EXISTS (SELECT FROM repository_owners r WHERE r.project_id = d.project_id
                AND (r.repository IS DISTINCT FROM lower(d.repository)
                     OR d.request #>> '{data,repository,pushes_deployed_by}' = 'webhook'
                     OR NOT EXISTS (SELECT FROM slug_owners s WHERE s.project_id = d.project_id))) AS repository_is_stale,
        EXISTS (SELECT FROM watched_branches w WHERE w.project_id = d.project_id) AS is_watched,
        EXISTS (SELECT FROM project_places p WHERE p.project_slug = d.project_slug
                AND p.project_id = d.project_id AND p.server <> d.server) AS was_elsewhere,
        (SELECT bool_or(NOT coalesce(d.request #> '{data,allocations}', '[]') @>
                    jsonb_build_array(jsonb_build_object('domains', jsonb_build_array(o.domain))))
         FROM domains o WHERE o.project_id = d.project_id) AS has_other_domains
    FROM deployments d CROSS JOIN LATERAL (
        WITH RECURSIVE lineage (id) AS (
            SELECT d.id UNION
            SELECT p.resumes FROM lineage l JOIN deployments p ON p.id = l.id WHERE p.resumes IS NOT NULL)
        SELECT coalesce(bool_or(change = 'changed' OR (outcome IS DISTINCT FROM 'done'
                AND stage NOT IN ('preflight', 'verify'))), false) AS changed,
            (array_agg(facts -> $2 ORDER BY outcome_at DESC)
                FILTER (WHERE stage IN ('firewall', 'verify') AND facts -> $2 IS NOT NULL))[1] AS exposed,
            (array_agg(facts -> $3 ORDER BY outcome_at DESC)
                FILTER (WHERE stage = 'verify' AND facts -> $3 IS NOT NULL))[1] AS moved
        FROM lineage CROSS JOIN LATERAL (
            SELECT * FROM stage_journal j WHERE j.deployment_id = lineage.id OFFSET 0) each) journal
    WHERE d.id = ANY($1)";

impl SeenAtEnd {
    /// What there is to see of these deployments, by their ids. The last attempt may have found all of it done, or may have
    /// changed something in a stage that it didn't finish. Facts that can't be read are no reason not to end.
    pub(in crate::store) async fn of(tx: &StoreTransaction<'_>, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Self>> {
        let rows = tx.query(SEEN, &[&ids, &Exposed::FACT, &MoveReport::FACT]).await?;
        Ok(rows.iter().map(|row| (row.get("id"), Self::read(row))).collect())
    }

    fn read(row: &Row) -> Self {
        let exposed = row.try_get::<_, Option<Json<_>>>("exposed").ok().flatten().map(|Json(exposed)| exposed);
        Self {
            changed: row.get("changed"),
            exposed: exposed.unwrap_or_default(),
            moved: row.try_get::<_, Option<Json<_>>>("moved").ok().flatten().map(|Json(moved)| moved),
            repository_is_stale: row.get("repository_is_stale"),
            is_watched: row.get("is_watched"),
            was_elsewhere: row.get("was_elsewhere"),
            domains: match row.get::<_, Option<bool>>("has_other_domains") {
                None => SeenDomains::None,
                Some(false) => SeenDomains::Requested,
                Some(true) => SeenDomains::Others,
            },
        }
    }
}

impl LockedDeployment<'_> {
    /// As [`SeenAtEnd::of`], for this one.
    pub(in crate::store) async fn seen(&self) -> Result<SeenAtEnd> {
        SeenAtEnd::of(self.tx, &[self.head.id.0]).await?.remove(&self.head.id.0).ok_or(StoreError::LeaseLost)
    }
}
