//! Giving up deployments at which the database has failed too often: each is ended with its reason; if that fails as often, it waits
//! for people.

use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::{DeploymentId, ErrorCode, Failure};

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::{duration, seconds};
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::State;
use crate::store::holding::{HELD_RETRIES, held_tries};
use crate::store::{Result, Store, StoreError};

/// So long one worker has for an end before another one tries it.
const END_LEASE: Duration = Duration::from_secs(90);

impl Store {
    /// Ends a deployment that is tried no more: its result and its dead letter. False when none is due. One at which that fails as
    /// often waits until somebody asks for its next attempt.
    ///
    /// # Errors
    /// When the database fails altogether.
    pub async fn give_up_held(&self) -> Result<bool> {
        let tries = held_tries();
        deadline(async {
            let sql = "UPDATE held_deployments SET next_try_at = now() + $1 * interval '1 second'
                       WHERE deployment_id = (
                           SELECT deployment_id FROM held_deployments WHERE next_try_at <= now() AND tries >= $2 AND NOT goes_on
                           ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED)
                       RETURNING deployment_id, since, reason";
            let row = self.client().await?.query_opt(sql, &[&seconds(END_LEASE), &tries]).await?;
            let Some(row) = row else { return Ok(false) };
            let id = DeploymentId(row.get("deployment_id"));
            let message = format!(
                "the database failed at the deployment at {tries} tries since {}, though it answered others; at the last one: {}",
                row.get::<_, Timestamp>("since"),
                row.get::<_, &str>("reason")
            );
            match self.end_held(id, message).await {
                Ok(false) => {}
                Ok(true) => tracing::error!(deployment.id = %id, "a deployment at which the database fails is given up"),
                Err(error) if error.fails_at_any() => return Err(error),
                Err(error) => self.put_off_end(id, &error).await?,
            }
            Ok(true)
        })
        .await
    }

    async fn put_off_end(&self, id: DeploymentId, error: &StoreError) -> Result<()> {
        let tries = held_tries();
        let (reason, delay) = (error.summary(), seconds(HELD_RETRIES.max));
        let sql = "UPDATE held_deployments SET tries = tries + 1, reason = $2,
                       next_try_at = CASE WHEN tries + 1 >= 2 * $3 THEN 'infinity'
                           ELSE now() + $4 * interval '1 second' END
                   WHERE deployment_id = $1 RETURNING isfinite(next_try_at)";
        let row = self.client().await?.query_opt(sql, &[&id.0, &reason, &tries, &delay]).await?;
        let goes_on = row.is_none_or(|row| row.get(0));
        tracing::error!(
            deployment.id = %id, reason, goes_on,
            "the database fails at a deployment's end, too; once that is mended, `slipway deployments retry` goes on with it"
        );
        Ok(())
    }

    /// Whether it has ended.
    async fn end_held(&self, id: DeploymentId, message: String) -> Result<bool> {
        let mut client = self.client().await?;
        let tx = StoreTransaction::begin(&mut client).await?;
        tx.hurry().await?;
        if let Some(mut locked) = LockedDeployment::lock(&tx, id).await?
            && matches!(locked.head.state, State::Pending | State::Running)
        {
            if locked.head.state == State::Running && locked.is_acted_on().await? {
                // The worker that has failed at it still has its lease.
                let sql =
                    "UPDATE held_deployments SET next_try_at = now() + interval '5 seconds' WHERE deployment_id = $1";
                tx.execute(sql, &[&id.0]).await?;
                return commit(tx, TransactionKind::GiveUp).await.map(|()| false);
            }
            let failure = Failure::new(ErrorCode::InternalError, None, message);
            let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "exhausted" };
            locked.finish(self, &end, &AttemptSummary::default()).await?;
        }
        tx.execute("DELETE FROM held_deployments WHERE deployment_id = $1", &[&id.0]).await?;
        commit(tx, TransactionKind::GiveUp).await.map(|()| true)
    }

    /// Forgets what is held and needn't be any more: deployments that have ended, and messages that are marked or removed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_held(&self) -> Result<()> {
        deadline(async {
            let sql = "WITH marked AS (
                           DELETE FROM held_marks m WHERE NOT EXISTS (
                               SELECT FROM outbox o WHERE o.position = m.position AND o.published_at IS NULL))
                       DELETE FROM held_deployments h WHERE NOT EXISTS (
                           SELECT FROM deployments d WHERE d.id = h.deployment_id AND d.state IN ('pending', 'running'))";
            self.client().await?.execute(sql, &[]).await?;
            Ok(())
        })
        .await
    }

    /// When the next end is due of what is tried no more; `None` when none is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn until_next_end(&self) -> Result<Option<Duration>> {
        deadline(async {
            let sql = "SELECT extract(epoch FROM min(next_try_at) - now())::float8 FROM held_deployments
                       WHERE tries >= $1 AND next_try_at < 'infinity' AND NOT goes_on";
            let tries = held_tries();
            let row = self.client().await?.query_one(sql, &[&tries]).await?;
            Ok(row.get::<_, Option<f64>>(0).map(duration))
        })
        .await
    }
}
