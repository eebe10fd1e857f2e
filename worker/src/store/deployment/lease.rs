//! The lease of a project on a server: its owner, a fence that grows with each claim, and an expiry by the database's
//! clock. It is acquired, renewed and released here, and every write of a running attempt is checked against it. Locks
//! are taken in one order everywhere: the deployment's row, then the lease's.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_protocol::DeploymentId;
use slipway_protocol::names::{ServerHandle, Slug};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::connection::client::StatementValues;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::seconds;
use crate::store::deployment::basis::{BASIS_COLUMNS, ClaimBasis};
use crate::store::deployment::head::{DeploymentHead, HEAD_COLUMNS};
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::State;
use crate::store::{Result, Store, StoreError};

/// The number of a claim, growing for ever: of two that act on one project, the higher one is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub(in crate::store) i64);

impl Fence {
    /// The number, as it's stored and as servers compare it.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// The right to act on one project on one server, as long as it's renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The deployment that claimed it.
    pub deployment: DeploymentId,
    /// The project's directory.
    pub slug: Slug,
    /// The server that it's valid for; on another one the project has another lease.
    pub server: ServerHandle,
    /// The number of the claim.
    pub fence: Fence,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

/// What a renewal of the lease tells its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewOutcome {
    /// Nothing: it goes on.
    GoOn,
    /// Somebody asked to cancel it.
    Cancel,
}

impl Store {
    /// Acquires the leases of the projects that are `due` with their next fences; without those where somebody was faster. They
    /// last from now on, however long their claim has waited for others.
    /// With each comes what its attempt needs.
    ///
    /// Servers remember the highest fence that they have seen and refuse lower ones. A database that was restored from
    /// a backup, or begun anew, has forgotten what it gave away since: fences therefore follow the clock as well, so
    /// that its next one is higher than any that a server may remember. Claims of one project come seconds apart.
    pub(super) async fn acquire_leases(
        &self,
        tx: &StoreTransaction<'_>,
        due: &[(DeploymentHead, Row)],
        span: Duration,
    ) -> Result<Vec<(Lease, Option<ClaimBasis>)>> {
        let places: BTreeMap<DeploymentId, (&DeploymentHead, &Slug, &ServerHandle)> = due
            .iter()
            .filter_map(|(head, _)| Some((head.id, (head, &head.project.as_ref()?.slug, head.server.as_ref()?))))
            .collect();
        let ids: Vec<Uuid> = places.keys().map(|id| id.0).collect();
        let sql = format!(
            "WITH due AS MATERIALIZED (
                 SELECT id, project_id, project_slug, server, moves_from FROM deployments WHERE id = ANY($1)),
             acquired AS (
                 INSERT INTO project_leases AS l (project_slug, server, owner, fence, expires_at)
                     -- A move acts on two servers, by one number.
                     SELECT project_slug, server, $2, greatest(extract(epoch FROM now())::bigint, (
                         SELECT f.fence + 1 FROM project_leases f
                         WHERE f.project_slug = due.project_slug AND f.server = due.moves_from)),
                         clock_timestamp() + $3 * interval '1 second'
                     FROM due
                 ON CONFLICT (project_slug, server) DO UPDATE
                     SET owner = $2, fence = greatest(l.fence + 1, excluded.fence), expires_at = clock_timestamp() + $3 * interval '1 second'
                     WHERE l.expires_at <= now()
                 RETURNING project_slug, server, fence),
             left_behind AS (
                 UPDATE project_leases f SET fence = a.fence FROM due JOIN acquired a USING (project_slug, server)
                 WHERE f.project_slug = due.project_slug AND f.server = due.moves_from AND f.fence < a.fence)
             SELECT due.id, l.fence, {BASIS_COLUMNS}
             FROM due JOIN acquired l USING (project_slug, server) LEFT JOIN servers ON servers.handle = due.server"
        );
        let rows = tx.query(&sql, &[&ids, &self.name, &seconds(span)]).await?;
        let lease = |row: &Row| {
            let (head, slug, server) = *places.get(&DeploymentId(row.get("id")))?;
            let (fence, attempt) = (Fence(row.get("fence")), head.attempt + 1);
            let lease = Lease { deployment: head.id, slug: slug.clone(), server: server.clone(), fence, attempt };
            // What can't be read is read, and told, by the attempt itself.
            Some((lease, ClaimBasis::read(row).ok()))
        };
        Ok(rows.iter().filter_map(lease).collect())
    }

    /// Renews the lease for `span` from now, and tells whether somebody asked to cancel the deployment. An expired or
    /// released lease isn't revived, not even by a renewal that began in time and waited for the row's lock: hence
    /// `clock_timestamp()`, and not `now()`, which is the time at which the transaction began.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`], or when the database fails.
    pub async fn renew(&self, lease: &Lease, span: Duration) -> Result<RenewOutcome> {
        deadline(async {
            let renewed = self
                .vital_client()
                .await?
                .query_opt(
                    "UPDATE project_leases l SET expires_at = now() + $4 * interval '1 second' FROM deployments d
                     WHERE l.project_slug = $1 AND l.server = $2 AND l.fence = $3 AND l.expires_at > clock_timestamp()
                       AND d.id = $5
                     RETURNING d.cancel_requested_at IS NOT NULL",
                    &[
                        &lease.slug.as_str(),
                        &lease.server.as_str(),
                        &lease.fence.0,
                        &seconds(span),
                        &lease.deployment.0,
                    ],
                )
                .await?;
            match renewed {
                Some(row) if row.get(0) => Ok(RenewOutcome::Cancel),
                Some(_) => Ok(RenewOutcome::GoOn),
                None => Err(StoreError::LeaseLost),
            }
        })
        .await
    }
}

impl<'t> LockedDeployment<'t> {
    /// Locks the deployment of a running attempt, if its lease is still the newest: the deployment first, as everywhere.
    pub(in crate::store) async fn lock_leased(tx: &'t StoreTransaction<'t>, lease: &Lease) -> Result<Self> {
        let sql = format!(
            "WITH deployment AS MATERIALIZED (SELECT {HEAD_COLUMNS} FROM deployments WHERE id = $1 FOR UPDATE),
                 lease AS MATERIALIZED (
                     SELECT fence FROM project_leases WHERE project_slug = $2 AND server = $3 AND fence = $4
                       AND EXISTS (SELECT FROM deployment) FOR SHARE)
             SELECT d.*, EXISTS (SELECT FROM lease) AS newest FROM deployment d"
        );
        let fence = lease.fence.0;
        let values: StatementValues<'_> = &[&lease.deployment.0, &lease.slug.as_str(), &lease.server.as_str(), &fence];
        let row = tx.query_opt(&sql, values).await?.ok_or(StoreError::LeaseLost)?;
        let head = DeploymentHead::read(&row)?;
        let ours = head.state == State::Running && head.fence == Some(fence) && row.get("newest");
        if ours { Ok(Self { tx, head }) } else { Err(StoreError::LeaseLost) }
    }
}

impl LockedDeployment<'_> {
    /// Whether somebody has the lease for it: looked at under the lease's lock, since a renewal may just have been committed.
    pub(in crate::store) async fn is_acted_on(&self) -> Result<bool> {
        let sql = "SELECT expires_at > now() FROM project_leases
                   WHERE project_slug = $1 AND server = $2 AND fence = $3 FOR UPDATE";
        let slug = self.head.project.as_ref().map(|project| project.slug.as_str());
        let server = self.head.server.as_ref().map(ServerHandle::as_str);
        let row = self.tx.query_opt(sql, &[&slug, &server, &self.head.fence]).await?;
        Ok(self.head.state == State::Running && row.is_some_and(|row| row.get(0)))
    }

    /// Gives the project's lease back, if it's still this deployment's.
    pub(in crate::store) async fn release(&self) -> Result<(), StoreError> {
        let (Some(project), Some(server), Some(fence)) = (&self.head.project, &self.head.server, self.head.fence)
        else {
            return Ok(());
        };
        self.tx
            .execute(
                "UPDATE project_leases SET expires_at = now()
                 WHERE project_slug = $1 AND server = $2 AND fence = $3",
                &[&project.slug.as_str(), &server.as_str(), &fence],
            )
            .await?;
        // Another deployment of this project may have waited for it.
        self.tx.wake_after_attempt().await
    }
}
