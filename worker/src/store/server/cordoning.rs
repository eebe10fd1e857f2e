//! Cordoning a server, for operators and for events. Of several the latest counts: an event's time, and when an operator did it.

use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::names::ServerHandle;

use crate::store::Result;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::transaction::StoreTransaction;

/// What cordoning a server came to, or uncordoning it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum CordonOutcome {
    /// It was done.
    Changed,
    /// It was so already.
    Already,
    /// Something later was said of the server: nothing was done.
    Outdated,
}

impl CordonOutcome {
    pub(in crate::store) fn is_change(self) -> bool {
        self == Self::Changed
    }
}

/// Whether something was said of the cordon of server $1 that is later than $2. An event counts by its own time, which is
/// written down as no later than when it was taken in.
const OUTDATED: &str = "SELECT EXISTS (SELECT FROM operator_audit WHERE at > $2 AND subject = $1
         AND action IN ('servers cordon', 'servers uncordon')
         AND coalesce((details ->> 'asked_at')::timestamptz, at) > $2)";

/// Keeps new projects off a server, or lets it have them again; `None` when the inventory doesn't have it. `asked_at`: the time
/// of the event that asks for it; without one it's asked for now.
pub(in crate::store) async fn cordon(
    tx: &StoreTransaction<'_>,
    server: &ServerHandle,
    cordoned: bool,
    operator: &Operator,
    asked_at: Option<Timestamp>,
) -> Result<Option<CordonOutcome>> {
    let sql = "SELECT cordoned_at IS NOT NULL, least($2, now()) FROM servers WHERE handle = $1 FOR UPDATE";
    let Some(row) = tx.query_opt(sql, &[&server.as_str(), &asked_at]).await? else { return Ok(None) };
    let asked_at = asked_at.and(row.get::<_, Option<Timestamp>>(1));
    if let Some(asked_at) = asked_at
        && tx.query_one(OUTDATED, &[&server.as_str(), &asked_at]).await?.get(0)
    {
        return Ok(Some(CordonOutcome::Outdated));
    }
    let changes = row.get::<_, bool>(0) != cordoned;
    let sql = "UPDATE servers SET cordoned_at = CASE WHEN $2 THEN coalesce(cordoned_at, now()) END,
                   cordon_reason = CASE WHEN $2 THEN coalesce($3, cordon_reason) END, updated_at = now() WHERE handle = $1";
    tx.execute(sql, &[&server.as_str(), &cordoned, &operator.why]).await?;
    let action = if cordoned { OperatorAction::CordonServer } else { OperatorAction::UncordonServer };
    let details = match asked_at {
        Some(asked_at) => json!({ "changed": changes, "asked_at": asked_at }),
        None => json!({ "changed": changes }),
    };
    record(tx, action, server.as_str(), operator, &details).await?;
    Ok(Some(if changes { CordonOutcome::Changed } else { CordonOutcome::Already }))
}
