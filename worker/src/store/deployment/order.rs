//! A deployment's place among the others of its project, and which of them it contends with, as SQL. How two places
//! compare is defined by [`crate::scheduler::Order`].

use tokio_postgres::Row;

use crate::scheduler::Order;

/// A row's place as SQL, to be compared as one value, in the order of [`Order`]'s fields.
pub(in crate::store) fn order_sql(alias: &str) -> String {
    format!(
        "(coalesce({alias}.producer_sequence, -1), coalesce({alias}.event_time, {alias}.accepted_at), {alias}.arrival)"
    )
}

/// The order of the newest first, column by column as the index has them.
pub(in crate::store) fn newest_first(alias: &str) -> String {
    format!(
        "coalesce({alias}.producer_sequence, -1) DESC, coalesce({alias}.event_time, {alias}.accepted_at) DESC, \
         {alias}.arrival DESC"
    )
}

/// The condition that the accepted deployment `alias` contends with another one of the same project, which is for
/// `server` and, as `deploys` says, deploys. A project is deployed to one place only, so that two deployments
/// contend with each other on whatever servers; any other command is about one server.
pub(in crate::store) fn contends_with(alias: &str, server: &str, deploys: &str) -> String {
    format!(
        "{alias}.request IS NOT NULL AND {alias}.state <> 'cancelled'
         AND ({alias}.server = {server} OR ({alias}.action = 'deploy' AND {deploys}))"
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
