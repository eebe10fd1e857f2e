//! Messages that were sent, and that the database fails to mark as published though it answers others. They are held, so that
//! nobody sends them again, nor those beside them, and marked later.

use std::time::Duration;

use slipway_protocol::DeploymentId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::{duration, seconds};
use crate::store::holding::{delays_after, next_try};
use crate::store::outbox::rows::{PublishOutcome, marking};
use crate::store::{Result, Store, StoreError};

/// So long one worker has for a try before another one begins.
const MARK_LEASE: Duration = Duration::from_secs(90);
/// So many are tried when one of them has succeeded that failed as they did.
const TRIED_AT_ONCE: i64 = 100;

/// After so many failures, one after the other, the rest isn't tried now.
const FAILURES: usize = 3;

/// What is held, taken to be marked.
struct HeldMark {
    sent: PublishOutcome,
    deployment: Option<DeploymentId>,
}

impl Store {
    /// Holds what was sent and can't be marked, and with `follows` only where more of its deployment is held; false when it isn't.
    /// Once this has returned true, nobody sends it again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_marks(
        &self,
        sent: &[PublishOutcome],
        deployment: Option<DeploymentId>,
        error: &StoreError,
        follows: bool,
    ) -> Result<bool> {
        let (reason, delays) = (error.summary(), delays_after(error));
        let positions: Vec<i64> = sent.iter().map(|sent| sent.position).collect();
        let unrouted: Vec<bool> = sent.iter().map(|sent| !sent.routed).collect();
        let (first, later) = (next_try("1", "$5"), next_try("h.tries + 1", "$5"));
        let sql = format!(
            "INSERT INTO held_marks AS h (position, deployment_id, project_slug, unrouted, reason, next_try_at)
                 SELECT position, $3, (SELECT project_slug FROM deployments WHERE id = $3), unrouted, $4, {first}
                 FROM unnest($1::bigint[], $2::boolean[]) AS sent (position, unrouted)
                 WHERE NOT $6 OR EXISTS (SELECT FROM held_marks WHERE deployment_id = $3)
                 ON CONFLICT (position) DO UPDATE SET
                     tries = h.tries + 1, reason = excluded.reason, next_try_at = {later}"
        );
        deadline(async {
            let deployment = deployment.map(|id| id.0);
            let client = self.client().await?;
            let held = client.execute(&sql, &[&positions, &unrouted, &deployment, &reason, &delays, &follows]).await?;
            self.heard.held.notify_one();
            Ok(held > 0)
        })
        .await
    }

    /// Marks what is due for that, some at once; false when nothing is. Others that failed as it did are tried next.
    ///
    /// # Errors
    /// When the database fails altogether.
    pub async fn mark_held(&self) -> Result<bool> {
        let due: Vec<HeldMark> = deadline(async {
            let sql = "UPDATE held_marks SET next_try_at = now() + $1 * interval '1 second' WHERE position IN (
                           SELECT position FROM held_marks WHERE next_try_at <= now()
                           ORDER BY next_try_at LIMIT $2 FOR UPDATE SKIP LOCKED)
                       RETURNING position, unrouted, deployment_id";
            let rows = self.client().await?.query(sql, &[&seconds(MARK_LEASE), &TRIED_AT_ONCE]).await?;
            Ok(rows.iter().map(held_mark).collect())
        })
        .await?;
        if due.len() > 1 && self.mark_due(&due).await.is_ok() {
            return Ok(true);
        }
        let mut failed = 0;
        for mark in &due {
            match self.mark_due(std::slice::from_ref(mark)).await {
                Ok(()) => failed = 0,
                Err(error) if error.fails_at_any() => return Err(error),
                // The rest is tried when nobody is at it any more.
                Err(_) if failed >= FAILURES => break,
                Err(error) => {
                    failed += 1;
                    deadline(self.hold_marks(&[mark.sent], mark.deployment, &error, false)).await?;
                }
            }
        }
        Ok(!due.is_empty())
    }

    async fn mark_due(&self, due: &[HeldMark]) -> Result<()> {
        let positions: Vec<i64> = due.iter().map(|mark| mark.sent.position).collect();
        let unrouted: Vec<i64> = due.iter().filter(|mark| !mark.sent.routed).map(|mark| mark.sent.position).collect();
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            tx.hurry().await?;
            let sql = format!("WITH {} SELECT FROM held", marking(None, ["$1", "$2"]));
            tx.query(&sql, &[&positions, &unrouted]).await?;
            let sql = "WITH gone AS (DELETE FROM held_marks WHERE position = ANY ($1) RETURNING reason)
                       UPDATE held_marks SET next_try_at = now() WHERE position IN (
                           SELECT h.position FROM held_marks h
                           WHERE h.reason IN (SELECT reason FROM gone) AND h.next_try_at > now()
                             AND h.position <> ALL ($1) ORDER BY h.next_try_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
            tx.execute(sql, &[&positions, &TRIED_AT_ONCE]).await?;
            commit(tx, TransactionKind::MarkPublished).await
        })
        .await
    }

    /// When the next mark is due; `None` when none is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn until_next_mark(&self) -> Result<Option<Duration>> {
        deadline(async {
            let sql = "SELECT extract(epoch FROM min(next_try_at) - now())::float8 FROM held_marks
                       WHERE next_try_at < 'infinity'";
            Ok(self.client().await?.query_one(sql, &[]).await?.get::<_, Option<f64>>(0).map(duration))
        })
        .await
    }
}

fn held_mark(row: &Row) -> HeldMark {
    HeldMark {
        sent: PublishOutcome { position: row.get("position"), routed: !row.get::<_, bool>("unrouted") },
        deployment: row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId),
    }
}
