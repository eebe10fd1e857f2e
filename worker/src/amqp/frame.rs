//! Whether a message fits what AMQP allows: all headers and properties of a message are in one frame, whose length broker
//! and client have agreed on, and short texts have 255 bytes. One that doesn't fit would break the connection, however
//! often it's sent. How large a body may be only the broker knows.

use crate::message::Outgoing;

/// AMQP's short texts.
const MAX_SHORT: usize = 255;
/// A header frame without its properties: type, channel and length, class, weight, the body's length, flags, end.
const EMPTY_FRAME: usize = 22;
/// What every message has: delivery mode, timestamp, the table's length, and `app-id`.
const ALWAYS_THERE: usize = 1 + 8 + 4 + 1 + 16;

/// A sentence on why a message can't be sent.
pub(super) fn check(message: &Outgoing, frame_max: usize) -> Result<(), String> {
    let properties = [Some(&message.message_id), Some(&message.event_type)].into_iter().flatten();
    let properties = properties.chain(&message.correlation_id).chain(&message.content_type);
    let addresses = [&message.exchange, &message.routing_key];
    let mut shorts = properties.clone().chain(addresses).chain(message.headers.keys());
    if let Some(long) = shorts.find(|text| text.len() > MAX_SHORT) {
        let length = long.len();
        return Err(format!("an address, an id or a header's name has {length} bytes, and AMQP allows {MAX_SHORT}"));
    }
    let properties: usize = properties.map(|text| text.len() + 1).sum();
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    let frame = EMPTY_FRAME + ALWAYS_THERE + properties + headers;
    if frame > frame_max {
        return Err(format!("its headers and properties take {frame} bytes, and the broker takes {frame_max} at most"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_a_frame_or_a_short_text_does_not_fit() {
        let message = |name: &str, bytes: usize| Outgoing {
            headers: [(name.to_owned(), "x".repeat(bytes))].into(),
            ..Outgoing::default()
        };
        assert_eq!(check(&message("dlq-error-message", 100_000), 131_072), Ok(()));
        assert!(check(&message("dlq-error-message", 131_060), 131_072).is_err_and(|why| why.contains("131072")));
        assert!(check(&message(&"n".repeat(256), 1), 131_072).is_err_and(|why| why.contains("256")));
        let id = Some("i".repeat(300));
        assert!(check(&Outgoing { correlation_id: id, ..Outgoing::default() }, 131_072).is_err());
    }
}
