//! The pool of connections to PostgreSQL, and its settings.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, ManagerConfig, Metrics, Pool, QueueMode, RecyclingMethod, Runtime};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::store::connection::client::StoreClient;
use crate::store::connection::deadline::deadline;
use crate::store::connection::hosts::{CONNECT_TIMEOUT, DatabaseHosts};
use crate::store::connection::pooler::{self, DatabasePooler, DatabaseRoute, ParameterTypes, StatementTimes};
use crate::store::connection::tls::connector;
use crate::store::connection::wakeups::ProcessSignals;
use crate::store::{Result, StoreError};

/// Connections for everything, the one for marks of what was sent, those for what attempts write together and alone, those for signs
/// of life and the relay's lease, and the one for leases of deployments.
const CONNECTIONS: usize = 8;
const MARKS_CONNECTIONS: usize = 1;
const GROUPS_CONNECTIONS: usize = 3;
const ALONE_CONNECTIONS: usize = 4;
const VITAL_CONNECTIONS: usize = 2;
const RENEWAL_CONNECTIONS: usize = 1;

/// The database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// What was sent is marked, and what attempts write is written, on connections whose statements may take no long. What is
    /// written alone may fail, and keeps no group waiting.
    marks: Pool,
    groups: Pool,
    alone: Pool,
    /// What says that this process lives, and keeps what it holds, doesn't wait for a connection behind other statements.
    vital: Pool,
    /// Nor do renewals of leases, which are made on a thread of their own and are answered there.
    renewals: Pool,
    pub(in crate::store) heard: Arc<ProcessSignals>,
    /// The way to a session of our own, if there is one.
    pub(in crate::store) sessions: Option<DatabaseHosts>,
    types: Option<Arc<ParameterTypes>>,
    pub(in crate::store) name: String,
}

impl Store {
    /// A store on the database at `url` for the process `name`, which signs leases and dead letters. Connects when
    /// first used. TLS is used as `sslmode` in the URL says; `ca_file` (PEM) is trusted beside the system's roots.
    ///
    /// # Errors
    /// [`StoreError::Url`] when the URL or the CA file can't be used.
    pub fn new(url: &SecretString, ca_file: Option<&Path>, name: &str) -> Result<Self> {
        Self::over(url, &DatabaseRoute::default(), ca_file, name)
    }

    /// As [`Store::new`], by way of a pooler.
    ///
    /// # Errors
    /// As [`Store::new`], for either URL.
    pub fn over(url: &SecretString, route: &DatabaseRoute, ca_file: Option<&Path>, name: &str) -> Result<Self> {
        let config = config("SLIPWAY_DATABASE_URL", url, name)?;
        let hosts_of = |times| {
            let mut config = config.clone();
            if route.pooler == DatabasePooler::None {
                config.options(pooler::options(times));
            }
            let tls = connector(&config, ca_file)?;
            Ok::<_, StoreError>((DatabaseHosts::new(&config, tls), config, times))
        };
        let (usual, short) = (hosts_of(StatementTimes::Usual)?, hosts_of(StatementTimes::Short)?);
        let sessions = match &route.direct {
            Some(direct) => {
                let mut config = self::config("SLIPWAY_DATABASE_DIRECT_URL", direct, name)?;
                config.options(pooler::options(StatementTimes::Usual));
                Some(DatabaseHosts::new(&config, connector(&config, ca_file)?))
            }
            None => route.has_sessions().then(|| usual.0.clone()),
        };
        let heard = Arc::<ProcessSignals>::default();
        let pool_of = |to: &_, size, queue| pool(to, route.pooler, (size, queue), heard.clone());
        // A few connections do it while little is asked, and know its statements; a sign of life takes another one each time, since
        // one may be dead.
        let pool = pool_of(&usual, CONNECTIONS, QueueMode::Lifo)?;
        let vital = pool_of(&usual, VITAL_CONNECTIONS, QueueMode::Fifo)?;
        let renewals = pool_of(&usual, RENEWAL_CONNECTIONS, QueueMode::Fifo)?;
        let marks = pool_of(&short, MARKS_CONNECTIONS, QueueMode::Fifo)?;
        let groups = pool_of(&short, GROUPS_CONNECTIONS, QueueMode::Lifo)?;
        let alone = pool_of(&short, ALONE_CONNECTIONS, QueueMode::Lifo)?;
        let types = (route.pooler == DatabasePooler::Transaction).then(Arc::default);
        Ok(Self { pool, marks, groups, alone, vital, renewals, heard, sessions, types, name: name.to_owned() })
    }

    /// The name of this process, as in leases and dead letters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::store) async fn client(&self) -> Result<StoreClient> {
        self.of(&self.pool, StatementTimes::Usual).await
    }

    /// A connection for signs of life and leases: nothing that may take long.
    pub(in crate::store) async fn vital_client(&self) -> Result<StoreClient> {
        self.of(&self.vital, StatementTimes::Usual).await
    }

    /// The connection of whoever renews many leases at once, driven by the event loop that first asks for it.
    pub(in crate::store) async fn renewal_client(&self) -> Result<StoreClient> {
        self.of(&self.renewals, StatementTimes::Usual).await
    }

    pub(super) async fn marks_client(&self) -> Result<StoreClient> {
        self.of(&self.marks, StatementTimes::Short).await
    }

    /// A connection for what many attempts write together.
    pub(in crate::store) async fn groups_client(&self) -> Result<StoreClient> {
        self.of(&self.groups, StatementTimes::Short).await
    }

    /// A connection for what one attempt writes, while the lease that it holds can't be renewed.
    pub(in crate::store) async fn alone_client(&self) -> Result<StoreClient> {
        self.of(&self.alone, StatementTimes::Short).await
    }

    async fn of(&self, pool: &Pool, times: StatementTimes) -> Result<StoreClient> {
        Ok(StoreClient(pool.get().await?, self.heard.clone(), self.types.clone(), times))
    }

    /// Closes connections to a server that takes no writes (any more), unless they are in use: those are closed when they would
    /// be used again.
    pub(in crate::store) fn close_stale(&self) {
        let stale_before = *self.heard.stale_before.lock().unwrap_or_else(PoisonError::into_inner);
        let leads_on = |metrics: Metrics| stale_before.is_none_or(|before| metrics.created >= before);
        for pool in [&self.pool, &self.marks, &self.groups, &self.alone, &self.vital, &self.renewals] {
            drop(pool.retain(|_, metrics| leads_on(metrics)));
        }
    }

    /// Whether the database takes writes of this process: it gives a sign of life beside its turns.
    pub async fn takes_writes(&self) -> bool {
        deadline(async {
            let sql = "UPDATE workers SET seen_at = now() WHERE name = $1";
            Ok(self.client().await?.execute(sql, &[&self.name]).await?)
        })
        .await
        .is_ok()
    }

    /// The database's clock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clock(&self) -> Result<Timestamp> {
        deadline(async { Ok(self.client().await?.query_one("SELECT now()", &[]).await?.get(0)) }).await
    }
}

/// The settings of a connection. The parser's message may repeat parts of the URL, which holds a password.
fn config(variable: &'static str, url: &SecretString, name: &str) -> Result<tokio_postgres::Config> {
    let mut config: tokio_postgres::Config = url
        .expose_secret()
        .parse()
        .map_err(|_| StoreError::Url(format!("{variable} isn't a PostgreSQL connection string")))?;
    config
        .application_name(name)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(20));
    Ok(config)
}

fn pool(
    (hosts, config, times): &(DatabaseHosts, tokio_postgres::Config, StatementTimes),
    pooler: DatabasePooler,
    (size, queue): (usize, QueueMode),
    heard: Arc<ProcessSignals>,
) -> Result<Pool> {
    let in_use = Hook::sync_fn(move |_, metrics: &Metrics| {
        let stale_before = *heard.stale_before.lock().unwrap_or_else(PoisonError::into_inner);
        match stale_before.is_some_and(|before| metrics.created < before) {
            true => Err(HookError::message("its server takes no writes")),
            false => Ok(()),
        }
    });
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = deadpool_postgres::Manager::from_connect(config.clone(), hosts.clone(), recycling);
    let times = *times;
    let builder = match pooler {
        DatabasePooler::Session => Pool::builder(manager).post_create(Hook::async_fn(move |client, _| {
            Box::pin(
                async move { client.batch_execute(&pooler::limits("SET", times)).await.map_err(HookError::Backend) },
            )
        })),
        DatabasePooler::None | DatabasePooler::Transaction => Pool::builder(manager),
    };
    builder
        .max_size(size)
        .queue_mode(queue)
        .pre_recycle(in_use)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(5)))
        .create_timeout(Some(hosts.patience()))
        .recycle_timeout(Some(Duration::from_secs(5)))
        .build()
        .map_err(|e| StoreError::Url(e.to_string()))
}
