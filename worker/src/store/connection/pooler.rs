//! What stands between Slipway and PostgreSQL, and what becomes of the state of a session there. Behind a pooler that gives
//! a server's connection away at the end of each transaction, a statement that was prepared before may be on another
//! connection, or somebody else's of the same name. So nothing is prepared there: a statement goes unnamed and in one
//! message with the types of its parameters, which are asked for once.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::SecretString;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// What PostgreSQL ends by itself, a little before our own deadline; and how it plans: a plan that was made when a table was
/// small, or whose statistics are from before a burst of requests, would read all of it each time. All that's asked often
/// goes by an index, whatever the values are: a statement is planned once for a connection, and not for each group of steps anew.
const LIMITS: [(&str, &str); 6] = [
    ("statement_timeout", "14s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// What PostgreSQL ends sooner, where much waits for little: within the shortest lease that's usual, with what it has locked.
const SHORT_LIMITS: [(&str, &str); 2] = [("statement_timeout", "2s"), ("lock_timeout", "1s")];

/// How long statements of a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatementTimes {
    /// As long as any.
    Usual,
    /// Others wait for them.
    Short,
}

/// The limits, the shorter ones last.
fn of(times: StatementTimes) -> impl Iterator<Item = (&'static str, &'static str)> {
    let short = if times == StatementTimes::Short { &SHORT_LIMITS[..] } else { &[] };
    LIMITS.iter().chain(short).copied()
}

/// Them as statements that begin with `set`.
pub(super) fn limits(set: &str, times: StatementTimes) -> String {
    of(times).map(|(name, value)| format!("{set} {name} = '{value}';")).collect()
}

/// Them as options of a connection, which a pooler refuses.
pub(super) fn options(times: StatementTimes) -> String {
    of(times).map(|(name, value)| format!("-c {name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Shorter limits for a transaction, as columns of a statement: those after them in it are under them already.
pub(in crate::store) fn short_limits() -> String {
    SHORT_LIMITS.map(|(name, value)| format!("set_config('{name}', '{value}', true)")).join(", ")
}

/// How a pooler such as PgBouncer gives connections away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DatabasePooler {
    /// There is none.
    #[default]
    None,
    /// For as long as a client is connected.
    Session,
    /// For one transaction.
    Transaction,
}

/// It isn't the name of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be none, session or transaction")]
pub struct UnknownPooler;

impl FromStr for DatabasePooler {
    type Err = UnknownPooler;

    fn from_str(name: &str) -> Result<Self, UnknownPooler> {
        match name {
            "none" => Ok(Self::None),
            "session" => Ok(Self::Session),
            "transaction" => Ok(Self::Transaction),
            _ => Err(UnknownPooler),
        }
    }
}

/// The way to the database beside its URL.
#[derive(Debug, Clone, Default)]
pub struct DatabaseRoute {
    /// What is behind the URL.
    pub pooler: DatabasePooler,
    /// A way without pooler, for notifications, migrations and indexes.
    pub direct: Option<SecretString>,
}

impl DatabaseRoute {
    /// Whether there is a connection whose session is ours: without one no notifications come, and nobody migrates.
    #[must_use]
    pub fn has_sessions(&self) -> bool {
        self.direct.is_some() || self.pooler != DatabasePooler::Transaction
    }
}

/// The types of statements' parameters, by their text.
#[derive(Default)]
pub(super) struct ParameterTypes(RwLock<HashMap<String, Arc<[Type]>>>);

impl ParameterTypes {
    pub(super) fn known(&self, sql: &str) -> Option<Arc<[Type]>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(sql).cloned()
    }

    /// Asks PostgreSQL for them. One message is one transaction, so that a pooler lets nobody come between; the name is
    /// nobody else's, since a statement that is broken off may stay.
    pub(super) fn question(sql: &str) -> String {
        let name = format!("slipway_{}", Uuid::new_v4().simple());
        format!(
            "PREPARE {name} AS {sql}\n;
             SELECT array_to_string(parameter_types::oid[], ' ') FROM pg_prepared_statements WHERE name = '{name}';
             DEALLOCATE {name}"
        )
    }

    /// Reads the answer, for good.
    pub(super) fn learn(&self, sql: &str, answer: &[SimpleQueryMessage]) -> Arc<[Type]> {
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let of = |oid: &str| oid.parse().ok().and_then(Type::from_oid).unwrap_or(Type::UNKNOWN);
        let types: Arc<[Type]> = row.unwrap_or_default().split_whitespace().map(of).collect();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned(), types.clone());
        types
    }
}
