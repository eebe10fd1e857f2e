//! Deployments at which the database fails though it answers others: they are held, so that those behind them get their turn,
//! in all workers. What becomes of one that has failed too often is in `give_up_held`.

use std::sync::{Mutex, PoisonError};

use slipway_protocol::DeploymentId;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::number;
use crate::store::holding::{HELD_RETRIES, delays_after, held_tries, next_try};
use crate::store::{Result, Store, StoreError};

/// So many are tried when one of them has succeeded that failed as they did.
const TRIED_AT_ONCE: i64 = 10;

/// Whether deployment `d` isn't held, or is to be tried again.
pub(in crate::store) fn may_be_tried() -> String {
    let tries = HELD_RETRIES.attempts;
    format!(
        "NOT EXISTS (SELECT FROM held_deployments h
                     WHERE h.deployment_id = d.id AND NOT h.goes_on
                       AND (h.next_try_at > now() OR h.tries >= {tries}))"
    )
}

/// Whether the database has failed at deployment `d`, and hasn't taken it since.
pub(in crate::store) const IS_HELD: &str =
    "EXISTS (SELECT FROM held_deployments h WHERE h.deployment_id = d.id AND NOT h.goes_on)";

/// Which deployment a call was about, when it looks for one itself.
#[derive(Default)]
pub(in crate::store) struct Picked(Mutex<Option<Uuid>>);

impl Picked {
    /// It's about this one from now on.
    pub(in crate::store) fn is(&self, id: Uuid) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    /// The deployment that the call was about last.
    pub(in crate::store) fn id(&self) -> Option<Uuid> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the deployment if the database failed at it, and not altogether.
    pub(in crate::store) async fn hold_failing<T>(&self, store: &Store, outcome: Result<T>) -> Result<T> {
        if let (Some(id), Err(error)) = (self.id(), &outcome) {
            store.hold_failing(DeploymentId(id), error).await;
        }
        outcome
    }
}

impl Store {
    /// Holds a deployment if the database failed at it, and not altogether.
    pub async fn hold_failing(&self, id: DeploymentId, error: &StoreError) {
        let is_its_own = matches!(error, StoreError::LeaseLost | StoreError::GivesWay(_) | StoreError::Transition(_));
        // A database that takes this isn't away: then it's this deployment that ends its connections.
        if !is_its_own
            && !error.fails_at_any()
            && let Err(also) = self.hold_deployment(id, error).await
        {
            tracing::debug!(error = also.summary(), "a deployment at which the database failed couldn't be held");
        }
    }

    async fn hold_deployment(&self, id: DeploymentId, error: &StoreError) -> Result<()> {
        let (reason, delays, has_waited) = (error.summary(), delays_after(error), !error.is_away());
        let (first, later) = (next_try("1", "$3"), next_try("h.tries + 1", "$3"));
        // Of two workers that fail one after the other, without the second one knowing of the first, one counts. After the last
        // try its end is due at once.
        let sql = format!(
            "INSERT INTO held_deployments AS h (deployment_id, project_slug, reason, next_try_at, tried_at)
                 SELECT $1, (SELECT project_slug FROM deployments WHERE id = $1), $2, {first},
                     CASE WHEN $4 THEN now() END
                 ON CONFLICT (deployment_id) DO UPDATE SET
                     tries = h.tries + 1, reason = excluded.reason, next_try_at = coalesce(nullif({later}, 'infinity'), now()),
                     tried_at = coalesce(excluded.tried_at, h.tried_at), goes_on = false
                     WHERE h.goes_on OR h.next_try_at <= now()
                 RETURNING tries, extract(epoch FROM next_try_at - now())::float8 AS next_in"
        );
        deadline(async {
            let row = self.client().await?.query_opt(&sql, &[&id.0, &reason, &delays, &has_waited]).await?;
            if let Some(row) = row {
                let (tries, retry_in_s) = (number(&row, "tries"), row.get::<_, f64>("next_in"));
                tracing::error!(
                    deployment.id = %id, reason, tries, retry_in_s,
                    "the database fails at a deployment, which is held, and others go on"
                );
                self.heard.held.notify_one();
            }
            Ok(())
        })
        .await
    }

    /// Lets deployments go on that the database has taken: how often it had failed is remembered until they end. What failed as they
    /// did is tried now, and that doesn't count: the cause may be gone.
    pub(in crate::store) async fn let_go_deployments(&self, ids: &[Uuid]) {
        if ids.is_empty() {
            return;
        }
        let last = held_tries() - 1;
        let let_go = deadline(async {
            let sql = "WITH taken AS (
                           UPDATE held_deployments SET goes_on = true WHERE deployment_id = ANY ($1) RETURNING reason)
                       UPDATE held_deployments SET next_try_at = now(), tries = greatest(least(tries, $3) - 1, 0)
                       WHERE deployment_id IN (
                           SELECT h.deployment_id FROM held_deployments h
                           WHERE h.reason IN (SELECT reason FROM taken) AND h.next_try_at > now() AND NOT h.goes_on
                             AND h.deployment_id <> ALL ($1) ORDER BY h.next_try_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
            Ok(self.client().await?.execute(sql, &[&ids, &TRIED_AT_ONCE, &last]).await?)
        });
        match let_go.await {
            Ok(0) => {}
            Ok(_) => self.heard.deployments.notify_one(),
            Err(error) => {
                tracing::warn!(error = error.summary(), "a deployment goes on, and is still shown as held");
            }
        }
    }
}
