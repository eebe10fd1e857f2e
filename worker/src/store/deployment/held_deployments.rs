//! Deployments at which the database fails though it answers others: they are held, so that those behind them get their turn,
//! in all workers. Who has failed too often is ended with its reason; where that can't be written either, it waits for people.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::{DeploymentId, ErrorCode, Failure};
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::{number, seconds};
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::State;
use crate::store::holding::{delays_after, next_try};
use crate::store::{Result, Store, StoreError};

/// Each try may keep others waiting for as long as a statement may take: so far apart they are.
const BETWEEN_TRIES: Duration = Duration::from_secs(10);
/// So many are tried at once when one of them has succeeded that failed as they did.
const TRIED_AT_ONCE: i64 = 10;

/// Whether deployment `d` isn't held, or is to be tried again.
pub(in crate::store) const MAY_BE_TRIED: &str = "NOT EXISTS (
    SELECT FROM held_deployments h WHERE h.deployment_id = d.id AND h.next_try_at > now())";
/// Whether deployment `d` has failed before.
pub(in crate::store) const IS_HELD: &str = "EXISTS (SELECT FROM held_deployments h WHERE h.deployment_id = d.id)";

/// Which deployment a call was about, when it looks for one itself.
#[derive(Default)]
pub(in crate::store) struct Picked(Mutex<Option<Uuid>>);

impl Picked {
    /// It's about this one from now on.
    pub(in crate::store) fn is(&self, id: DeploymentId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.0);
    }

    /// Holds the deployment if the database failed at it, and not altogether.
    pub(in crate::store) async fn hold_failing<T>(&self, store: &Store, outcome: Result<T>) -> Result<T> {
        let id = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(id), Err(error)) = (id, &outcome)
            && !error.fails_at_any()
            // A database that takes this isn't away: then it's this deployment that ends its connections.
            && let Err(also) = store.hold_deployment(DeploymentId(id), error).await
        {
            tracing::debug!(error = also.summary(), "a deployment at which the database failed couldn't be held");
        }
        outcome
    }
}

impl Store {
    async fn hold_deployment(&self, id: DeploymentId, error: &StoreError) -> Result<()> {
        let (reason, delays, between) = (error.summary(), delays_after(error), seconds(BETWEEN_TRIES));
        let next = next_try("known.tries + 1", "$3");
        let sql = format!(
            "WITH known AS (
                 SELECT coalesce((SELECT tries FROM held_deployments WHERE deployment_id = $1), 0) AS tries),
             others AS (
                 SELECT max(next_try_at) AS last FROM held_deployments
                 WHERE deployment_id <> $1 AND next_try_at < 'infinity')
             INSERT INTO held_deployments AS h (deployment_id, project_slug, reason, next_try_at)
                 SELECT $1, (SELECT project_slug FROM deployments WHERE id = $1), $2, greatest({next}, others.last + $4 * interval '1 second') FROM known, others
                 ON CONFLICT (deployment_id) DO UPDATE SET
                     tries = h.tries + 1, reason = excluded.reason, next_try_at = excluded.next_try_at
                 RETURNING tries, CASE WHEN isfinite(next_try_at) THEN extract(epoch FROM next_try_at - now()) END::float8 AS next_in"
        );
        deadline(async {
            let row = self.client().await?.query_one(&sql, &[&id.0, &reason, &delays, &between]).await?;
            let (tries, retry_in_s) = (number(&row, "tries"), row.get::<_, Option<f64>>("next_in"));
            tracing::error!(
                deployment.id = %id, reason, tries, retry_in_s,
                "the database fails at a deployment, which is held, and others go on"
            );
            self.heard.held.notify_one();
            Ok(())
        })
        .await
    }

    /// Lets deployments go that the database has taken. What failed as they did is tried now: the cause may be gone.
    pub(in crate::store) async fn let_go_deployments(&self, ids: &[Uuid]) -> Result<()> {
        deadline(async {
            let sql = "WITH gone AS (DELETE FROM held_deployments WHERE deployment_id = ANY ($1) RETURNING reason)
                       UPDATE held_deployments SET next_try_at = now() WHERE deployment_id IN (
                           SELECT h.deployment_id FROM held_deployments h JOIN gone USING (reason)
                           WHERE h.next_try_at > now() AND h.next_try_at < 'infinity'
                             AND h.deployment_id <> ALL ($1) ORDER BY h.next_try_at LIMIT $2)";
            self.client().await?.execute(sql, &[&ids, &TRIED_AT_ONCE]).await?;
            Ok(())
        })
        .await
    }

    /// Ends a deployment that is tried no more: its result and its dead letter. False when there is none. One at which that
    /// fails, too, is held until somebody asks for its next attempt.
    ///
    /// # Errors
    /// When the database fails altogether.
    pub async fn give_up_held(&self) -> Result<bool> {
        deadline(async {
            let sql = "SELECT deployment_id, tries, since, reason FROM held_deployments
                       WHERE next_try_at = 'infinity' AND given_up_at IS NULL ORDER BY since LIMIT 1";
            let Some(row) = self.client().await?.query_opt(sql, &[]).await? else { return Ok(false) };
            let id = DeploymentId(row.get("deployment_id"));
            let message = format!(
                "the database failed at the deployment at {} tries since {}, though it answered others; at the last one: {}",
                number(&row, "tries"),
                row.get::<_, Timestamp>("since"),
                row.get::<_, &str>("reason")
            );
            match self.end_held(id, message).await {
                Ok(()) => tracing::error!(deployment.id = %id, "a deployment at which the database fails is given up"),
                Err(error) if error.fails_at_any() => return Err(error),
                Err(error) => {
                    let reason = error.summary();
                    let sql = "UPDATE held_deployments SET given_up_at = now(), reason = $2 WHERE deployment_id = $1";
                    self.client().await?.execute(sql, &[&id.0, &reason]).await?;
                    tracing::error!(
                        deployment.id = %id, reason,
                        "the database fails at a deployment's end, too, and it waits: once that is mended, `slipway \
                         deployments retry` goes on with it"
                    );
                }
            }
            Ok(true)
        })
        .await
    }

    async fn end_held(&self, id: DeploymentId, message: String) -> Result<()> {
        let mut client = self.client().await?;
        let tx = StoreTransaction::begin(&mut client).await?;
        tx.hurry().await?;
        if let Some(mut locked) = LockedDeployment::lock(&tx, id).await?
            && matches!(locked.head.state, State::Pending | State::Running)
            && !locked.is_acted_on().await?
        {
            let failure = Failure::new(ErrorCode::InternalError, None, message);
            let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "exhausted" };
            locked.finish(self, &end, &AttemptSummary::default()).await?;
        }
        tx.execute("DELETE FROM held_deployments WHERE deployment_id = $1", &[&id.0]).await?;
        commit(tx, TransactionKind::GiveUp).await
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
}
