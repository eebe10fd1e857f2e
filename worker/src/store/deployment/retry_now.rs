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
            if locked.head.state != State::Pending {
                return Ok(RetryNowOutcome::Not(locked.head.state));
            }
            let sql = "UPDATE deployments SET run_at = least(run_at, now()) WHERE id = $1 RETURNING server";
            let Some(server) = tx.query_one(sql, &[&id.0]).await?.get::<_, Option<String>>(0) else {
                return Ok(RetryNowOutcome::WithoutServer);
            };
            // One attempt is let through to find out whether the server is back.
            let sql = "UPDATE server_circuits SET open_until = now() WHERE server = $1 AND open_until > now()";
            tx.execute(sql, &[&server]).await?;
            // Whoever asks has mended what the database failed at.
            tx.execute("DELETE FROM held_deployments WHERE deployment_id = $1", &[&id.0]).await?;
            record(&tx, OperatorAction::RetryDeployment, &id.to_string(), operator, &json!({ "server": server }))
                .await?;
            tx.execute("SELECT pg_notify($1, '')", &[&wakeups::DEPLOYMENTS]).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(RetryNowOutcome::Due)
        })
        .await
    }
}
