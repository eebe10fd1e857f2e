//! What the relay reads of the outbox next: what waits, without what it has already and what is to wait.

use crate::store::{OrderingKey, OutboxPage, PublishOutcome, RelayLease, Store, StoreError};

/// Rows, of a message or a few, that are read at once.
const BATCH: u32 = 200;
/// The bodies in memory, without the last one: a dead letter may be as large as the broker allows.
pub(super) const BYTES: usize = 16 * 1024 * 1024;

/// The most that is read beside marking, which mustn't take long.
const BYTES_BESIDE_MARKS: u32 = 256 * 1024;

/// A page that is wanted.
pub(super) struct WantedPage {
    /// What is to wait.
    pub held: Vec<OrderingKey>,
    /// The places in the outbox of what is in memory.
    pub known: Vec<i64>,
    /// The bodies that are in memory.
    pub bytes: usize,
}

impl WantedPage {
    /// Reads it, and marks what was sent by the same statement.
    pub async fn read(
        &self,
        store: &Store,
        lease: RelayLease,
        sent: &[PublishOutcome],
    ) -> Result<OutboxPage, StoreError> {
        let bytes = u32::try_from(BYTES.saturating_sub(self.bytes)).unwrap_or(u32::MAX);
        if sent.is_empty() {
            return store.waiting_messages(&self.held, &self.known, BATCH, bytes).await;
        }
        store.mark_and_read(lease, sent, &self.held, &self.known, BATCH, bytes.min(BYTES_BESIDE_MARKS)).await
    }
}
