//! Connections: one generation after the other, for ever, with jitter in between.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_deploy::retry::RetryPolicy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{AmqpError, BrokerAddress, CONNECT, NotAnAddress, answer, answer_within, inbound};
use crate::store::is_untrusted_certificate;

/// Seconds between heartbeats. A connection that is dead without a word is given up after five seconds here and after
/// six by the broker, which then delivers again what was under way: work goes on within ten. RabbitMQ advises against
/// less than five, since a slow network is then taken for a dead one; here that costs a reconnect and a few duplicates,
/// which are recognised.
pub(crate) const HEARTBEAT: u16 = 2;
/// A connection that lived this long has earned a quick reconnect.
const SETTLED: Duration = Duration::from_secs(30);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often a failure that stays the same is told.
const REMIND: Duration = Duration::from_secs(300);

/// Where the broker is and how to log in. No `Debug`: the addresses hold passwords.
#[derive(Clone)]
pub struct BrokerEndpoints {
    addresses: Arc<[BrokerAddress]>,
    tls: OwnedTLSConfig,
    name: String,
}

impl BrokerEndpoints {
    /// The broker at one of `urls` (`amqp://` or `amqps://`, separated by commas or white space) for the process
    /// `name`; `ca_file` (PEM) is trusted beside the system's roots.
    ///
    /// # Errors
    /// [`AmqpError::Url`] when a URL or the CA file can't be used.
    pub fn new(urls: &SecretString, ca_file: Option<&Path>, name: &str) -> Result<Self, AmqpError> {
        let mut addresses = BrokerAddress::list(urls.expose_secret()).map_err(|NotAnAddress(place)| {
            AmqpError::Url(format!("address {place} of it isn't amqp:// or amqps:// with host and credentials"))
        })?;
        for address in &mut addresses {
            address.uri.query.heartbeat = Some(HEARTBEAT);
        }
        let cert_chain = ca_file
            .map(|path| {
                std::fs::read_to_string(path).map_err(|e| AmqpError::Url(format!("CA file {}: {e}", path.display())))
            })
            .transpose()?;
        // lapin takes the process's provider; installing it twice is harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = OwnedTLSConfig { identity: None, cert_chain };
        Ok(Self { addresses: addresses.into(), tls, name: name.to_owned() })
    }

    /// Connects to the first address that can be, from one drawn at random on; `purpose` shows in the broker's list of
    /// connections.
    ///
    /// # Errors
    /// [`AmqpError::Unreachable`] when none can be reached in time or all refuse the login.
    pub async fn connect(&self, purpose: &str) -> Result<BrokerConnection, AmqpError> {
        let (mut refused, first) = (Vec::new(), self.any());
        for turn in 0..self.addresses.len() {
            let address = self.address(first + turn);
            match self.connect_to(address, purpose).await {
                Ok(link) => return Ok(link),
                Err(error) => refused.push((address.to_string(), error)),
            }
        }
        Err(AmqpError::Unreachable(refused))
    }

    async fn connect_to(&self, address: &BrokerAddress, purpose: &str) -> Result<BrokerConnection, AmqpError> {
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} {purpose}", self.name).into());
        let connect = inbound::connect(address.uri.clone(), properties, self.tls.clone());
        match answer_within(CONNECT, "a connection", connect).await {
            Ok(connection) => Ok(BrokerConnection::watch(connection)),
            Err(AmqpError::Broker { source, .. }) if is_untrusted_certificate(&source) => {
                Err(AmqpError::Certificate(source))
            }
            Err(error) => Err(error),
        }
    }

    fn address(&self, turn: usize) -> &BrokerAddress {
        &self.addresses[turn % self.addresses.len()]
    }

    /// Some address, so that many workers spread over a cluster.
    fn any(&self) -> usize {
        usize::from(uuid::Uuid::new_v4().into_bytes()[0])
    }

    /// An endless supply of connections for `purpose`.
    #[must_use]
    pub fn generations(&self, purpose: &'static str) -> ConnectionGenerations {
        let turn = self.any();
        ConnectionGenerations {
            broker: self.clone(),
            purpose,
            turn,
            tried: 0,
            number: 0,
            since: None,
            told: None,
            ended: None,
        }
    }
}

/// Every address, without logins.
impl std::fmt::Display for BrokerEndpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        f.write_str(&shown.join(", "))
    }
}

/// Connections one after the other; the next one is built when the last has failed.
pub struct ConnectionGenerations {
    broker: BrokerEndpoints,
    purpose: &'static str,
    turn: usize,
    tried: u32,
    number: u64,
    since: Option<Instant>,
    /// The last failure to connect that was told.
    told: Option<(String, Instant)>,
    /// The last end of a connection that was told.
    ended: Option<(String, Instant)>,
}

impl ConnectionGenerations {
    /// Lets the next connection come without a delay: the last one didn't fail for want of a broker.
    pub fn at_once(&mut self) {
        self.tried = 0;
    }

    /// Gives up the last connection, for `error`, which `what` puts into words; that is told when it's new, and again
    /// now and then.
    pub fn give_up(&mut self, what: &'static str, error: impl Into<anyhow::Error>) {
        let error = format!("{:#}", error.into());
        let settled = self.since.is_some_and(|since| since.elapsed() > SETTLED);
        if !settled && is_known(&self.ended, &error) {
            tracing::debug!(purpose = self.purpose, error, "{what}");
            return;
        }
        tracing::warn!(purpose = self.purpose, error, "{what}");
        self.ended = Some((error, Instant::now()));
    }

    /// The next connection, however long it takes; `None` once `stop` is cancelled. Goes from address to address, and
    /// waits after each round.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<BrokerConnection> {
        if self.since.is_some_and(|since| since.elapsed() > SETTLED) {
            self.tried = 0;
        }
        let round = self.broker.addresses.len();
        let mut failed = 0;
        loop {
            if self.tried > 0 && failed % round == 0 {
                let delay = RetryPolicy::RECONNECT.delay(self.tried).unwrap_or(RetryPolicy::RECONNECT.max);
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(delay) => {}
                }
            }
            self.tried = self.tried.saturating_add(1);
            let address = self.broker.address(self.turn).clone();
            let connected = tokio::select! {
                () = stop.cancelled() => return None,
                connected = self.broker.connect_to(&address, self.purpose) => connected,
            };
            // Also after a success: the connection that follows is needed when this address has failed.
            self.turn += 1;
            match connected {
                Ok(link) => {
                    self.number += 1;
                    let (purpose, generation) = (self.purpose, self.number);
                    // One connection after the other that comes to nothing isn't news.
                    let settled = self.since.is_none_or(|since| since.elapsed() > SETTLED);
                    if settled || self.told.is_some() {
                        tracing::info!(purpose, generation, address = %address, "connected to the broker");
                    } else {
                        tracing::debug!(purpose, generation, address = %address, "connected to the broker");
                    }
                    (self.since, self.told) = (Some(Instant::now()), None);
                    return Some(link);
                }
                Err(error) => self.tell(&address, error),
            }
            failed += 1;
        }
    }

    /// Tells a failure when it's new, and again now and then.
    fn tell(&mut self, address: &BrokerAddress, error: AmqpError) {
        let error = format!("{address}: {:#}", anyhow::Error::from(error));
        if is_known(&self.told, &error) {
            tracing::debug!(purpose = self.purpose, tries = self.tried, error, "waiting for the broker");
            return;
        }
        tracing::warn!(purpose = self.purpose, tries = self.tried, error, "waiting for the broker");
        self.told = Some((error, Instant::now()));
    }
}

/// Whether a failure was told not long ago.
fn is_known(told: &Option<(String, Instant)>, error: &str) -> bool {
    told.as_ref().is_some_and(|(told, at)| told == error && at.elapsed() < REMIND)
}

/// How a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// It works.
    Up,
    /// The broker is in alarm and takes no messages, for this reason.
    Blocked(String),
    /// It's gone, for this reason.
    Down(String),
}

/// One connection: one generation.
pub struct BrokerConnection {
    connection: Connection,
    state: watch::Receiver<ConnectionState>,
}

impl BrokerConnection {
    /// Takes the connection's one stream of events (two would steal each other's) and shows it to everybody.
    fn watch(connection: Connection) -> Self {
        let (sender, state) = watch::channel(ConnectionState::Up);
        let mut events = Box::pin(connection.events_listener());
        tokio::spawn(async move {
            loop {
                // The stream needn't end with the connection: whoever waits is let go with the last `BrokerConnection`.
                let event = tokio::select! {
                    () = sender.closed() => return,
                    event = events.next() => event,
                };
                let state = match event {
                    Some(Event::ConnectionBlocked(reason)) => ConnectionState::Blocked(reason),
                    Some(Event::ConnectionUnblocked) => ConnectionState::Up,
                    Some(Event::Error(error)) => ConnectionState::Down(error.to_string()),
                    Some(_) => continue,
                    None => ConnectionState::Down("the connection ended".to_owned()),
                };
                let down = matches!(state, ConnectionState::Down(_));
                tracing::debug!(?state, "broker connection");
                sender.send_replace(state);
                if down {
                    return;
                }
            }
        });
        Self { connection, state }
    }

    /// How it is now.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.state.borrow().clone()
    }

    /// Waits until it's in another state than `known`.
    pub async fn changed(&self, known: &ConnectionState) {
        // Fails only when nobody tells any more, which is after the last state.
        let _ = self.state.clone().wait_for(|state| state != known).await;
    }

    /// Waits until it's gone, and says why.
    pub async fn down(&self) -> String {
        let mut state = self.state.clone();
        match state.wait_for(|s| matches!(s, ConnectionState::Down(_))).await.map(|s| s.clone()) {
            Ok(ConnectionState::Down(reason)) => reason,
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

    /// How it is, to be watched.
    pub(super) fn states(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Says goodbye to a broker that listens; the connection is gone afterwards in any case.
    pub async fn close(self) {
        if self.state() == ConnectionState::Up {
            let _ = answer_within(GOODBYE, "a goodbye", self.connection.close(200, "bye".into())).await;
        }
    }
}
