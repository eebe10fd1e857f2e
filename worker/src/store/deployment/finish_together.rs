//! Many deployments that end well, in one transaction. Which of them end by themselves, and change nothing of anybody
//! else, is decided under their locks; any other goes alone, see `finish`.

use std::sync::Arc;

use slipway_protocol::Outcome;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::transaction::{StoreTransaction, commit_many};
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd, result};
use crate::store::deployment::head::{DeploymentHead, HEAD_COLUMNS};
use crate::store::deployment::lease::Lease;
use crate::store::deployment::seen::{SeenAtEnd, SeenDomains};
use crate::store::deployment::state::State;
use crate::store::deployment::write_end::{WrittenEnd, write_ends};
use crate::store::{Result, Store};

/// The end of an attempt's deployment.
#[derive(Debug)]
pub(in crate::store) struct AttemptFinish {
    pub lease: Lease,
    pub end: DeploymentEnd,
    pub summary: AttemptSummary,
    /// The trace context in which it ended.
    pub traceparent: Option<String>,
}

/// Locks what nobody else has locked of the deployments that these leases are for: the deployments first, as everywhere, and
/// last the slugs that are to be proven. Whatever else somebody has locked isn't waited for long.
const LOCK: &str = "
    WITH deployment AS MATERIALIZED (
        SELECT {HEAD_COLUMNS} FROM deployments WHERE id = ANY($1) AND state = 'running' ORDER BY id FOR UPDATE SKIP LOCKED),
    leased AS MATERIALIZED (
        SELECT d.* FROM deployment d JOIN project_leases l
            ON l.project_slug = d.project_slug AND l.server = d.server AND l.fence = d.fence
        FOR UPDATE OF l SKIP LOCKED),
    owner AS MATERIALIZED (
        SELECT o.server, o.project_slug FROM leased d JOIN slug_owners o USING (server, project_slug)
        WHERE NOT o.proven FOR NO KEY UPDATE OF o SKIP LOCKED)
    SELECT d.*, set_config('lock_timeout', '500ms', true)
    FROM leased d LEFT JOIN owner USING (server, project_slug)
    WHERE owner.server IS NOT NULL OR NOT EXISTS (
        SELECT FROM slug_owners o
        WHERE o.server = d.server AND o.project_slug = d.project_slug AND NOT o.proven)";

impl Store {
    /// Ends those of the deployments that end plainly; gives their outcomes, and nothing for the others.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub(in crate::store) async fn finish_together(
        &self,
        finishes: &[Arc<AttemptFinish>],
    ) -> Result<Vec<Option<Outcome>>> {
        let mut outcomes = vec![None; finishes.len()];
        let mut client = self.groups_client().await?;
        let tx = StoreTransaction::begin(&mut client).await?;
        let locked = lock(&tx, finishes).await?;
        let ids: Vec<Uuid> = locked.iter().map(|(_, head)| head.id.0).collect();
        let seen = SeenAtEnd::of(&tx, &ids).await?;
        let mut results = Vec::with_capacity(locked.len());
        for (at, head) in &locked {
            let Some(seen) = seen.get(&head.id.0).filter(|seen| is_plain(head, seen)) else { continue };
            let result = result(head, &finishes[*at].end, &finishes[*at].summary, seen);
            head.state.step(State::Ended(result.outcome))?;
            outcomes[*at] = Some(result.outcome);
            results.push((*at, head, result));
        }
        let mut ends = Vec::with_capacity(results.len());
        for (at, head, result) in &results {
            let finish = &finishes[*at];
            let traceparent = head.unless_requests(finish.traceparent.clone());
            ends.push(WrittenEnd { head, result, summary: &finish.summary, traceparent, is_proven: true });
        }
        if ends.is_empty() {
            return Ok(outcomes);
        }
        write_ends(&tx, &ends).await?;
        commit_many(tx, &vec![TransactionKind::Finish; ends.len()]).await?;
        Ok(outcomes)
    }
}

/// The heads that could be locked under their leases, with their places among `finishes`.
async fn lock(tx: &StoreTransaction<'_>, finishes: &[Arc<AttemptFinish>]) -> Result<Vec<(usize, DeploymentHead)>> {
    let ids: Vec<Uuid> = finishes.iter().map(|finish| finish.lease.deployment.0).collect();
    let rows = tx.query(&LOCK.replace("{HEAD_COLUMNS}", HEAD_COLUMNS), &[&ids]).await?;
    let heads = rows.iter().map(DeploymentHead::read).collect::<Result<Vec<_>>>()?;
    let place = |head: &DeploymentHead| {
        finishes.iter().position(|f| f.lease.deployment == head.id && head.fence == Some(f.lease.fence.get()))
    };
    Ok(heads.into_iter().filter_map(|head| Some((place(&head)?, head))).collect())
}

/// Whether a success settles nothing but its own deployment, slug and lease.
fn is_plain(head: &DeploymentHead, seen: &SeenAtEnd) -> bool {
    let settles_nothing = !seen.repository_is_stale && seen.domains != SeenDomains::Others;
    head.action.deploys() && settles_nothing && !seen.is_watched && !seen.was_elsewhere
}
