//! The way to RabbitMQ, which is asked through the worker's `amqp`; failures in words for people.

use slipway_worker::amqp::{AmqpError, BrokerConnection, BrokerEndpoints};

use crate::connect::settings::ConnectionSettings;
use crate::terminal::error::{CliError, CommandExit, join_sources};

/// A connection, and the words for its failures.
pub(crate) struct BrokerClient {
    pub(crate) connection: BrokerConnection,
    place: String,
}

impl BrokerClient {
    /// Connects once: a person waits, who can try again.
    pub(crate) async fn connect(settings: &ConnectionSettings) -> Result<Self, CliError> {
        let url = settings.amqp_url()?;
        let endpoints =
            BrokerEndpoints::new(url, settings.ca_file.as_deref(), "slipway-cli").map_err(|e| cli_error(None, &e))?;
        let connection = endpoints.connect("cli").await.map_err(|e| cli_error(None, &e))?;
        Ok(Self { connection, place: endpoints.to_string() })
    }

    /// What a failure of the broker means for the person who asked.
    pub(crate) fn cli_error(&self, error: &AmqpError) -> CliError {
        cli_error(Some(&self.place), error)
    }
}

fn cli_error(place: Option<&str>, error: &AmqpError) -> CliError {
    let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
    let text = format!("RabbitMQ{place}: {}", join_sources(error));
    match error {
        AmqpError::Url(_) => CliError::usage(text)
            .hint("set SLIPWAY_AMQP_URL to amqp://user:password@host:5672/vhost, or amqps:// for TLS"),
        _ => CliError::new(CommandExit::Unavailable, text)
            .hint("check that RabbitMQ runs, that SLIPWAY_AMQP_URL is right and that this machine may connect"),
    }
}
