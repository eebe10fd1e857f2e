//! Why a chore doesn't go on.

use crate::amqp::AmqpError;
use crate::store::StoreError;

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChoreError {
    /// The worker drains; whoever comes next goes on where this one was.
    #[error("draining")]
    Drained,
    /// Another worker has the chores.
    #[error("another worker does it by now")]
    Lost,
    /// Pruning reads by indexes that aren't there yet.
    #[error("indexes are still missing: {0}")]
    NoIndexes(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] AmqpError),
}
