//! Giving up deployments whose server has been out of reach for too long.

use std::collections::BTreeMap;

use jiff::Timestamp;
use slipway_protocol::{DeploymentId, ErrorCode, Failure};
use tokio_postgres::types::{Json, ToSql};

use crate::failpoint::TransactionKind;
use crate::scheduler::{Limits, Load};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::seconds;
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::head::first_readable;
use crate::store::deployment::held_deployments::{Picked, may_be_tried};
use crate::store::deployment::locked::LockedDeployment;
use crate::store::server::circuit_breaker::read_circuits;
use crate::store::{Result, Store};

impl Store {
    /// Ends one deployment that has waited for a dead server for as long as `limits` allow: its result and its dead
    /// letter, as after its last attempt. `None` when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_up_unreachable(&self, limits: &Limits) -> Result<Option<DeploymentId>> {
        let picked = Picked::default();
        let given_up = deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            tx.hurry().await?;
            let now: Timestamp = tx.query_one("SELECT now()", &[]).await?.get(0);
            let load = Load { attempts: BTreeMap::new(), in_registry: 0, circuits: read_circuits(&tx).await? };
            let servers = load.unreachable_servers(limits, now);
            if servers.is_empty() {
                return Ok(None);
            }
            let sql = format!(
                "SELECT id, failure FROM deployments d WHERE state = 'pending' AND id <> ALL ($1) AND {}
                   AND server = ANY ($2) AND accepted_at <= now() - $3 * interval '1 second'
                 ORDER BY arrival LIMIT 1 FOR UPDATE SKIP LOCKED",
                may_be_tried()
            );
            let more: [&(dyn ToSql + Sync); 2] = [&servers, &seconds(limits.patience)];
            let Some((head, row)) = first_readable(&tx, &sql, &more, &picked).await? else { return Ok(None) };
            let last = row.try_get::<_, Option<Json<Failure>>>("failure").ok().flatten().map(|Json(failure)| failure);
            let mut locked = LockedDeployment { tx: &tx, head };
            let id = locked.head.id;
            let end =
                DeploymentEnd::Failed { failure: unreachable(limits, last), missing_secret: None, reason: "exhausted" };
            locked.finish(self, &end, &AttemptSummary::default()).await?;
            commit(tx, TransactionKind::GiveUp).await?;
            Ok(Some(id))
        })
        .await;
        picked.hold_failing(self, given_up).await
    }
}

/// What a deployment fails with that has waited in vain; `last` is why its own last attempt failed, if it made one.
fn unreachable(limits: &Limits, last: Option<Failure>) -> Failure {
    let waited = format!("the server couldn't be reached for {} s or longer", limits.patience.as_secs());
    match last.filter(|failure| failure.code.is_connection_failure()) {
        Some(last) => {
            let message = format!("{waited}; the last attempt: {}", last.message);
            Failure { tail: last.tail, ..Failure::new(ErrorCode::ServerUnreachable, last.stage, message) }
        }
        None => Failure::new(ErrorCode::ServerUnreachable, None, waited),
    }
}
