//! Renewing the leases of all of a worker's attempts at once: a worker with a thousand of them asks no more often than one
//! with one, and its renewals don't stand in line.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::seconds;
use crate::store::deployment::lease::{Lease, RenewOutcome};
use crate::store::{Result, Store};

/// What became of one of many leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRenewal {
    /// It's renewed.
    Renewed(RenewOutcome),
    /// Somebody has its row locked, which isn't waited for; it's held as long as it was before.
    Busy,
    /// It's somebody else's, given back, or expired.
    Lost,
}

impl Store {
    /// As [`Store::renew`], of all these at once; what became of each stands at its place. One whose row is locked by somebody
    /// else is left out, so that it doesn't hold up the others.
    ///
    /// # Errors
    /// When the database fails: then it isn't known of any.
    pub async fn renew_many(&self, leases: &[Lease], span: Duration) -> Result<Vec<LeaseRenewal>> {
        let slugs: Vec<&str> = leases.iter().map(|lease| lease.slug.as_str()).collect();
        let servers: Vec<&str> = leases.iter().map(|lease| lease.server.as_str()).collect();
        let fences: Vec<i64> = leases.iter().map(|lease| lease.fence.0).collect();
        let deployments: Vec<Uuid> = leases.iter().map(|lease| lease.deployment.0).collect();
        deadline(async {
            // Those that were renewed come first, since they are still held as well.
            let sql = "WITH asked AS MATERIALIZED (
                     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[])
                         WITH ORDINALITY AS asked (slug, server, fence, deployment, place)),
                 free AS MATERIALIZED (
                     SELECT l.project_slug, l.server, a.place, d.cancel_requested_at IS NOT NULL AS cancel
                     FROM asked a JOIN project_leases l ON l.project_slug = a.slug AND l.server = a.server AND l.fence = a.fence
                         JOIN deployments d ON d.id = a.deployment
                     FOR NO KEY UPDATE OF l SKIP LOCKED),
                 renewed AS (
                     UPDATE project_leases l SET expires_at = now() + $5 * interval '1 second' FROM free f
                     WHERE l.project_slug = f.project_slug AND l.server = f.server AND l.expires_at > clock_timestamp()
                     RETURNING f.place, f.cancel)
                 SELECT place, cancel, true FROM renewed
                 UNION ALL
                 SELECT a.place, false, false
                 FROM asked a JOIN project_leases l ON l.project_slug = a.slug AND l.server = a.server AND l.fence = a.fence
                 WHERE l.expires_at > clock_timestamp()";
            let rows = self
                .renewal_client()
                .await?
                .query(sql, &[&slugs, &servers, &fences, &deployments, &seconds(span)])
                .await?;
            let mut became = HashMap::new();
            for row in &rows {
                let renewal = match (row.get(2), row.get(1)) {
                    (true, true) => LeaseRenewal::Renewed(RenewOutcome::Cancel),
                    (true, false) => LeaseRenewal::Renewed(RenewOutcome::GoOn),
                    (false, _) => LeaseRenewal::Busy,
                };
                let kept = became.entry(row.get::<_, i64>(0)).or_insert(renewal);
                if renewal != LeaseRenewal::Busy {
                    *kept = renewal;
                }
            }
            Ok((1..).take(leases.len()).map(|place| became.get(&place).copied().unwrap_or(LeaseRenewal::Lost)).collect())
        })
        .await
    }
}
