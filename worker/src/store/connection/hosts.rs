//! The way to the database, which may be on one of several hosts. The driver tries one after the other, and a host that is silent
//! takes all the time that there is: whoever waits has given up before the next one's turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};

use crate::store::connection::tls::TlsConnector;

/// How long a host may take to be connected to, where there's another one.
const HOST_PATIENCE: Duration = Duration::from_secs(2);
/// How long connecting may take on the only host, or the last.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type DatabaseConnection = Connection<Socket, <TlsConnector as MakeTlsConnect<Socket>>::Stream>;

/// How to connect to the database; cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct DatabaseHosts {
    /// One for each host, in their order.
    hosts: Arc<[Config]>,
    tls: TlsConnector,
    /// Where the last connection was made, if only one that takes writes counts: it's tried first. Else that's the first, always.
    leader: Option<Arc<AtomicUsize>>,
}

impl DatabaseHosts {
    pub fn new(config: &Config, tls: TlsConnector) -> Self {
        let (names, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
        let count = names.max(addresses);
        let agree = [names, addresses, config.get_ports().len()].iter().all(|n| [0, 1, count].contains(n));
        // What makes no sense is refused by the driver, and in a random order it has no first.
        let hosts = match agree && count > 1 && config.get_load_balance_hosts() != LoadBalanceHosts::Random {
            true => (0..count).map(|index| alone(config, index)).collect(),
            false => [config.clone()].into(),
        };
        let is_leader = config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
        Self { hosts, tls, leader: is_leader.then(Arc::default) }
    }

    /// How long it may take until one of them is connected to.
    pub fn patience(&self) -> Duration {
        CONNECT_TIMEOUT + HOST_PATIENCE * u32::try_from(self.hosts.len() - 1).unwrap_or(u32::MAX)
    }

    /// Connects to the first host that is there, and takes writes where only that counts.
    ///
    /// # Errors
    /// That of the last host.
    pub async fn connect(&self) -> Result<(Client, DatabaseConnection), Error> {
        let first = self.leader.as_ref().map_or(0, |leader| leader.load(Ordering::Relaxed));
        let count = self.hosts.len();
        for index in (first..first + count - 1).map(|index| index % count) {
            if let Ok(Ok(connected)) = timeout(HOST_PATIENCE, self.hosts[index].connect(self.tls.clone())).await {
                self.note_leader(index);
                return Ok(connected);
            }
        }
        let last = (first + count - 1) % count;
        let connected = self.hosts[last].connect(self.tls.clone()).await?;
        self.note_leader(last);
        Ok(connected)
    }

    fn note_leader(&self, index: usize) {
        if let Some(leader) = &self.leader {
            leader.store(index, Ordering::Relaxed);
        }
    }
}

impl deadpool_postgres::Connect for DatabaseHosts {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async {
            let (client, connection) = self.connect().await?;
            let ends = async {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the database ended");
                }
            };
            Ok((client, tokio::spawn(ends)))
        })
    }
}

/// The same settings with one of the hosts alone.
fn alone(config: &Config, index: usize) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(index) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    config.get_hostaddrs().get(index).map(|address| one.hostaddr(*address));
    let ports = config.get_ports();
    ports.get(index).or(ports.first()).map(|port| one.port(*port));
    config.get_user().map(|user| one.user(user));
    config.get_password().map(|password| one.password(password));
    config.get_dbname().map(|name| one.dbname(name));
    config.get_options().map(|options| one.options(options));
    config.get_application_name().map(|name| one.application_name(name));
    config.get_connect_timeout().map(|time| one.connect_timeout(*time));
    config.get_tcp_user_timeout().map(|time| one.tcp_user_timeout(*time));
    config.get_keepalives_interval().map(|time| one.keepalives_interval(time));
    config.get_keepalives_retries().map(|retries| one.keepalives_retries(retries));
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs());
    one
}
