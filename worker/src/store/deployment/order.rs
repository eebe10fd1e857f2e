//! A deployment's place among the others of its project, and which of them it contends with, as SQL. How two places
//! compare is defined by [`crate::scheduler::Order`].

use tokio_postgres::Row;

use crate::scheduler::Order;

/// The order of the newest first, column by column as the index has them.
pub(in crate::store) fn newest_first(alias: &str) -> String {
    format!(
        "coalesce({alias}.producer_sequence, -1) DESC, coalesce({alias}.event_time, {alias}.accepted_at) DESC, \
         {alias}.arrival DESC"
    )
}

/// The conditions that row `alias` is newer than a place: by its number, or with the same number by what follows. Apart from
/// each other, since an index is read up to there for each of them, and beyond it for the comparison of all three.
pub(in crate::store) fn newer_than(alias: &str, [sequence, time, arrival]: [&str; 3]) -> [String; 2] {
    let number = format!("coalesce({alias}.producer_sequence, -1)");
    let rest = format!("(coalesce({alias}.event_time, {alias}.accepted_at), {alias}.arrival)");
    [format!("{number} > {sequence}"), format!("{number} = {sequence} AND {rest} > ({time}, {arrival})")]
}

/// The condition that the accepted deployment `alias` contends with another one of the same project, which is for
/// `server` and, as `deploys` says, deploys. A project is deployed to one place only, so that two deployments
/// contend with each other on whatever servers, and a move is one of them; any other command is about one server.
pub(in crate::store) fn contends_with(alias: &str, server: &str, deploys: &str) -> String {
    format!(
        "{alias}.request IS NOT NULL AND {alias}.state <> 'cancelled'
         AND ({alias}.server = {server} OR {alias}.moves_from = {server}
              OR ({alias}.action IN ('deploy', 'move') AND {deploys}))"
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
