//! Consumers. A stream that ends with `None` was cancelled by the broker or lost its queue. Polling it again would hang
//! for ever, though the channel still counts as connected; so [`Subscription::next`] gives `None` from then on.

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use slipway_protocol::{is_attribute, topology, without_byte_order_mark};

use super::answer::answer;
use super::{AmqpError, BrokerConnection, XDeath};
use crate::message::Incoming;

/// A message that waits to be acknowledged; unacknowledged, it comes again once the channel is gone.
pub struct Delivered {
    /// What was delivered.
    pub incoming: Incoming,
    /// Why the broker made it a dead letter, if it did.
    pub death: Option<XDeath>,
    acker: lapin::Acker,
}

impl Delivered {
    /// Acknowledges it. False when the acknowledgement can't count, since its channel is gone: it will come again.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn ack(&self) -> Result<bool, AmqpError> {
        answer("an acknowledgement", self.acker.ack(BasicAckOptions::default())).await
    }

    /// Refuses it for good: the broker puts it where the queue's dead letters go.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn reject(&self) -> Result<bool, AmqpError> {
        answer("a rejection", self.acker.reject(BasicRejectOptions { requeue: false })).await
    }
}

/// A consumer on a channel of its own.
pub struct Subscription {
    channel: Channel,
    consumer: Consumer,
    ended: bool,
}

impl Subscription {
    /// The next message; `None` when the broker cancelled the consumer or the queue is gone, and ever after.
    ///
    /// # Errors
    /// When the channel or the connection broke.
    pub async fn next(&mut self) -> Result<Option<Delivered>, AmqpError> {
        if self.ended {
            return Ok(None);
        }
        match self.consumer.next().await {
            Some(Ok(delivery)) => Ok(Some(convert_delivery(delivery))),
            Some(Err(source)) => {
                self.ended = true;
                Err(AmqpError::Broker { what: "a consumer", source })
            }
            None => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    /// Asks the broker for no more messages; those under way may still be acknowledged.
    ///
    /// # Errors
    /// When the broker refuses, is gone or doesn't answer.
    pub async fn cancel(&self) -> Result<(), AmqpError> {
        let cancel = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        answer("the end of a consumer", cancel).await
    }

    /// The queue it consumes.
    #[must_use]
    pub fn queue(&self) -> String {
        self.consumer.queue().to_string()
    }
}

/// Consumes `queue` with at most `prefetch` messages unacknowledged, which is the only limit to the rate of deliveries.
///
/// # Errors
/// When the broker refuses (there is no such queue), is gone or doesn't answer.
pub async fn consume(link: &BrokerConnection, queue: &str, prefetch: u16) -> Result<Subscription, AmqpError> {
    let channel = link.channel().await?;
    start(channel, queue, prefetch, BasicConsumeOptions::default()).await
}

/// Consumes the events whose routing keys match `pattern`, through a durable queue of this subscriber's own: it's made, if it
/// isn't there, and goes on collecting while nobody consumes it.
///
/// # Errors
/// When the broker refuses (the topology isn't declared, or `queue` is there with other settings), is gone or doesn't
/// answer.
pub async fn consume_events(
    link: &BrokerConnection,
    queue: &str,
    pattern: &str,
    prefetch: u16,
) -> Result<Subscription, AmqpError> {
    let channel = link.channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    answer("a queue", channel.queue_declare(queue.into(), options, arguments)).await?;
    let (exchange, options) = (topology::EVENTS.into(), QueueBindOptions::default());
    let bind = channel.queue_bind(queue.into(), exchange, pattern.into(), options, FieldTable::default());
    answer("a binding", bind).await?;
    start(channel, queue, prefetch, BasicConsumeOptions::default()).await
}

/// Follows the events whose routing keys match `patterns`, through a queue that ends with the connection. With no
/// pattern, only messages that are sent to the queue by its name arrive.
///
/// # Errors
/// When the broker refuses (the topology isn't declared), is gone or doesn't answer.
pub async fn subscribe(link: &BrokerConnection, patterns: &[&str]) -> Result<Subscription, AmqpError> {
    let channel = link.channel().await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = answer("a queue", channel.queue_declare("".into(), options, FieldTable::default())).await?;
    for pattern in patterns {
        let bind = channel.queue_bind(
            queue.name().clone(),
            topology::EVENTS.into(),
            (*pattern).into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        answer("a binding", bind).await?;
    }
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    start(channel, queue.name().as_str(), 0, options).await
}

async fn start(
    channel: Channel,
    queue: &str,
    prefetch: u16,
    options: BasicConsumeOptions,
) -> Result<Subscription, AmqpError> {
    answer("a prefetch limit", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let consume = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    let consumer = answer("a consumer", consume).await?;
    Ok(Subscription { channel, consumer, ended: false })
}

/// A header's text, if it's of use. Libraries send attributes of an event in the types that AMQP has for them; one of
/// another type is refused where it's read, since an event says something else without it. Bytes that aren't UTF-8 become
/// U+FFFD, which no id contains.
fn header_text(name: &str, value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(v) => v.to_string(),
        AMQPValue::ShortString(v) => v.to_string(),
        _ if !is_attribute(name) => return None,
        AMQPValue::Void => return None,
        AMQPValue::Boolean(v) => v.to_string(),
        AMQPValue::ShortShortInt(v) => v.to_string(),
        AMQPValue::ShortShortUInt(v) => v.to_string(),
        AMQPValue::ShortInt(v) => v.to_string(),
        AMQPValue::ShortUInt(v) => v.to_string(),
        AMQPValue::LongInt(v) => v.to_string(),
        AMQPValue::LongUInt(v) => v.to_string(),
        AMQPValue::LongLongInt(v) => v.to_string(),
        AMQPValue::Timestamp(v) => v.to_string(),
        AMQPValue::Float(v) => v.to_string(),
        AMQPValue::Double(v) => v.to_string(),
        AMQPValue::ByteArray(v) => String::from_utf8_lossy(v.as_slice()).into_owned(),
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => "?".to_owned(),
    })
}

pub(super) fn convert_delivery(delivery: Delivery) -> Delivered {
    let headers = delivery.properties.headers().as_ref().map(|table| {
        let text = |name: &str, value| Some((name.to_owned(), header_text(name, value)?));
        table.inner().iter().filter_map(|(name, value)| text(name.as_str(), value)).collect()
    });
    let mut body = delivery.data;
    body.drain(..body.len() - without_byte_order_mark(&body).len());
    Delivered {
        incoming: Incoming {
            body,
            content_type: delivery.properties.content_type().as_ref().map(ToString::to_string),
            headers: headers.unwrap_or_default(),
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            user: delivery.properties.user_id().as_ref().map(ToString::to_string),
        },
        death: delivery.properties.headers().as_ref().and_then(XDeath::read),
        acker: delivery.acker,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    #[test]
    fn an_attribute_of_an_event_counts_in_whatever_type_it_comes() {
        let text = |value| header_text("cloudEvents:time", &value);
        for (value, expected) in [
            (AMQPValue::LongString("x".into()), Some("x")),
            (AMQPValue::Timestamp(1_764_460_800), Some("1764460800")),
            (AMQPValue::Double(1_764_460_800.5), Some("1764460800.5")),
            (AMQPValue::ByteArray("2025-11-30T00:00:00Z".as_bytes().into()), Some("2025-11-30T00:00:00Z")),
            // What it says is unknown, and that it says something isn't.
            (AMQPValue::FieldArray(FieldArray::default()), Some("?")),
            (AMQPValue::Void, None),
        ] {
            assert_eq!(text(value.clone()).as_deref(), expected, "{value:?}");
        }
        assert_eq!(header_text("x-retries", &AMQPValue::LongInt(1)), None, "nobody reads it");
    }
}
