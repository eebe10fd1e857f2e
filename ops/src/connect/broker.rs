//! The way to RabbitMQ, which is asked through the worker's `amqp`; failures in words for people.

use slipway_worker::amqp::{AmqpError, BrokerConnection, BrokerEndpoints};

use crate::connect::settings::ConnectionSettings;
use crate::terminal::error::{CliError, CommandExit, chain};

/// A connection, and the words for its failures.
pub(crate) struct BrokerClient {
    pub(crate) link: BrokerConnection,
    place: String,
}

impl BrokerClient {
    /// Connects once: a person waits, who can try again.
    pub(crate) async fn connect(settings: &ConnectionSettings) -> Result<Self, CliError> {
        let url = settings.amqp_url()?;
        let broker =
            BrokerEndpoints::new(url, settings.ca_file.as_deref(), "slipway-cli").map_err(|e| trouble(None, &e))?;
        let link = broker.connect("cli").await.map_err(|e| trouble(None, &e))?;
        Ok(Self { link, place: broker.to_string() })
    }

    /// What a failure of the broker means for the person who asked.
    pub(crate) fn trouble(&self, error: &AmqpError) -> CliError {
        trouble(Some(&self.place), error)
    }
}

fn trouble(place: Option<&str>, error: &AmqpError) -> CliError {
    let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
    let text = format!("RabbitMQ{place}: {}", chain(error));
    match error {
        AmqpError::Url(_) => CliError::usage(text)
            .hint("set SLIPWAY_AMQP_URL to amqp://user:password@host:5672/vhost, or amqps:// for TLS"),
        _ => CliError::new(CommandExit::Unavailable, text)
            .hint("check that RabbitMQ runs, that SLIPWAY_AMQP_URL is right and that this machine may connect"),
    }
}
