//! The connection to RabbitMQ, made by the worker's `amqp`. Its failures become errors that say what to do.

use slipway_worker::amqp::{AmqpError, BrokerConnection, BrokerEndpoints};

use crate::connect::settings::ConnectionSettings;
use crate::terminal::error::{CliError, CommandExit, join_sources};

/// A connection, and where it leads to, for error messages.
pub(crate) struct BrokerClient {
    pub(crate) connection: BrokerConnection,
    place: String,
}

impl BrokerClient {
    /// Connects, and doesn't retry: a person waits and can run the command again.
    pub(crate) async fn connect(settings: &ConnectionSettings) -> Result<Self, CliError> {
        let url = settings.amqp_url()?;
        let endpoints =
            BrokerEndpoints::new(url, settings.ca_file.as_deref(), "slipway-cli").map_err(|e| cli_error(None, &e))?;
        let connection = endpoints.connect("cli").await.map_err(|e| cli_error(None, &e))?;
        Ok(Self { connection, place: endpoints.to_string() })
    }

    /// The error that a person sees for a failure of the broker, with what to do.
    pub(crate) fn cli_error(&self, error: &AmqpError) -> CliError {
        cli_error(Some(&self.place), error)
    }
}

/// The error that a person sees for a failure of the broker at `place`.
pub(crate) fn cli_error(place: Option<&str>, error: &AmqpError) -> CliError {
    let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
    let text = format!("RabbitMQ{place}: {}", join_sources(error));
    match error {
        AmqpError::Url(_) => CliError::usage(text)
            .hint("set SLIPWAY_AMQP_URL to amqp://user:password@host:5672/vhost, or amqps:// for TLS"),
        _ => CliError::new(CommandExit::Unavailable, text)
            .hint("check that RabbitMQ runs, that SLIPWAY_AMQP_URL is right and that this machine may connect"),
    }
}
