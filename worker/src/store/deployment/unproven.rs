//! Whether the release on a server is unproven: it is from the first stage that touches the server until the release
//! has proven itself or the previous one is restored. A flag beside the project's lease says so and outlives
//! deployments: each that ends may be the one that has to restore what another one left.

use slipway_protocol::{Action, DeploymentId, Stage};

use crate::store::connection::deadline::deadline;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::{Result, Store};

/// Whether the release is unproven once `action` has begun `stage`.
pub(crate) fn leaves_unproven(action: Action, stage: Stage) -> bool {
    action.deploys() && stage != Stage::Preflight
}

impl LockedDeployment<'_> {
    /// Whether the release is unproven and no other deployment acts on the project.
    pub(in crate::store) async fn is_left_unproven(&self) -> Result<bool> {
        let Some((slug, server)) = self.slug_and_server() else { return Ok(false) };
        let row = self
            .tx
            .query_one(
                "SELECT EXISTS (SELECT 1 FROM project_leases WHERE project_slug = $1 AND server = $2 AND unsettled)
                    AND NOT EXISTS (SELECT 1 FROM deployments
                                    WHERE state = 'running' AND project_slug = $1 AND server = $2 AND id <> $3)",
                &[&slug, &server, &self.head.id.0],
            )
            .await?;
        Ok(row.get(0))
    }

    /// Whether the previous release has to be restored before this deployment ends for the sake of `by`.
    pub(in crate::store) async fn must_restore_before(&self, by: DeploymentId) -> Result<bool> {
        let Some((slug, server)) = self.slug_and_server() else { return Ok(false) };
        // What a move leaves is on two servers, and nothing else takes that over.
        let is_taken_over = self.head.moves.is_none()
            && self.tx.query_one(TAKES_OVER, &[&by.0, &slug, &server]).await?.get::<_, bool>(0);
        Ok(!is_taken_over && self.is_left_unproven().await?)
    }

    fn slug_and_server(&self) -> Option<(&str, &str)> {
        Some((self.head.project.as_ref()?.slug.as_str(), self.head.server.as_ref()?.as_str()))
    }
}

const TAKES_OVER: &str =
    "SELECT EXISTS (SELECT 1 FROM deployments WHERE id = $1 AND project_slug = $2 AND server = $3)";

impl Store {
    /// Whether deployment `by` will act on the same project and server as `lease`, and so takes over what was left
    /// there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn takes_over(&self, by: DeploymentId, lease: &Lease) -> Result<bool> {
        deadline(async {
            let (slug, server) = (lease.slug.as_str(), lease.server.as_str());
            Ok(self.client().await?.query_one(TAKES_OVER, &[&by.0, &slug, &server]).await?.get(0))
        })
        .await
    }
}
