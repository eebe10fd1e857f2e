//! Where projects are, and were. The database keeps that itself, in `project_places` (see `V16__places.sql`), so that how
//! many deployments a project had doesn't matter here.

use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{DeploymentId, Project, ProjectId};
use tokio_postgres::Row;

use crate::store::connection::client::Statements;
use crate::store::connection::deadline::deadline;
use crate::store::connection::value::readable;
use crate::store::{Result, Store};

/// Where a project is, or was until it was undeployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectServer {
    /// The project; a slug may have belonged to several.
    pub project: Project,
    /// The server's handle.
    pub server: ServerHandle,
    /// Whether the project was undeployed from it since its last deployment, or its slug there is another one's by now.
    pub gone: bool,
}

/// Arrival of the last deployment that took project `$1`, by the slug `$2`, off server `$3`, or 0.
pub(in crate::store) const UNDEPLOYED: &str = "coalesce((SELECT p.undeployed FROM project_places p
     WHERE p.project_id = $1 AND p.project_slug = $2 AND p.server = $3), 0)";

/// The same for the place of deployment `d`.
pub(in crate::store) const LAST_UNDEPLOYMENT: &str = "coalesce((SELECT p.undeployed FROM project_places p
     WHERE p.project_id = d.project_id AND p.project_slug = d.project_slug AND p.server = d.server), 0)";

/// The places that something of a project may be at: `newest`, the arrival of the last deployment that began or waits to
/// begin there (a move, once it has succeeded), `present`, whether that came after the last undeployment, and `lost`, whether the slug there was handed
/// over since and nobody has it now: whoever got it has taken everything off, and nothing there is the project's.
pub(in crate::store) const PLACES: &str = "(
    SELECT p.project_id, p.project_slug, p.server, p.succeeded, p.undeployed,
        greatest(p.begun, waiting.arrival) AS newest,
        greatest(p.begun, waiting.arrival) > coalesce(p.undeployed, 0) AS present,
        coalesce(greatest(p.begun_at, waiting.accepted_at) <= p.lost_at, false) AND NOT EXISTS (
            SELECT FROM slug_owners o WHERE o.server = p.server AND o.project_slug = p.project_slug) AS lost
    FROM project_places p CROSS JOIN LATERAL (
        SELECT max(w.arrival) AS arrival, max(w.accepted_at) AS accepted_at FROM deployments w
        WHERE w.project_id = p.project_id AND w.project_slug = p.project_slug AND w.server = p.server
          AND w.state IN ('pending', 'running') AND w.request IS NOT NULL AND w.action IN ('deploy', 'rollback')) waiting
    WHERE p.begun IS NOT NULL OR waiting.arrival IS NOT NULL)";

/// As [`Store::places`].
pub(in crate::store) async fn places(client: &impl Statements, slug: &Slug) -> Result<Vec<ProjectServer>> {
    let sql = format!(
        "SELECT project_id, server, NOT present OR lost OR EXISTS (
             SELECT FROM slug_owners o WHERE o.server = p.server AND o.project_slug = $1
               AND o.project_id <> p.project_id) AS gone
         FROM {PLACES} p WHERE project_slug = $1 ORDER BY server, project_id"
    );
    let rows = client.rows(&sql, &[&slug.as_str()]).await?;
    let place = |row: &Row| {
        Ok(ProjectServer {
            project: Project { id: ProjectId(row.get("project_id")), slug: slug.clone() },
            server: readable("project_places", "server", ServerHandle::new(row.get::<_, String>("server")))?,
            gone: row.get("gone"),
        })
    };
    rows.iter().map(place).collect()
}

impl Store {
    /// Where the projects of this slug are and were.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn places(&self, slug: &Slug) -> Result<Vec<ProjectServer>> {
        deadline(async { places(&self.client().await?, slug).await }).await
    }

    /// The projects that live on a server, by their slugs.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn living_on(&self, server: &ServerHandle) -> Result<Vec<Project>> {
        deadline(async {
            let sql = "SELECT p.project_id, p.project_slug FROM project_places p
                       WHERE p.server = $1 AND p.succeeded > coalesce(p.undeployed, 0) AND NOT EXISTS (
                           SELECT FROM slug_owners o WHERE o.server = p.server AND o.project_slug = p.project_slug
                             AND o.project_id <> p.project_id)
                       ORDER BY p.project_slug, p.project_id";
            let rows = self.client().await?.query(sql, &[&server.as_str()]).await?;
            let project = |row: &Row| {
                let slug = readable("project_places", "project_slug", Slug::new(row.get::<_, String>("project_slug")))?;
                Ok(Project { id: ProjectId(row.get("project_id")), slug })
            };
            rows.iter().map(project).collect()
        })
        .await
    }

    /// The move of a project away from a server that hasn't ended, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_move(&self, project: &Project, from: &ServerHandle) -> Result<Option<DeploymentId>> {
        deadline(async {
            let sql = "SELECT id FROM deployments WHERE state IN ('pending', 'running') AND action = 'move'
                         AND project_slug = $2 AND project_id = $1 AND moves_from = $3 LIMIT 1";
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&project.id.0, &project.slug.as_str(), &from.as_str()];
            Ok(self.client().await?.query_opt(sql, &values).await?.map(|row| DeploymentId(row.get(0))))
        })
        .await
    }

    /// The projects that were ever requested with this slug, the latest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn projects_called(&self, slug: &Slug) -> Result<Vec<Project>> {
        deadline(async {
            let sql =
                "SELECT project_id FROM (SELECT DISTINCT project_id FROM project_places WHERE project_slug = $1) p
                       ORDER BY (SELECT d.arrival FROM deployments d WHERE d.project_id = p.project_id
                           ORDER BY d.arrival DESC LIMIT 1) DESC NULLS LAST, project_id";
            let rows = self.client().await?.query(sql, &[&slug.as_str()]).await?;
            let project = |row: &Row| Project { id: ProjectId(row.get(0)), slug: slug.clone() };
            Ok(rows.iter().map(project).collect())
        })
        .await
    }

    /// Whether another project, or this one on another server, lets CI of the same repository deploy: then GitHub's
    /// secrets aren't this one's alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shares_repository(&self, project: ProjectId, server: &ServerHandle) -> Result<bool> {
        deadline(async {
            let sql = "SELECT EXISTS (
                           SELECT FROM project_repositories own JOIN project_repositories o USING (repository)
                           WHERE own.project_id = $1 AND own.server = $2 AND (o.project_id, o.server) <> ($1, $2)
                             AND EXISTS (SELECT FROM github_digests g
                                 WHERE g.project_id = o.project_id AND g.server = o.server))
                         OR EXISTS (
                           SELECT FROM project_repositories own JOIN repository_owners r USING (repository)
                           WHERE own.project_id = $1 AND own.server = $2 AND r.project_id <> $1)";
            Ok(self.client().await?.query_one(sql, &[&project.0, &server.as_str()]).await?.get(0))
        })
        .await
    }
}
