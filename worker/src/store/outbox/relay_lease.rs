//! The relay's lease: one relay at a time publishes what the outbox holds. Its fence is checked when rows are marked.

use std::time::Duration;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::seconds;
use crate::store::{Result, Store};

/// The right to publish what the outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLease {
    pub(in crate::store) fence: i64,
}

impl Store {
    /// Renews the relay's lease for `span`, or takes it when none is held; `None` when another process has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_or_renew_relay_lease(
        &self,
        held: Option<RelayLease>,
        span: Duration,
    ) -> Result<Option<RelayLease>> {
        deadline(async {
            let held = held.map_or(0, |l| l.fence);
            // A renewal keeps its fence; whoever takes the lease, or gives it back, raises it.
            let row = self
                .client()
                .await?
                .query_opt(
                    "INSERT INTO relay_lease AS l (owner, fence, expires_at, renders)
                         VALUES ($1, 1, now() + $3 * interval '1 second', true)
                     ON CONFLICT (the_one) DO UPDATE SET owner = $1, expires_at = now() + $3 * interval '1 second',
                         fence = CASE WHEN l.fence = $2 THEN l.fence ELSE l.fence + 1 END
                         WHERE CASE WHEN $2 = 0 THEN l.expires_at <= now() ELSE l.fence = $2 END
                     RETURNING fence",
                    &[&self.name, &held, &seconds(span)],
                )
                .await?;
            Ok(row.map(|row| RelayLease { fence: row.get(0) }))
        })
        .await
    }

    /// Gives the relay's lease back, so that another process needn't wait for its end. A renewal that is still under
    /// way finds another fence.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_relay_lease(&self, lease: RelayLease) -> Result<()> {
        deadline(async {
            self.client()
                .await?
                .execute(
                    "UPDATE relay_lease SET fence = fence + 1, expires_at = now() WHERE fence = $1",
                    &[&lease.fence],
                )
                .await?;
            Ok(())
        })
        .await
    }
}
