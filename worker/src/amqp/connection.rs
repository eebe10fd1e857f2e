//! Connections: one generation after the other, for ever, with jitter in between.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_deploy::retry::Policy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{AmqpError, answer};

/// Seconds between heartbeats; a peer that misses two is gone.
pub(crate) const HEARTBEAT: u16 = 10;
/// A connection that lived this long has earned a quick reconnect.
const SETTLED: Duration = Duration::from_secs(30);

/// Where the broker is and how to log in. No `Debug`: the URL holds a password.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    name: String,
}

impl Broker {
    /// The broker at `url` (`amqp://` or `amqps://`) for the process `name`; `ca_file` (PEM) is trusted beside the
    /// system's roots.
    ///
    /// # Errors
    /// [`AmqpError::Url`] when the URL or the CA file can't be used.
    pub fn new(url: &SecretString, ca_file: Option<&Path>, name: &str) -> Result<Self, AmqpError> {
        let mut uri: AMQPUri = url
            .expose_secret()
            .parse()
            .map_err(|_| AmqpError::Url("it isn't amqp:// or amqps:// with host and credentials".to_owned()))?;
        uri.query.heartbeat = Some(HEARTBEAT);
        uri.query.connection_timeout = Some(5_000);
        let cert_chain = ca_file
            .map(|path| {
                std::fs::read_to_string(path).map_err(|e| AmqpError::Url(format!("CA file {}: {e}", path.display())))
            })
            .transpose()?;
        // lapin takes the process's provider; installing it twice is harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { uri, tls: OwnedTLSConfig { identity: None, cert_chain }, name: name.to_owned() })
    }

    /// Connects once; `purpose` shows in the broker's list of connections.
    ///
    /// # Errors
    /// When the broker can't be reached in time or refuses the login.
    pub async fn connect(&self, purpose: &str) -> Result<Link, AmqpError> {
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} {purpose}", self.name).into());
        let runtime =
            lapin::runtime::default_runtime().map_err(|source| AmqpError::Broker { what: "a connection", source })?;
        let connect = Connection::connect_uri_with_config(self.uri.clone(), properties, self.tls.clone(), runtime);
        Ok(Link::watch(answer("a connection", connect).await?))
    }

    /// An endless supply of connections for `purpose`.
    #[must_use]
    pub fn generations(&self, purpose: &'static str) -> Generations {
        Generations { broker: self.clone(), purpose, tried: 0, number: 0, since: None }
    }
}

/// Connections one after the other; the next one is built when the last has failed.
pub struct Generations {
    broker: Broker,
    purpose: &'static str,
    tried: u32,
    number: u64,
    since: Option<Instant>,
}

impl Generations {
    /// Lets the next connection come without a delay: the last one didn't fail for want of a broker.
    pub fn at_once(&mut self) {
        self.tried = 0;
    }

    /// The next connection, however long it takes; `None` once `stop` is cancelled.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Link> {
        if self.since.is_some_and(|since| since.elapsed() > SETTLED) {
            self.tried = 0;
        }
        loop {
            if self.tried > 0 {
                let delay = Policy::RECONNECT.delay(self.tried).unwrap_or(Policy::RECONNECT.max);
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(delay) => {}
                }
            }
            self.tried = self.tried.saturating_add(1);
            let connected = tokio::select! {
                () = stop.cancelled() => return None,
                connected = self.broker.connect(self.purpose) => connected,
            };
            match connected {
                Ok(link) => {
                    self.number += 1;
                    self.since = Some(Instant::now());
                    tracing::info!(purpose = self.purpose, generation = self.number, "connected to the broker");
                    return Some(link);
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!(purpose = self.purpose, tries = self.tried, error, "waiting for the broker");
                }
            }
        }
    }
}

/// How a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// It works.
    Up,
    /// The broker is in alarm and takes no messages, for this reason.
    Blocked(String),
    /// It's gone, for this reason.
    Down(String),
}

/// One connection: one generation.
pub struct Link {
    connection: Connection,
    state: watch::Receiver<LinkState>,
    garbled: Arc<AtomicBool>,
}

impl Link {
    /// Takes the connection's one stream of events (two would steal each other's) and shows it to everybody.
    fn watch(connection: Connection) -> Self {
        let (sender, state) = watch::channel(LinkState::Up);
        let garbled = Arc::new(AtomicBool::new(false));
        let seen = garbled.clone();
        let mut events = Box::pin(connection.events_listener());
        tokio::spawn(async move {
            loop {
                // The stream needn't end with the connection: whoever waits is let go with the last `Link`.
                let event = tokio::select! {
                    () = sender.closed() => return,
                    event = events.next() => event,
                };
                let state = match event {
                    Some(Event::ConnectionBlocked(reason)) => LinkState::Blocked(reason),
                    Some(Event::ConnectionUnblocked) => LinkState::Up,
                    Some(Event::Error(error)) => {
                        seen.fetch_or(matches!(error.kind(), ErrorKind::ParsingError(_)), Ordering::Relaxed);
                        LinkState::Down(error.to_string())
                    }
                    Some(_) => continue,
                    None => LinkState::Down("the connection ended".to_owned()),
                };
                let down = matches!(state, LinkState::Down(_));
                tracing::debug!(?state, "broker connection");
                sender.send_replace(state);
                if down {
                    return;
                }
            }
        });
        Self { connection, state, garbled }
    }

    /// Whether it broke at something that came and couldn't be read. To be asked after [`Link::down`].
    #[must_use]
    pub fn garbled(&self) -> bool {
        self.garbled.load(Ordering::Relaxed)
    }

    /// How it is now.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state.borrow().clone()
    }

    /// Waits until it's gone, and says why.
    pub async fn down(&self) -> String {
        let mut state = self.state.clone();
        match state.wait_for(|s| matches!(s, LinkState::Down(_))).await.map(|s| s.clone()) {
            Ok(LinkState::Down(reason)) => reason,
            _ => "the connection ended".to_owned(),
        }
    }

    /// A new channel.
    ///
    /// # Errors
    /// When the broker refuses, is gone or doesn't answer.
    pub async fn channel(&self) -> Result<Channel, AmqpError> {
        answer("a channel", self.connection.create_channel()).await
    }

    /// Says goodbye, for as long as one answer may take; the connection is gone afterwards in any case.
    pub async fn close(self) {
        let _ = answer("the end of the connection", self.connection.close(200, "bye".into())).await;
    }
}
