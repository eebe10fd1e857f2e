//! Where the broker is, and one connection to it. When the next connection is tried is decided in `generations`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;

use super::address::{BrokerAddress, NotAnAddress};
use super::answer::{CONNECT, answer, answer_within};
use super::connection_state::ConnectionState;
use super::error::AmqpError;
use super::inbound;
use crate::store::is_untrusted_certificate;

/// Seconds between heartbeats. A connection that died silently is given up after five seconds here and after six by the
/// broker, which then delivers its unacknowledged messages again: work continues within ten. RabbitMQ advises against
/// less than five, since a slow network is then taken for a dead one; here that costs a reconnect and a few duplicates,
/// which are recognised.
pub(crate) const HEARTBEAT: u16 = 2;
/// The same where nobody waits for what comes, or another connection tells, see [`BrokerEndpoints::unhurried`]: 25 seconds
/// here, 30 at the broker.
pub(crate) const UNHURRIED_HEARTBEAT: u16 = 10;
/// The longest frame, which is RabbitMQ's own, unless the URL says something else (`?frame_max=`). Known before the broker
/// says so, lapin makes its two buffers of 32 frames at once, and the kernel gives memory for what of them is used alone;
/// made longer later, all of it would be written to.
const FRAME_MAX: u32 = 128 * 1024;
/// How long a broker that is there may take to say so.
pub(crate) const SIGN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection over which the broker hasn't answered is left to its heartbeats, which end it within 25 seconds.
const LEFT: Duration = Duration::from_secs(60);
/// How long closing a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Where the broker is and how to log in. No `Debug`: the addresses hold passwords.
#[derive(Clone)]
pub struct BrokerEndpoints {
    pub(super) addresses: Arc<[BrokerAddress]>,
    tls: OwnedTLSConfig,
    name: String,
    heartbeat: u16,
    /// The address that is tried first. Drawn at random, so that many workers spread over a cluster; and once, so that one
    /// worker's connections end together with their node.
    first: usize,
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
            address.uri.query.frame_max.get_or_insert(FRAME_MAX);
        }
        let cert_chain = ca_file
            .map(|path| {
                std::fs::read_to_string(path).map_err(|e| AmqpError::Url(format!("CA file {}: {e}", path.display())))
            })
            .transpose()?;
        // lapin takes the process's provider; installing it twice is harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = OwnedTLSConfig { identity: None, cert_chain };
        let first = uuid::Uuid::new_v4().into_bytes()[0].into();
        Ok(Self { addresses: addresses.into(), tls, name: name.to_owned(), heartbeat: HEARTBEAT, first })
    }

    /// The same, for connections that needn't be given up as soon when they die silently: they cost an idle worker less.
    #[must_use]
    pub fn unhurried(&self) -> Self {
        Self { heartbeat: UNHURRIED_HEARTBEAT, ..self.clone() }
    }

    /// Connects to the first address that can be, beginning with the process's own; `purpose` shows in the broker's list of
    /// connections.
    ///
    /// # Errors
    /// [`AmqpError::Unreachable`] when none can be reached in time or all refuse the login.
    pub async fn connect(&self, purpose: &str) -> Result<BrokerConnection, AmqpError> {
        let mut refused = Vec::new();
        for turn in 0..self.addresses.len() {
            let address = self.address(turn);
            match self.connect_to(address, purpose).await {
                Ok(link) => return Ok(link),
                Err(error) => refused.push((address.to_string(), error)),
            }
        }
        Err(AmqpError::Unreachable(refused))
    }

    pub(super) async fn connect_to(
        &self,
        address: &BrokerAddress,
        purpose: &str,
    ) -> Result<BrokerConnection, AmqpError> {
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} {purpose}", self.name).into());
        let mut uri = address.uri.clone();
        uri.query.heartbeat = Some(self.heartbeat);
        let connect = inbound::connect(uri, properties, self.tls.clone());
        match answer_within(CONNECT, "a connection", connect).await {
            Ok(connection) => Ok(BrokerConnection::watch(connection)),
            Err(AmqpError::Broker { source, .. }) if is_untrusted_certificate(&source) => {
                Err(AmqpError::Certificate(source))
            }
            Err(error) => Err(error),
        }
    }

    /// The address whose turn it is, from the first, 0, on.
    pub(super) fn address(&self, turn: usize) -> &BrokerAddress {
        &self.addresses[(self.first + turn) % self.addresses.len()]
    }
}

/// Every address, without logins.
impl std::fmt::Display for BrokerEndpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        f.write_str(&shown.join(", "))
    }
}

/// One connection: one generation.
pub struct BrokerConnection {
    connection: Connection,
    state: watch::Receiver<ConnectionState>,
}

impl BrokerConnection {
    /// Reads the connection's only stream of events (two readers would each miss some) and shares the state.
    fn watch(connection: Connection) -> Self {
        let (sender, state) = watch::channel(ConnectionState::Up);
        let mut events = Box::pin(connection.events_listener());
        tokio::spawn(async move {
            loop {
                // The stream may not end with the connection; so this task ends with the last `BrokerConnection`.
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

    /// Its state at this moment.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.state.borrow().clone()
    }

    /// Waits until it's in another state than `known`.
    pub async fn changed(&self, known: &ConnectionState) {
        // Fails only when the sender is gone, which is after the last state.
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

    /// Asks the broker for a sign of life; one in alarm reads none of what is sent to it.
    ///
    /// # Errors
    /// When it's gone or doesn't answer soon.
    pub async fn answers(&self) -> Result<(), AmqpError> {
        answer_within(SIGN_TIMEOUT, "a sign of life", self.connection.create_channel()).await.map(drop)
    }

    /// The largest frame that both ends take, in bytes.
    pub(super) fn frame_max(&self) -> usize {
        usize::try_from(self.connection.configuration().frame_max()).unwrap_or(usize::MAX)
    }

    /// Its state as a receiver, which is woken by every change.
    pub(super) fn states(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Leaves a connection over which the broker hasn't answered to its heartbeats. A goodbye ends those, and then waits for
    /// as long as TCP does. What turns out to be well is closed in order.
    pub fn leave(self) {
        tokio::spawn(async move {
            if tokio::time::timeout(LEFT, self.down()).await.is_err() {
                self.close().await;
            }
        });
    }

    /// Closes the connection in order where the broker still answers; it's gone afterwards in any case.
    pub async fn close(self) {
        if self.state() == ConnectionState::Up {
            let _ = answer_within(CLOSE_TIMEOUT, "a goodbye", self.connection.close(200, "bye".into())).await;
        }
    }
}
