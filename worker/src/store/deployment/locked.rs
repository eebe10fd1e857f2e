//! One deployment's row, locked for a transaction, and its steps from state to state. Everything that changes a
//! deployment goes through here.

use slipway_protocol::DeploymentId;

use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::deployment::head::{DeploymentHead, HEAD_COLUMNS};
use crate::store::deployment::state::State;

/// A deployment's row, locked until the transaction ends.
pub(in crate::store) struct LockedDeployment<'t> {
    pub tx: &'t StoreTransaction<'t>,
    pub head: DeploymentHead,
}

impl<'t> LockedDeployment<'t> {
    /// Locks the deployment `id`; `None` when there is none.
    pub(in crate::store) async fn lock(tx: &'t StoreTransaction<'t>, id: DeploymentId) -> Result<Option<Self>> {
        let sql = format!("SELECT {HEAD_COLUMNS} FROM deployments WHERE id = $1 FOR UPDATE");
        let row = tx.query_opt(&sql, &[&id.0]).await?;
        row.as_ref().map(DeploymentHead::read).transpose().map(|head| head.map(|head| Self { tx, head }))
    }

    /// Takes the step to `to`, if the table of transitions allows it.
    pub(in crate::store) async fn step(&mut self, to: State) -> Result<()> {
        self.head.state = self.head.state.step(to)?;
        self.tx
            .execute(
                "UPDATE deployments SET state = $2, finished_at = CASE WHEN $3 THEN now() END WHERE id = $1",
                &[&self.head.id.0, &to.as_str(), &to.is_terminal()],
            )
            .await?;
        match to {
            State::Pending => {
                self.tx.wake_runner().await?;
            }
            State::Running | State::Unknown => {}
            State::Ended(outcome) => self.tx.count_end(outcome),
        }
        Ok(())
    }
}
