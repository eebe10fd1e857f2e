//! The way to RabbitMQ, which is asked through the worker's `amqp`; failures in words for people.

use slipway_worker::amqp::{AmqpError, Broker, Link};

use crate::settings::{Settings, shown};
use crate::trouble::{Exit, Trouble, chain};

/// A connection, and the words for its failures.
pub(crate) struct Bus {
    pub(crate) link: Link,
    place: String,
}

impl Bus {
    /// Connects once: a person waits, who can try again.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, Trouble> {
        let url = settings.amqp_url()?;
        let place = shown(url);
        let broker = Broker::new(url, settings.ca_file.as_deref(), "slipway-cli").map_err(|e| trouble(&place, &e))?;
        let link = broker.connect("cli").await.map_err(|e| trouble(&place, &e))?;
        Ok(Self { link, place })
    }

    /// What a failure of the broker means for the person who asked.
    pub(crate) fn trouble(&self, error: &AmqpError) -> Trouble {
        trouble(&self.place, error)
    }
}

fn trouble(place: &str, error: &AmqpError) -> Trouble {
    let text = format!("RabbitMQ at {place}: {}", chain(error));
    match error {
        AmqpError::Url(_) => Trouble::usage(text)
            .hint("set SLIPWAY_AMQP_URL to amqp://user:password@host:5672/vhost, or amqps:// for TLS"),
        AmqpError::Broker { .. } | AmqpError::TimedOut { .. } => Trouble::new(Exit::Unavailable, text)
            .hint("check that RabbitMQ runs, that SLIPWAY_AMQP_URL is right and that this machine may connect"),
    }
}
