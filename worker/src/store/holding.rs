//! Holding what the database fails at though it answers others: how often it's tried again, how far apart, and how that is
//! written. Messages that can't be taken in, deployments, and marks of what was sent each have a table of their own.

use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;

use crate::store::StoreError;

/// How often what is held is tried, and how far apart.
pub(crate) const HELD_RETRIES: RetryPolicy =
    RetryPolicy { initial: Duration::from_secs(10), max: Duration::from_secs(600), multiplier: 4.0, attempts: 6 };
/// So often a connection may end at something before that has to wait: at a failover it's the server that ends them.
const AWAY_TIMES: usize = 3;

/// [`HELD_RETRIES`]' number of tries, as columns hold it.
pub(in crate::store) fn held_tries() -> i32 {
    i32::try_from(HELD_RETRIES.attempts).unwrap_or(i32::MAX)
}

/// The seconds until the next try after each one that failed; after the last there is none.
pub(in crate::store) fn delays_after(error: &StoreError) -> Vec<f64> {
    let at_once = if error.is_away() { AWAY_TIMES - 1 } else { 0 };
    let later = (1..HELD_RETRIES.attempts).map(|tried| HELD_RETRIES.bound(tried).as_secs_f64());
    std::iter::repeat_n(0.0, at_once).chain(later).collect()
}

/// When the next try is after `tries` that failed, with the delays in the parameter `delays`.
pub(in crate::store) fn next_try(tries: &str, delays: &str) -> String {
    format!("coalesce(now() + ({delays}::float8[])[{tries}] * interval '1 second', 'infinity')")
}
