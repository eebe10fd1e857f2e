//! The relay's lease: one relay at a time publishes what the outbox holds. Its fence is checked when rows are marked.
//! Each renewal is a notification as well, so that those who would take it next needn't ask.

use std::time::Duration;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, seconds};
use crate::store::connection::wakeups::{GIVEN_BACK, RELAY};
use crate::store::{Result, Store};

/// The right to publish what the outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLease {
    pub(in crate::store) fence: i64,
}

/// What was found when the relay's lease was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayStanding {
    /// The lease, if it's this process's now.
    pub lease: Option<RelayLease>,
    /// How long another process may have it yet.
    pub left: Duration,
    /// Whether anything waits to be published.
    pub waiting: bool,
}

impl Store {
    /// Renews the relay's lease for `span`, or takes it when nobody holds it. Where another process has it, nothing is
    /// written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_or_renew_relay_lease(&self, held: Option<RelayLease>, span: Duration) -> Result<RelayStanding> {
        deadline(async {
            let held = held.map_or(0, |l| l.fence);
            // A renewal keeps its fence; whoever takes the lease, or gives it back, raises it. A relay of a version that
            // can't make messages of what a step tells can't name the column `splits`, and gets no lease.
            let row = self
                .vital_client()
                .await?
                .query_one(
                    "WITH before AS (SELECT extract(epoch FROM expires_at - now())::float8 AS left FROM relay_lease),
                     taken AS (
                         INSERT INTO relay_lease AS l (owner, fence, expires_at, renders, splits)
                             SELECT $1, 1, now() + $3 * interval '1 second', true, true
                             WHERE $2::bigint <> 0 OR NOT EXISTS (SELECT 1 FROM before WHERE before.left > 0)
                         ON CONFLICT (the_one) DO UPDATE SET owner = $1, expires_at = now() + $3 * interval '1 second',
                             fence = CASE WHEN l.fence = $2 THEN l.fence ELSE l.fence + 1 END
                             WHERE CASE WHEN $2 = 0 THEN l.expires_at <= now() ELSE l.fence = $2 END
                         RETURNING fence)
                     SELECT (SELECT fence FROM taken), coalesce((SELECT before.left FROM before), 0),
                         EXISTS (SELECT 1 FROM outbox WHERE published_at IS NULL AND set_aside_at IS NULL),
                         (SELECT pg_notify($4, '') FROM taken)::text",
                    &[&self.name, &held, &seconds(span), &RELAY],
                )
                .await?;
            let lease = row.get::<_, Option<i64>>(0).map(|fence| RelayLease { fence });
            Ok(RelayStanding { lease, left: duration(row.get(1)), waiting: row.get(2) })
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
            self.vital_client()
                .await?
                .query_opt(
                    "WITH given_back AS (
                         UPDATE relay_lease SET fence = fence + 1, expires_at = now() WHERE fence = $1 RETURNING fence)
                     SELECT pg_notify($2, $3)::text FROM given_back",
                    &[&lease.fence, &RELAY, &GIVEN_BACK],
                )
                .await?;
            Ok(())
        })
        .await
    }
}
