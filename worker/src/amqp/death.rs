//! What the broker says about a message that it made a dead letter: the newest entry of the header `x-death`.

use lapin::types::{AMQPValue, FieldTable};

/// Why a queue gave a message up. A producer can invent entries of `x-death`, but the broker always puts its own before
/// them; only place and key may then be the producer's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XDeath {
    /// The queue that gave it up.
    pub queue: String,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: String,
    /// The exchange that it had been published to.
    pub exchange: String,
}

impl XDeath {
    /// The newest entry; `None` for a message that no queue ever gave up.
    pub(super) fn read(headers: &FieldTable) -> Option<Self> {
        let Some(AMQPValue::FieldArray(entries)) = headers.inner().get("x-death") else { return None };
        let Some(AMQPValue::FieldTable(newest)) = entries.as_slice().first() else { return None };
        let text = |name: &str| match newest.inner().get(name) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            Some(AMQPValue::ShortString(text)) => Some(text.to_string()),
            _ => None,
        };
        Some(Self { queue: text("queue")?, reason: text("reason")?, exchange: text("exchange").unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(queue: &str, reason: &str) -> AMQPValue {
        let mut table = FieldTable::default();
        for (name, text) in [("queue", queue), ("reason", reason), ("exchange", "slipway.requests")] {
            table.insert(name.into(), AMQPValue::LongString(text.into()));
        }
        AMQPValue::FieldTable(table)
    }

    fn headers(entries: Vec<AMQPValue>) -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(entries.into()));
        headers
    }

    #[test]
    fn the_newest_entry_counts() {
        let entries = vec![entry("slipway.deployments", "delivery_limit"), entry("invented", "rejected")];
        let death = XDeath {
            queue: "slipway.deployments".to_owned(),
            reason: "delivery_limit".to_owned(),
            exchange: "slipway.requests".to_owned(),
        };
        assert_eq!(XDeath::read(&headers(entries)), Some(death));
    }

    #[test]
    fn what_is_no_list_of_tables_is_no_death() {
        let mut text = FieldTable::default();
        text.insert("x-death".into(), AMQPValue::LongString("delivery_limit".into()));
        for headers in [FieldTable::default(), text, headers(vec![]), headers(vec![AMQPValue::Boolean(true)])] {
            assert_eq!(XDeath::read(&headers), None);
        }
    }
}
