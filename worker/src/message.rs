//! A message that came from the broker and a message that is to be published: plain values between the broker
//! ([`crate::amqp`]) and the database ([`crate::store`]), which don't use each other.

use std::collections::BTreeMap;

use slipway_protocol::Metadata;

/// How much of a message's headers is kept, in bytes. AMQP wants all of them in one frame (128 KiB unless the broker
/// says otherwise), and a dead letter or a replay adds headers of its own: without room for those it couldn't be
/// published.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// A message as the broker delivered it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The body, byte by byte.
    pub body: Vec<u8>,
    /// Property `content-type`.
    pub content_type: Option<String>,
    /// Headers whose values are text; no others are read or kept.
    pub headers: BTreeMap<String, String>,
    /// The exchange it was published to.
    pub exchange: String,
    /// The routing key of its delivery.
    pub routing_key: String,
    /// Property `user-id`: the broker lets through only the name that the publisher logged in with.
    pub user: Option<String>,
}

impl Incoming {
    /// What [`slipway_protocol::decode`] needs beside the body.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata { content_type: self.content_type.clone(), headers: self.headers.clone() }
    }

    /// A copy that PostgreSQL's text can hold: without NUL, but in the body, which is stored as bytes.
    #[must_use]
    pub(crate) fn without_nul(&self) -> Self {
        let clean = |text: &str| text.replace('\0', "");
        Self {
            body: self.body.clone(),
            content_type: self.content_type.as_deref().map(clean),
            headers: self.headers.iter().map(|(name, value)| (clean(name), clean(value))).collect(),
            exchange: clean(&self.exchange),
            routing_key: clean(&self.routing_key),
            user: self.user.as_deref().map(clean),
        }
    }

    /// Leaves out the largest headers, until the rest can be published again; gives their names.
    pub fn fit_headers(&mut self) -> Vec<String> {
        // AMQP adds the lengths of both and the value's type.
        let size = |name: &str, value: &str| name.len() + value.len() + 6;
        let mut sizes: Vec<(usize, String)> =
            self.headers.iter().map(|(name, value)| (size(name, value), name.clone())).collect();
        let mut total: usize = sizes.iter().map(|(size, _)| size).sum();
        sizes.sort();
        let mut left_out = Vec::new();
        while total > MAX_HEADER_BYTES
            && let Some((size, name)) = sizes.pop()
        {
            total -= size;
            self.headers.remove(&name);
            left_out.push(name);
        }
        left_out
    }
}

/// A message to be published: always persistent, mandatory and confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Exchange to publish to.
    pub exchange: String,
    /// The routing key, by which the exchange finds the queues.
    pub routing_key: String,
    /// Property `message-id`; a duplicate has the same.
    pub message_id: String,
    /// Property `type`: the event's type.
    pub event_type: String,
    /// Property `correlation-id`.
    pub correlation_id: Option<String>,
    /// Property `content-type`.
    pub content_type: Option<String>,
    /// Headers; `traceparent` is among them when there is one.
    pub headers: BTreeMap<String, String>,
    /// The body, byte by byte.
    pub body: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_headers_are_left_out_until_the_rest_fits_a_frame() {
        let header = |name: &str, bytes: usize| (name.to_owned(), "x".repeat(bytes));
        let headers = [header("a", 10), header("b", 60_000), header("c", 100_000), header("d", 6_000)];
        let mut incoming = Incoming { headers: headers.into(), ..Incoming::default() };
        assert_eq!(incoming.fit_headers(), ["c", "b"]);
        assert_eq!(incoming.headers.keys().collect::<Vec<_>>(), ["a", "d"]);
        assert!(incoming.fit_headers().is_empty());
    }

    #[test]
    fn many_small_headers_are_as_large_as_amqp_makes_them() {
        let headers = (0..20_000).map(|n| (format!("{n}"), String::new())).collect();
        let mut incoming = Incoming { headers, ..Incoming::default() };
        assert!(!incoming.fit_headers().is_empty());
        assert!(incoming.headers.keys().map(|name| name.len() + 6).sum::<usize>() <= MAX_HEADER_BYTES);
    }
}
