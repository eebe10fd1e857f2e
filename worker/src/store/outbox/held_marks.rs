//! Messages that were sent, and that the database fails to mark as published though it answers others. They are held, so that
//! nobody sends them again, nor those beside them, and marked later.

use std::time::Duration;

use slipway_protocol::DeploymentId;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, seconds};
use crate::store::holding::{delays_after, next_try};
use crate::store::outbox::rows::{PublishOutcome, marking};
use crate::store::{Result, Store, StoreError};

/// So long one worker has for a try before another one begins.
const MARK_LEASE: Duration = Duration::from_secs(90);
/// So many are tried when one of them has succeeded that failed as they did.
const TRIED_AT_ONCE: i64 = 100;

impl Store {
    /// Holds what was sent and can't be marked; once this returns, nobody sends it again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_marks(
        &self,
        sent: &[PublishOutcome],
        deployment: Option<DeploymentId>,
        error: &StoreError,
    ) -> Result<()> {
        let (reason, delays) = (error.summary(), delays_after(error));
        let positions: Vec<i64> = sent.iter().map(|sent| sent.position).collect();
        let unrouted: Vec<bool> = sent.iter().map(|sent| !sent.routed).collect();
        let (first, later) = (next_try("1", "$5"), next_try("h.tries + 1", "$5"));
        let sql = format!(
            "INSERT INTO held_marks AS h (position, deployment_id, project_slug, unrouted, reason, next_try_at)
                 SELECT position, $3, (SELECT project_slug FROM deployments WHERE id = $3), unrouted, $4, {first}
                 FROM unnest($1::bigint[], $2::boolean[]) AS sent (position, unrouted)
                 ON CONFLICT (position) DO UPDATE SET
                     tries = h.tries + 1, reason = excluded.reason, next_try_at = {later}"
        );
        deadline(async {
            let deployment = deployment.map(|id| id.0);
            self.client().await?.execute(&sql, &[&positions, &unrouted, &deployment, &reason, &delays]).await?;
            self.heard.held.notify_one();
            Ok(())
        })
        .await
    }

    /// Marks what has been due for that for longest; false when nothing is. Others that failed as it did are tried next.
    ///
    /// # Errors
    /// When the database fails altogether.
    pub async fn mark_held(&self) -> Result<bool> {
        deadline(async {
            let sql = "UPDATE held_marks SET next_try_at = now() + $1 * interval '1 second' WHERE position = (
                           SELECT position FROM held_marks WHERE next_try_at <= now()
                           ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED)
                       RETURNING position, unrouted, deployment_id";
            let Some(row) = self.client().await?.query_opt(sql, &[&seconds(MARK_LEASE)]).await? else {
                return Ok(false);
            };
            let (position, unrouted) = (row.get::<_, i64>("position"), row.get::<_, bool>("unrouted"));
            let sql = format!("WITH {} SELECT FROM held", marking(None, ["$1", "$2"]));
            let positions = vec![position];
            let unrouted_ones = if unrouted { vec![position] } else { Vec::new() };
            match self.mark(&sql, &[&positions, &unrouted_ones]).await {
                Ok(_) => self.let_go_mark(position).await?,
                Err(error) if error.fails_at_any() => return Err(error),
                Err(error) => {
                    let sent = [PublishOutcome { position, routed: !unrouted }];
                    let deployment = row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId);
                    self.hold_marks(&sent, deployment, &error).await?;
                }
            }
            Ok(true)
        })
        .await
    }

    async fn let_go_mark(&self, position: i64) -> Result<()> {
        let sql = "WITH gone AS (DELETE FROM held_marks WHERE position = $1 RETURNING reason)
                   UPDATE held_marks SET next_try_at = now() WHERE position IN (
                       SELECT h.position FROM held_marks h JOIN gone USING (reason)
                       WHERE h.next_try_at > now() AND h.position <> $1 ORDER BY h.next_try_at LIMIT $2)";
        self.client().await?.execute(sql, &[&position, &TRIED_AT_ONCE]).await?;
        Ok(())
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
