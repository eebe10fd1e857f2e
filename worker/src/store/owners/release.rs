//! What the end of a deployment means for whose a slug and a repository are: proven by a success, and free again when
//! nothing of the project is left there, or never was.

use slipway_protocol::Action;

use crate::store::Result;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::seen::{SeenAtEnd, SeenDomains};

impl LockedDeployment<'_> {
    /// Notes what follows from the end of this deployment; `has_nothing`: though it began, nothing of it is on the server.
    pub(in crate::store) async fn settle_owned(
        &self,
        succeeded: bool,
        has_nothing: bool,
        seen: &SeenAtEnd,
    ) -> Result<()> {
        match (succeeded, self.head.action) {
            (true, Action::Undeploy) => self.release_removed().await?,
            // Proven with the end itself.
            (true, _) => {}
            (false, _) => self.release_untouched(has_nothing).await?,
        }
        if seen.domains != SeenDomains::None {
            self.settle_domains().await?;
        }
        match succeeded && self.head.action.deploys() && !seen.repository_is_stale {
            true => Ok(()),
            false => self.release_repository(succeeded).await,
        }
    }

    /// After an undeployment: data that were kept are the project's still, and so is the slug that names them.
    async fn release_removed(&self) -> Result<()> {
        let Some((slug, server, project)) = self.place() else { return Ok(()) };
        let sql = "DELETE FROM slug_owners WHERE server = $1 AND project_slug = $2 AND project_id = $3
                   AND ($4 OR coalesce((SELECT j.facts -> 'volumes_kept' = '[]' FROM stage_journal j
                       WHERE j.deployment_id = $5 AND j.stage = 'compose' AND j.outcome = 'done'
                       ORDER BY j.fence DESC LIMIT 1), false))";
        self.tx.execute(sql, &[&server, &slug, &project, &self.head.remove_volumes, &self.head.id.0]).await?;
        Ok(())
    }

    /// After a deployment that came to nothing: a slug that the project never had anything under. `has_nothing`: the server
    /// has it as another project's, or what was begun was taken away.
    async fn release_untouched(&self, has_nothing: bool) -> Result<()> {
        let Some((slug, server, project)) = self.place() else { return Ok(()) };
        let sql = "DELETE FROM slug_owners WHERE server = $1 AND project_slug = $2 AND project_id = $3
                       AND NOT proven AND former = '{}'
                       AND NOT EXISTS (SELECT FROM deployments d WHERE d.project_id = $3 AND d.project_slug = $2
                           AND d.server = $1 AND d.id <> $4 AND d.state IN ('pending', 'running'))
                       AND ($5 OR NOT EXISTS (SELECT FROM project_places p WHERE p.project_id = $3
                           AND p.project_slug = $2 AND p.server = $1 AND p.touched > coalesce(p.undeployed, 0)))";
        self.tx.execute(sql, &[&server, &slug, &project, &self.head.id.0, &has_nothing]).await?;
        Ok(())
    }

    /// A repository whose CI the project doesn't use any more: since it's on no server, since Slipway deploys its pushes,
    /// or since it's another one's now.
    async fn release_repository(&self, succeeded: bool) -> Result<()> {
        let Some((_, _, project)) = self.place() else { return Ok(()) };
        // What the project has elsewhere may be deployed by that CI still.
        let sql = "DELETE FROM repository_owners r USING deployments d WHERE d.id = $1 AND r.project_id = $2 AND (
                       NOT EXISTS (SELECT 1 FROM slug_owners s WHERE s.project_id = $2
                                   AND (d.action <> 'undeploy' OR NOT $3 OR s.server <> d.server))
                       OR ($3 AND d.action IN ('deploy', 'rollback', 'move') AND (r.repository <> lower(d.repository)
                           OR d.request #>> '{data,repository,pushes_deployed_by}' = 'webhook')
                           AND NOT EXISTS (SELECT 1 FROM slug_owners s
                               LEFT JOIN project_places p USING (project_id, project_slug, server)
                               CROSS JOIN LATERAL (
                                   SELECT o.repository, o.request FROM deployments o
                                   WHERE o.project_id = s.project_id AND o.arrival = coalesce(p.succeeded, (
                                       SELECT n.arrival FROM deployments n
                                       WHERE n.project_id = s.project_id AND n.server = s.server
                                         AND n.project_slug = s.project_slug AND n.request IS NOT NULL
                                         AND n.action IN ('deploy', 'rollback', 'move') ORDER BY n.arrival DESC LIMIT 1))
                                   LIMIT 1) o
                               WHERE s.project_id = $2 AND (s.server, s.project_slug) <> (d.server, d.project_slug)
                                 AND lower(o.repository) = r.repository
                                 AND o.request #>> '{data,repository,pushes_deployed_by}' IS DISTINCT FROM 'webhook')))";
        self.tx.execute(sql, &[&self.head.id.0, &project, &succeeded]).await?;
        Ok(())
    }

    fn place(&self) -> Option<(&str, &str, uuid::Uuid)> {
        let (project, server) = (self.head.project.as_ref()?, self.head.server.as_ref()?);
        Some((project.slug.as_str(), server.as_str(), project.id.0))
    }
}
