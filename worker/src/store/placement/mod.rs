//! Which server a request gets that doesn't name one, as it's stored: what is known of the servers is read, what
//! [`crate::scheduler`] chooses is set aside and written into the request, and from then on the deployment is like any other.

mod choice;
pub(super) mod explain;
pub(super) mod leave_ports;
mod ports;
mod request;
mod servers;
pub(super) mod waiting;
mod write;

pub(in crate::store) use servers::{port_set, signed};

use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;

/// Key of the advisory lock under which servers and ports are chosen ("place" in ASCII).
const PLACEMENT_LOCK: i64 = 0x70_6c_61_63_65;

/// Begins a choice unless another one is under way: what is free is then what is written. Many may want to choose, and none of
/// them waits in the database.
async fn try_lock_placement(tx: &StoreTransaction<'_>) -> Result<bool> {
    let sql = "SELECT set_config('idle_in_transaction_session_timeout', '5s', true), pg_try_advisory_xact_lock($1)";
    Ok(tx.query_one(sql, &[&PLACEMENT_LOCK]).await?.get(1))
}

/// As [`try_lock_placement`], and waits for the other one.
async fn lock_placement(tx: &StoreTransaction<'_>) -> Result<()> {
    // A worker that is frozen in here delays all others: the database then ends its transaction.
    let sql = "SELECT set_config('idle_in_transaction_session_timeout', '5s', true), pg_advisory_xact_lock($1)";
    tx.execute(sql, &[&PLACEMENT_LOCK]).await?;
    Ok(())
}
