//! What the store fails with.

use tokio_postgres::error::SqlState;

use crate::store::deployment::state::IllegalTransition;

/// Result of a call of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failure of the store. `Display` never repeats its source: print the chain once, where it's handled.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The connection URL can't be used.
    #[error("the database's URL can't be used: {0}")]
    Url(String),
    /// No connection could be had.
    #[error("{}", no_connection(.0))]
    Pool(#[source] deadpool_postgres::PoolError),
    /// Its certificate isn't trusted.
    #[error("the database's certificate isn't trusted; SLIPWAY_CA_FILE names authorities to trust beside the system's")]
    Certificate(#[source] tokio_postgres::Error),
    /// PostgreSQL refused a statement, or the connection broke.
    #[error("{}", explain(.0))]
    Database(#[source] tokio_postgres::Error),
    /// The database didn't answer in time.
    #[error("the database didn't answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// The schema couldn't be brought up to date.
    #[error("the database's schema can't be brought up to date")]
    Migration(#[source] Box<refinery::Error>),
    /// The schema isn't this program's, and there is no way to change it.
    #[error(
        "the database's schema is of version {found}, this program needs {needed}, and behind a pooler in transaction mode \
         nobody can change it: set SLIPWAY_DATABASE_DIRECT_URL to the database without its pooler, on one worker at least"
    )]
    NoSessions {
        /// The schema's version; 0 when there is none.
        found: i32,
        /// This program's version.
        needed: i32,
    },
    /// The lease belongs to somebody else by now: nothing was written.
    #[error(
        "the lease is lost, nothing was written, and whoever holds it now goes on; if that happens often, this worker or \
         the database is too slow to renew it: see SLIPWAY_LEASE"
    )]
    LeaseLost,
    /// A move has to give way to this newer request, and hasn't ended: nothing was written.
    #[error("the move gives way to deployment {0}, which came before its end")]
    GivesWay(slipway_protocol::DeploymentId),
    /// The state doesn't allow it.
    #[error(transparent)]
    Transition(#[from] IllegalTransition),
    /// A row holds what this version can't read.
    #[error("column {column} of {table} holds what this version can't read: {reason}")]
    Unreadable {
        /// The table that was read.
        table: &'static str,
        /// The column whose value makes no sense.
        column: &'static str,
        /// Why, without the value.
        reason: String,
    },
}

/// What keeps the numbers of a deployment's events apart.
const EVENT_NUMBERS: &str = "outbox_deployment_id_sequence_key";

/// What a refusal means where an operator can do something about it.
fn explain(error: &tokio_postgres::Error) -> &'static str {
    match error.code() {
        Some(code) if *code == SqlState::QUERY_CANCELED => {
            "the database ended a statement before it was done, and nothing of it has happened: either somebody cancelled it, \
             or it took longer than statement_timeout. Slipway asks for 14 s; if the message comes soon, a pooler or a role has \
             a shorter one (ALTER ROLE … RESET statement_timeout; PgBouncer's query_timeout), and if not, the database is slow"
        }
        Some(code) if [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code) => {
            "a prepared statement isn't where it was made: behind a pooler in transaction mode, set \
             SLIPWAY_DATABASE_POOLER=transaction"
        }
        _ => "the database refused a statement or went away; if it does so again, PostgreSQL's log says more",
    }
}

fn no_connection(error: &deadpool_postgres::PoolError) -> &'static str {
    use deadpool_postgres::PoolError;
    match error {
        PoolError::Backend(error) if error.as_db_error().is_some_and(|e| e.message().contains("startup parameter")) => {
            "a pooler such as PgBouncer stands before the database: set SLIPWAY_DATABASE_POOLER to its pool_mode (session or \
             transaction)"
        }
        _ => "no connection to the database; is it up, and SLIPWAY_DATABASE_URL right?",
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        if is_untrusted_certificate(&error) { Self::Certificate(error) } else { Self::Database(error) }
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) if is_untrusted_certificate(&error) => {
                Self::Certificate(error)
            }
            error => Self::Pool(error),
        }
    }
}

/// Whether a certificate was refused, somewhere down the chain of sources.
pub(crate) fn is_untrusted_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // An io::Error shows the error in it as itself, and not as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref());
        let of = |e: &(dyn std::error::Error + 'static)| {
            matches!(e.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
        };
        if of(error) || inner.is_some_and(|inner| of(inner) || is_untrusted_certificate(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

impl StoreError {
    /// Whether the database itself is away, or takes no writes: then nothing can be said about the call that failed.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Pool(_) | Self::Certificate(_) => true,
            // Class 57 but for a statement that took too long, or that somebody cancelled.
            Self::Database(e) => {
                e.is_closed()
                    || e.code()
                        .is_none_or(|code| ["08", "25", "53", "57P"].iter().any(|class| code.code().starts_with(class)))
            }
            _ => false,
        }
    }

    /// Whether it fails so at whatever is written: a standby, a full disk, no connection left. Another write that succeeds
    /// shows nothing then: what fits into pages that are there is written to a full disk as well.
    pub(crate) fn fails_at_any(&self) -> bool {
        let at_any = [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::DISK_FULL, SqlState::TOO_MANY_CONNECTIONS];
        match self {
            Self::Pool(_) | Self::Certificate(_) => true,
            Self::Database(e) => e.code().is_some_and(|code| at_any.contains(code)),
            _ => false,
        }
    }

    /// Whether another event of the deployment has the number that was to be given away.
    pub(in crate::store) fn is_number_taken(&self) -> bool {
        matches!(self, Self::Database(e) if e.as_db_error().is_some_and(|e| e.constraint() == Some(EVENT_NUMBERS)))
    }

    /// What happened, in one line that holds nothing of any row.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Database(e) => match e.as_db_error() {
                Some(error) if error.code() == &SqlState::QUERY_CANCELED => {
                    format!("{}; PostgreSQL says: {} (57014)", explain(e), error.message())
                }
                Some(error) => format!("PostgreSQL says: {} ({})", error.message(), error.code().code()),
                None => self.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// Whether the same call may succeed later without anybody's doing: the database was away, slow or busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Pool(_) | Self::Certificate(_) | Self::TimedOut(_) => true,
            Self::Database(e) => {
                e.is_closed()
                    || e.code().is_none_or(|code| {
                        // Classes 08 connection, 25 transaction state (a standby that isn't promoted yet, a transaction
                        // that was idle for too long), 40 rollback, 53 resources, 57 operator intervention, 58 system.
                        ["08", "25", "40", "53", "57", "58"].iter().any(|class| code.code().starts_with(class))
                            || *code == SqlState::LOCK_NOT_AVAILABLE
                    })
            }
            _ => false,
        }
    }
}
