//! The events of a deployment, numbered: each takes the next number of its deployment under the lock of its row, so
//! that there are no gaps, and is put into the outbox. What is kept is what it tells; the message is made in `render`.
//!
//! The numbers are counted where the events are. A deployment's own row has the next number as of its last change of state: it's
//! a wide row, and counting there was a good third of what a step took of the database.

use slipway_protocol::{EventType, ProgressKind};

use crate::store::Result;
use crate::store::connection::value::readable;
use crate::store::deployment::locked::LockedDeployment;

/// Progress as the outbox keeps it.
pub(in crate::store) fn told(kind: &ProgressKind) -> Result<Vec<u8>> {
    readable("outbox", "told", serde_json::to_vec(kind))
}

/// The next number of a deployment's events, by its id and the number that its row has: in SQL, for statements that begin
/// after its lock was had. In one that waits for the lock, it may be another's by then, and the row isn't unique.
pub(in crate::store) fn next_number(id: &str, at_least: &str) -> String {
    format!(
        "greatest({at_least}, (SELECT e.sequence + coalesce(e.events, 1) FROM outbox e
             WHERE e.deployment_id = {id} AND e.sequence IS NOT NULL ORDER BY e.sequence DESC LIMIT 1))"
    )
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
        let sql = format!(
            "WITH told AS (INSERT INTO outbox (deployment_id, sequence, events, type, told, traceparent, must_route)
                           SELECT $1::uuid, {}, 1, $3, $4, $5, false RETURNING sequence),
                  counted AS (UPDATE deployments SET next_sequence = t.sequence + 1 FROM told t WHERE id = $1)
             SELECT CASE WHEN $6::text IS NOT NULL THEN pg_notify($6, '') END",
            next_number("$1", "$2::bigint")
        );
        self.tx
            .execute(
                &sql,
                &[
                    &self.head.id.0,
                    &sequence,
                    &EventType::Progress.as_str(),
                    &told,
                    &self.head.own_traceparent(),
                    &self.tx.relay_to_wake(),
                ],
            )
            .await?;
        self.head.next_sequence += 1;
        Ok(())
    }
}
