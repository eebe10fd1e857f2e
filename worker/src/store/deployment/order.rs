//! A deployment's place among the others of its project, as columns and as SQL; what it means is in
//! [`crate::scheduler::Order`].

use tokio_postgres::Row;

use crate::scheduler::Order;

/// A row's place as SQL, to be compared as a whole; as [`Order`] has it.
pub(in crate::store) fn place_of(alias: &str) -> String {
    format!(
        "(coalesce({alias}.producer_sequence, -1), coalesce({alias}.event_time, {alias}.accepted_at), {alias}.arrival)"
    )
}

/// The place that a row has.
pub(in crate::store) fn order(row: &Row) -> Order {
    Order {
        sequence: row.get::<_, Option<i64>>("producer_sequence").and_then(|s| u64::try_from(s).ok()),
        time: row.get("event_time"),
        arrival: row.get("arrival"),
    }
}
