//! The ends of deployments, as they are written: state, event, and the lease that is given back.

use std::sync::LazyLock;

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, DeploymentResult, EventType, Outcome};
use tokio_postgres::types::Json;

use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::deployment::end::AttemptSummary;
use crate::store::deployment::head::DeploymentHead;
use crate::store::deployment::state::State;
use crate::store::outbox::event_sequence::next_number;

/// The end of a deployment whose row is locked, and whose state may become that end.
pub(in crate::store) struct WrittenEnd<'a> {
    pub head: &'a DeploymentHead,
    pub result: &'a DeploymentResult,
    pub summary: &'a AttemptSummary,
    /// The trace context in which it ended, if it's another one than the request's.
    pub traceparent: Option<String>,
    /// Whether what runs is proven.
    pub is_proven: bool,
}

static WRITE_ENDS: LazyLock<String> = LazyLock::new(|| {
    format!("
    WITH this AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::jsonb[], $5::jsonb[], $6::uuid[], $7::int[],
                $8::bigint[], $9::text[], $10::uuid[], $11::text[], $12::text[], $13::bool[], $14::bool[])
            AS t (id, fence, state, result, failure, superseded_by, round_trips, sequence, traceparent, project_id, slug,
                server, is_proven, proves_slug)),
    cut AS (
        UPDATE stage_journal j SET outcome = 'interrupted', outcome_at = now()
        FROM this t WHERE j.deployment_id = t.id AND j.fence = t.fence AND j.outcome IS NULL),
    told AS (
        INSERT INTO outbox (deployment_id, sequence, events, type, traceparent, must_route)
        SELECT id, {}, 1, $15, traceparent, true FROM this RETURNING deployment_id, sequence),
    ended AS (
        UPDATE deployments d SET state = t.state, finished_at = now(), result = t.result, failure = t.failure,
            superseded_by = t.superseded_by, ssh_round_trips = t.round_trips, body = NULL, headers = '{{}}',
            next_sequence = o.sequence + 1,
            first_failed_at = CASE WHEN t.failure IS NULL THEN d.first_failed_at ELSE coalesce(d.first_failed_at, now()) END,
            last_failed_at = CASE WHEN t.failure IS NULL THEN d.last_failed_at ELSE now() END
        FROM this t JOIN told o ON o.deployment_id = t.id WHERE d.id = t.id),
    given_back AS (
        UPDATE project_leases l SET expires_at = CASE WHEN l.fence = t.fence THEN now() ELSE l.expires_at END,
            unsettled = l.unsettled AND NOT t.is_proven
        FROM this t WHERE l.project_slug = t.slug AND l.server = t.server
            AND (l.fence = t.fence OR (l.unsettled AND t.is_proven))),
    proven AS (
        UPDATE slug_owners o SET proven = true
        FROM this t WHERE t.proves_slug AND o.server = t.server AND o.project_slug = t.slug
            AND o.project_id = t.project_id AND NOT o.proven)
    SELECT CASE WHEN $16::text IS NOT NULL THEN pg_notify($16, '') END, CASE WHEN $17::text IS NOT NULL THEN pg_notify($17, '') END",
    next_number("this.id", "this.sequence"))
});

/// Writes ends and their events, and gives each project's lease back if it's still this deployment's; a stage that was
/// cancelled in its midst has no outcome of its own. Who may have waited for the lease or for a free place is woken. No
/// two of them are of one project.
pub(in crate::store) async fn write_ends(tx: &StoreTransaction<'_>, ends: &[WrittenEnd<'_>]) -> Result<()> {
    let has_succeeded =
        |end: &WrittenEnd<'_>| matches!(end.result.outcome, Outcome::Succeeded | Outcome::AlreadyDeployed);
    // Another deployment of these projects may have waited for the lease.
    let others = match ends.iter().any(|end| end.head.fence.is_some()) {
        true => tx.others_to_wake_after_attempt(),
        false => None,
    };
    let sequence = |end: &WrittenEnd<'_>| i64::try_from(end.head.next_sequence).unwrap_or(i64::MAX);
    let round_trips = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    tx.execute(
        &WRITE_ENDS,
        &[
            &ends.iter().map(|end| end.head.id.0).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.head.fence).collect::<Vec<_>>(),
            &ends.iter().map(|end| State::Ended(end.result.outcome).as_str()).collect::<Vec<_>>(),
            &ends.iter().map(|end| Json(end.result)).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.result.failure.as_ref().map(Json)).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.result.superseded_by.map(|id| id.0)).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.summary.round_trips.map(round_trips)).collect::<Vec<_>>(),
            &ends.iter().map(sequence).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.traceparent.as_deref()).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.head.project.as_ref().map(|project| project.id.0)).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.head.project.as_ref().map(|project| project.slug.as_str())).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.head.server.as_ref().map(ServerHandle::as_str)).collect::<Vec<_>>(),
            &ends.iter().map(|end| end.is_proven).collect::<Vec<_>>(),
            // Once a deployment of it has succeeded there, the slug is the project's whatever fails later.
            &ends.iter().map(|end| has_succeeded(end) && end.head.action != Action::Undeploy).collect::<Vec<_>>(),
            &EventType::Result.as_str(),
            &tx.relay_to_wake(),
            &others,
        ],
    )
    .await?;
    ends.iter().for_each(|end| tx.count_end(end.result.outcome));
    Ok(())
}
