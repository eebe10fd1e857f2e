//! What the broker didn't take: a queue for it is missing or full, or its leader is just elected. It's sent again later, with
//! nothing of its deployment before it.

use std::collections::HashMap;
use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use tokio::time::Instant;

use crate::amqp::PublishError;
use crate::store::{OrderingKey, OutboxRow};
use crate::telemetry::Metrics;

/// The delay before a message is sent again that the broker returned or refused: nobody has bound a queue for it, a
/// subscriber's queue is full, or a queue's leader is just elected.
pub(crate) const REPUBLISH_BACKOFF: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(30),
    multiplier: 2.0,
    attempts: u32::MAX,
};

/// The ordering keys whose next message the broker didn't take.
#[derive(Debug, Default)]
pub(super) struct DelayedKeys(HashMap<OrderingKey, DelayedKey>);

/// When to try again, how often it was tried, and what needn't be sent again.
#[derive(Debug, Clone, Copy)]
struct DelayedKey {
    until: Instant,
    tried: u32,
    confirmed: ConfirmedPart,
}

/// How many messages of one row are confirmed already, with others of it to come, and whether one had no queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ConfirmedPart {
    pub position: i64,
    pub count: usize,
    pub unrouted: bool,
}

impl DelayedKeys {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key may be tried again.
    pub fn has_due(&self) -> bool {
        self.0.values().any(|key| key.until <= Instant::now())
    }

    /// Those that are to wait.
    pub fn waiting(&self) -> Vec<OrderingKey> {
        let now = Instant::now();
        self.0.iter().filter(|(_, delay)| delay.until > now).map(|(key, _)| *key).collect()
    }

    /// What of the first row of a group isn't sent again.
    pub fn confirmed_of(&self, group: &[OutboxRow]) -> ConfirmedPart {
        group.first().and_then(|row| self.0.get(&row.ordering_key)).map(|key| key.confirmed).unwrap_or_default()
    }

    /// All of this key was taken, or more of it than the last time.
    pub fn forget(&mut self, key: OrderingKey) {
        self.0.remove(&key);
    }

    /// Another relay may have published meanwhile.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// This message wasn't taken.
    pub fn delay(&mut self, row: &OutboxRow, confirmed: ConfirmedPart, error: &PublishError) {
        let tried = self.0.get(&row.ordering_key).map_or(0, |key| key.tried) + 1;
        let delay = REPUBLISH_BACKOFF.delay(tried).unwrap_or(REPUBLISH_BACKOFF.max);
        self.0.insert(row.ordering_key, DelayedKey { until: Instant::now() + delay, tried, confirmed });
        Metrics::get().published(if matches!(error, PublishError::Returned { .. }) { "returned" } else { "failed" });
        let deployment = row.deployment.map(|id| id.to_string());
        tracing::warn!(
            deployment.id = deployment,
            messaging.destination.name = row.message.exchange,
            messaging.rabbitmq.destination.routing_key = row.message.routing_key,
            retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "not published: {error}"
        );
    }
}
