//! The next attempt at once, as an operator asks for who has mended what was in the way.

use serde_json::json;
use slipway_protocol::DeploymentId;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::wakeups;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::deployment::state::State;
use crate::store::{Result, Store};

/// What a request for the next attempt found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryNowOutcome {
    /// The deployment is due now, and its server is tried though its circuit may have been open.
    Due,
    /// It waits for a server with room, which no attempt brings.
    WithoutServer,
    /// It runs or has ended: nothing was changed.
    Not(State),
    /// There is no such deployment.
    Unknown,
}

impl Store {
    /// Lets a deployment that waits for its next attempt have it now.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn retry_now(&self, id: DeploymentId, operator: &Operator) -> Result<RetryNowOutcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let Some(locked) = LockedDeployment::lock(&tx, id).await? else { return Ok(RetryNowOutcome::Unknown) };
            // Whoever asks has mended what the database failed at.
            let held = "UPDATE held_deployments SET tries = 0, next_try_at = now(), tried_at = NULL
                        WHERE deployment_id = $1 AND NOT goes_on";
            let was_held = !locked.head.state.is_terminal() && tx.execute(held, &[&id.0]).await? > 0;
            let server = if locked.head.state == State::Pending {
                let sql = "UPDATE deployments SET run_at = least(run_at, now()) WHERE id = $1 RETURNING server";
                tx.query_one(sql, &[&id.0]).await?.get::<_, Option<String>>(0)
            } else if was_held {
                // It's taken from the worker that couldn't end it.
                locked.head.server.map(|server| server.to_string())
            } else {
                return Ok(RetryNowOutcome::Not(locked.head.state));
            };
            if server.is_none() && !was_held {
                return Ok(RetryNowOutcome::WithoutServer);
            }
            // One attempt is let through to find out whether the server is back.
            let sql = "UPDATE server_circuits SET open_until = now() WHERE server = $1 AND open_until > now()";
            tx.execute(sql, &[&server]).await?;
            record(&tx, OperatorAction::RetryDeployment, &id.to_string(), operator, &json!({ "server": server }))
                .await?;
            tx.execute("SELECT pg_notify($1, '')", &[&wakeups::DEPLOYMENTS]).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(RetryNowOutcome::Due)
        })
        .await
    }
}
