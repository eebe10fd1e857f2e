//! How long one half of a request waits for the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// How long halves wait, and who is to look anew when one begins to; clones share it.
#[derive(Debug, Clone)]
pub struct HalfPatience {
    /// How long one half of a request waits for the other.
    pub limit: Duration,
    begun: Arc<Notify>,
}

impl HalfPatience {
    /// Halves wait for so long.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, begun: Arc::default() }
    }

    /// A half begins to wait.
    pub(super) fn note_begun(&self) {
        self.begun.notify_one();
    }

    /// Waits until a half of this process has begun to.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }
}
