//! Taking back a half that waits for the other one: somebody has cancelled it.

use slipway_protocol::{DeploymentId, PartialEnvelope};

use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::deployment::refuse::{RequestEnd, end_at_once};
use crate::store::halves::rows::{StoredHalf, stored};

/// Takes back the half with this id, if it's there without the other one; it ends as cancelled unless it has ended. Whether
/// it was there.
pub(in crate::store) async fn withdraw_half(tx: &StoreTransaction<'_>, id: DeploymentId) -> Result<bool> {
    let sql = "DELETE FROM project_halves WHERE id = $1 AND joined_as IS NULL RETURNING *";
    let Some(row) = tx.query_opt(sql, &[&id.0]).await? else { return Ok(false) };
    let half = stored(&row);
    end_at_once(tx, &envelope(&half), RequestEnd::Cancelled, half.incoming.user.as_deref()).await?;
    Ok(true)
}

/// All that is told of a stored half.
pub(in crate::store) fn envelope(half: &StoredHalf) -> PartialEnvelope {
    match &half.read {
        Ok(request) => PartialEnvelope::of_half(request),
        Err(rejection) => (*rejection.known).clone(),
    }
}
