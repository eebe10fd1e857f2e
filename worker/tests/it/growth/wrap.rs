//! How the store is called here.

use std::time::{Duration, Instant};

/// A call of the store, which must answer at once.
pub(super) async fn quick<T>(what: &str, call: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = Box::pin(call).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{what} took {took:?}");
    answer
}

/// The store's own error, with its sources.
pub(super) fn ok<T>(result: slipway_worker::store::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}
