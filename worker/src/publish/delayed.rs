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

/// Of more keys than these each is tried less often: what nobody takes mustn't cost the relay the time for what somebody does.
const CROWD: usize = 10_000;

/// The ordering keys whose next message the broker didn't take: as many as there are. One that was forgotten would be sent again
/// at once, before all that is newer; and to read nothing new beyond some number would let them hold up everybody else.
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
        let crowds = u32::try_from(self.0.len() / CROWD).unwrap_or(u32::MAX).saturating_add(1);
        let delay = REPUBLISH_BACKOFF.delay(tried).unwrap_or(REPUBLISH_BACKOFF.max).saturating_mul(crowds);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Outgoing;

    #[test]
    fn however_many_messages_nobody_takes_few_of_them_are_due_at_once() {
        let mut delayed = DelayedKeys::default();
        for position in 0..100_000 {
            let row = OutboxRow {
                position,
                ordering_key: OrderingKey::Alone(position),
                deployment: None,
                breaks: 0,
                must_route: true,
                message: Outgoing::default(),
                unreadable: None,
            };
            // As often as takes them to the longest delay.
            let tried = DelayedKey { until: Instant::now(), tried: 10, confirmed: ConfirmedPart::default() };
            delayed.0.insert(row.ordering_key, tried);
            delayed.delay(&row, ConfirmedPart::default(), &PublishError::Nacked);
        }
        let soon = Instant::now() + Duration::from_secs(10);
        let due = delayed.0.values().filter(|key| key.until <= soon).count();
        // Without regard to their number it would be a third of them, 3,300 a second.
        assert!((1_000..20_000).contains(&due), "{due}");
    }
}
