//! The events of a deployment, numbered: each takes the next number of its deployment under the lock of its row, so
//! that there are no gaps, and is put into the outbox. What is kept is what it tells; the message is made in `render`.

use slipway_protocol::{EventType, ProgressKind};

use crate::store::Result;
use crate::store::connection::value::readable;
use crate::store::connection::wakeups;
use crate::store::deployment::locked::LockedDeployment;

/// Progress as the outbox keeps it.
pub(in crate::store) fn told(kind: &ProgressKind) -> Result<Vec<u8>> {
    readable("outbox", "told", serde_json::to_vec(kind))
}

impl LockedDeployment<'_> {
    /// Puts an event of the deployment's progress into the outbox, and wakes the relay at commit.
    pub(in crate::store) async fn enqueue_progress(&mut self, kind: ProgressKind) -> Result<()> {
        // Only a refused request has no project, and it makes no progress.
        if self.head.project.is_none() {
            return Ok(());
        }
        let told = told(&kind)?;
        let sequence = i64::try_from(self.head.next_sequence).unwrap_or(i64::MAX);
        let sql = "WITH told AS (INSERT INTO outbox (deployment_id, sequence, type, told, traceparent, must_route)
                                 VALUES ($1, $2, $3, $4, $5, false)),
                       counted AS (UPDATE deployments SET next_sequence = $2 + 1 WHERE id = $1)
                   SELECT pg_notify($6, '')";
        self.tx
            .execute(
                sql,
                &[
                    &self.head.id.0,
                    &sequence,
                    &EventType::Progress.as_str(),
                    &told,
                    &self.head.own_traceparent(),
                    &wakeups::OUTBOX,
                ],
            )
            .await?;
        self.head.next_sequence += 1;
        Ok(())
    }
}
