//! What Slipway remembers, in PostgreSQL. The only folder that holds SQL.
//!
//! Every change of a deployment's state is one transaction together with the events that tell it: they leave through
//! the outbox, or neither happened. A write of a running attempt names its [`Lease`], and one whose fence is no longer
//! the newest writes nothing. All times are the database's.

mod actions;
mod announcements;
mod cancellations;
mod circuits;
mod claims;
mod commands;
mod dead_letters;
mod deployments;
mod digests;
mod ending;
mod error;
mod history;
mod ingest;
mod intake;
mod interruptions;
mod ledger;
mod new_dead_letter;
mod new_deployment;
mod outbox;
mod progress;
mod queue;
mod replay_plans;
mod replays;
mod servers;
mod settling;
mod state;
mod status;
mod tls;
mod transaction;
mod versions;
mod wakeups;

use std::path::Path;
use std::time::Duration;

use deadpool_postgres::{ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use secrecy::{ExposeSecret as _, SecretString};

pub use actions::{AuditEntry, AuditFilter, Operator};
pub(crate) use announcements::AT_IT;
pub use announcements::Announcement;
pub use cancellations::{CancelOutcome, CancelRequest, Cancellation};
pub use claims::{Claim, Fence, Lease, RenewOutcome};
pub use dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterGroup, DeadLetterState};
pub use deployments::{Deployment, DeploymentFilter, JournalEntry, StoredEvent};
pub use ending::{AttemptSummary, DeploymentEnd};
pub use error::StoreError;
pub(crate) use error::is_mistrust;
pub use history::DeploymentHistory;
pub use ingest::{BrokerDeadLetter, StoredGivenUp};
pub use intake::{Admission, RefusedMessage};
pub use interruptions::InterruptOutcome;
pub(crate) use interruptions::{INTERRUPTED, too_often};
pub use outbox::{OrderingKey, OutboxBacklog, OutboxPage, OutboxRow, PublishOutcome, RelayLease};
pub use progress::{Boundary, RetryOutcome};
pub use queue::ClaimOptions;
pub use replay_plans::{PlannedReplay, ReplayVerdict};
pub use replays::{Replay, SentReplay};
pub use servers::ServerRecord;
pub(crate) use settling::unsettles;
pub use state::{IllegalTransition, State, UnknownState};
pub use status::{StatusCounts, WorkerSeen};
use transaction::{StoreTransaction, commit};
pub use versions::{ProjectServer, RecordedVersion, VERSIONS};
pub use wakeups::Wakeups;

/// Result of a call of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The longest that any call of the store takes before it fails with [`StoreError::TimedOut`].
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Key of the advisory lock under which the schema is migrated ("slipway" in ASCII).
const MIGRATION_LOCK: i64 = 0x73_6c_69_70_77_61_79;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    config: tokio_postgres::Config,
    tls: tls::TlsConnector,
    name: String,
}

impl Store {
    /// A store on the database at `url` for the process `name`, which signs leases and dead letters. Connects when
    /// first used. TLS is used as `sslmode` in the URL says; `ca_file` (PEM) is trusted beside the system's roots.
    ///
    /// # Errors
    /// [`StoreError::Url`] when the URL or the CA file can't be used.
    pub fn new(url: &SecretString, ca_file: Option<&Path>, name: &str) -> Result<Self> {
        // The parser's message may repeat parts of the URL, which holds a password.
        let mut config: tokio_postgres::Config = url
            .expose_secret()
            .parse()
            .map_err(|_| StoreError::Url("it isn't a PostgreSQL connection string".to_owned()))?;
        config
            .application_name(name)
            .connect_timeout(Duration::from_secs(5))
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(20))
            .options("-c statement_timeout=14s -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s");
        let tls = tls::connector(&config, ca_file)?;
        let manager = deadpool_postgres::Manager::from_config(
            config.clone(),
            tls.clone(),
            ManagerConfig { recycling_method: RecyclingMethod::Verified },
        );
        let pool = Pool::builder(manager)
            .max_size(16)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(Duration::from_secs(5)))
            .create_timeout(Some(Duration::from_secs(5)))
            .recycle_timeout(Some(Duration::from_secs(5)))
            .build()
            .map_err(|e| StoreError::Url(e.to_string()))?;
        Ok(Self { pool, config, tls, name: name.to_owned() })
    }

    /// The name of this process, as in leases and dead letters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Brings the schema up to date; of several processes that try, one does it and the others wait.
    ///
    /// # Errors
    /// When the database can't be reached, or its schema is newer than this program or was changed by hand.
    pub async fn migrate(&self) -> Result<()> {
        let connect = async { Ok(self.config.connect(self.tls.clone()).await?) };
        let (mut client, connection) = deadline(connect).await?;
        // A connection of its own: the lock ends with it, whatever happens, and it may wait longer than others.
        let connection = tokio::spawn(connection);
        client.batch_execute("SET statement_timeout = '120s'; SET lock_timeout = '120s'").await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        let report = embedded::migrations::runner().run_async(&mut client).await;
        drop(client);
        // Ends by itself once the client is gone; waiting makes the lock free when this returns.
        let _ = connection.await;
        report.map_err(|e| StoreError::Migration(Box::new(e)))?;
        Ok(())
    }

    async fn client(&self) -> Result<Object> {
        Ok(self.pool.get().await?)
    }
}

/// Ends a call that the database doesn't answer: a frozen server keeps its connections open.
async fn deadline<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, work).await.map_err(|_| StoreError::TimedOut(DEADLINE))?
}
