//! The queue of dead letters, which programs of operators may read: what is old there, and is in Postgres, is taken off. A
//! limit can't be given to a queue that exists, nor do messages without one of their own leave a quorum queue before those
//! ahead of them; so the head is looked at.

use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::{read, topology};
use uuid::Uuid;

use super::error::ChoreError;
use crate::amqp::{BrokerConnection, QueueHead};
use crate::message::Incoming;
use crate::store::{Retention, Store};

/// Messages that one pass moves from the head to the end: the first that is too young, and strangers before it.
const MOVED: u32 = 100;

/// A pass over the queue.
pub(super) struct DeadLetterQueue {
    head: QueueHead,
    moved: u32,
}

impl DeadLetterQueue {
    pub(super) async fn open(link: &BrokerConnection) -> Result<Self, ChoreError> {
        Ok(Self { head: QueueHead::open(link, topology::DEAD_LETTERS_QUEUE).await?, moved: 0 })
    }

    /// Takes off what is old and known of the first `limit` messages; gives the number, and whether more may be.
    pub(super) async fn trim(
        &mut self,
        store: &Store,
        keep: &Retention,
        limit: u32,
    ) -> Result<(u64, bool), ChoreError> {
        let mut trimmed = 0;
        for _ in 0..limit {
            let Some(message) = self.head.next().await? else { return Ok((trimmed, false)) };
            let incoming = &message.delivered.incoming;
            let known = store.dead_letter_age(&ids(incoming)).await?;
            let old = match known {
                Some(age) => age >= keep.dead_letter_messages,
                // Its row was dealt with and pruned.
                None => was_pruned(incoming, keep.dead_letters, Timestamp::now()),
            };
            if old {
                message.take_off().await?;
                trimmed += 1;
                continue;
            }
            self.moved += 1;
            if !message.move_to_end().await? || known.is_some() || self.moved >= MOVED {
                return Ok((trimmed, false));
            }
        }
        Ok((trimmed, true))
    }
}

/// Under which ids it may be in Postgres: those of a worker that published it, else as one that the broker gave up.
fn ids(incoming: &Incoming) -> Vec<Uuid> {
    let told = ["dlq-id", "dlq-deployment-id"].map(|name| incoming.headers.get(name).and_then(|id| id.parse().ok()));
    let request = match read(&incoming.body, &incoming.metadata()) {
        Ok(slipway_protocol::Message::Ready(request)) => Some(request.deployment_id()),
        Ok(slipway_protocol::Message::Half(half)) => Some(half.deployment_id()),
        Ok(slipway_protocol::Message::Command(request)) => Some(request.deployment_id()),
        Ok(slipway_protocol::Message::Cancel(request)) => Some(request.deployment_id()),
        Ok(slipway_protocol::Message::Cordon(request)) => Some(request.deployment_id()),
        Err(rejection) => rejection.known.deployment_id(),
    };
    let from_body = Uuid::new_v5(&Uuid::NAMESPACE_OID, &incoming.body);
    told.into_iter().flatten().chain(request.map(|id| id.0)).chain([from_body]).collect()
}

fn was_pruned(incoming: &Incoming, kept: Duration, now: Timestamp) -> bool {
    let told = |name: &str| incoming.headers.get(name).and_then(|time| time.parse::<Timestamp>().ok());
    let Some(failed) = told("dlq-last-failed-at").filter(|_| incoming.headers.contains_key("dlq-id")) else {
        return false;
    };
    Duration::try_from(now.duration_since(failed)).is_ok_and(|age| age > kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_worker_published_long_ago_counts_as_pruned() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap_or_default();
        let message = |headers: &[(&str, &str)]| Incoming {
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Incoming::default()
        };
        let (id, kept) = (("dlq-id", "x"), Duration::from_secs(24 * 3600));
        let at = |time| ("dlq-last-failed-at", time);
        assert!(was_pruned(&message(&[id, at("2026-05-30T00:00:00Z")]), kept, now));
        assert!(!was_pruned(&message(&[id, at("2026-05-31T12:00:00Z")]), kept, now));
        assert!(!was_pruned(&message(&[id, at("2026-07-01T00:00:00Z")]), kept, now), "the future isn't long ago");
        assert!(!was_pruned(&message(&[at("2026-05-30T00:00:00Z")]), kept, now), "the broker's own");
    }
}
