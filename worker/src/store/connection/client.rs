//! A connection of the pool, and its statements: each is prepared once for a connection, so that PostgreSQL doesn't parse
//! and plan it anew for each deployment. Where a pooler changes the connection below, none is.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use crate::failpoint::{self, Failpoint, TransactionKind};
use crate::store::Result;
use crate::store::connection::pooler::{ParameterTypes, StatementTimes};
use crate::store::connection::wakeups::ProcessSignals;

/// StatementValues of a statement's parameters.
pub(in crate::store) type StatementValues<'v> = &'v [&'v (dyn ToSql + Sync)];

/// A value, and the type that PostgreSQL expects.
pub(super) type TypedValue<'v> = (&'v (dyn ToSql + Sync), Type);

/// A connection of the pool, given back when it's dropped, who is woken by what is committed on it, and, where nothing can
/// be prepared on it, the types of statements' parameters.
pub(in crate::store) struct StoreClient(
    pub(super) Object,
    pub(super) Arc<ProcessSignals>,
    pub(super) Option<Arc<ParameterTypes>>,
    pub(super) StatementTimes,
);

/// Within so long after its last words a connection is known to have ended. Until then its call keeps it: in the pool, the
/// next call would get it.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Waits for a connection's end after its last words.
pub(super) async fn hear_out(error: &Error) {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    if error.is_closed() || matches!(severity, Some(Severity::Fatal | Severity::Panic)) {
        tokio::time::sleep(LAST_WORDS).await;
    }
}

/// What runs statements: a connection, or a transaction on one.
pub(in crate::store) trait Statements: Sync {
    /// All rows.
    fn rows(&self, sql: &str, values: StatementValues<'_>) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// The row, if there is one.
    fn row(&self, sql: &str, values: StatementValues<'_>) -> impl Future<Output = Result<Option<Row>>> + Send;
}

/// The methods of `tokio_postgres` with prepared statements, on whatever has a client or a transaction in `$inner`, and
/// in `$heard` who learns of a server that takes no writes; with the types in `$types`, if there are any, unprepared.
macro_rules! prepared {
    ($type:ty, $inner:tt, $heard:tt, $types:tt) => {
        impl $type {
            /// All rows.
            pub(in crate::store) async fn query(
                &self,
                sql: &str,
                values: $crate::store::connection::client::StatementValues<'_>,
            ) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
                self.noticed(async {
                    match &self.$types {
                        None => self.$inner.query(&self.$inner.prepare_cached(sql).await?, values).await,
                        Some(types) => self.$inner.query_typed(sql, &self.typed(types, sql, values).await?).await,
                    }
                })
                .await
            }

            /// The one row; an error when there is none, or more than one.
            pub(in crate::store) async fn query_one(
                &self,
                sql: &str,
                values: $crate::store::connection::client::StatementValues<'_>,
            ) -> Result<tokio_postgres::Row, tokio_postgres::Error> {
                self.noticed(async {
                    match &self.$types {
                        None => self.$inner.query_one(&self.$inner.prepare_cached(sql).await?, values).await,
                        Some(types) => self.$inner.query_typed_one(sql, &self.typed(types, sql, values).await?).await,
                    }
                })
                .await
            }

            /// The row, if there is one; an error when there is more than one.
            pub(in crate::store) async fn query_opt(
                &self,
                sql: &str,
                values: $crate::store::connection::client::StatementValues<'_>,
            ) -> Result<Option<tokio_postgres::Row>, tokio_postgres::Error> {
                self.noticed(async {
                    match &self.$types {
                        None => self.$inner.query_opt(&self.$inner.prepare_cached(sql).await?, values).await,
                        Some(types) => self.$inner.query_typed_opt(sql, &self.typed(types, sql, values).await?).await,
                    }
                })
                .await
            }

            /// How many rows it has changed.
            pub(in crate::store) async fn execute(
                &self,
                sql: &str,
                values: $crate::store::connection::client::StatementValues<'_>,
            ) -> Result<u64, tokio_postgres::Error> {
                self.noticed(async {
                    match &self.$types {
                        None => self.$inner.execute(&self.$inner.prepare_cached(sql).await?, values).await,
                        Some(types) => self.$inner.execute_typed(sql, &self.typed(types, sql, values).await?).await,
                    }
                })
                .await
            }

            /// The values with their types, which PostgreSQL is asked for once.
            async fn typed<'v>(
                &self,
                types: &$crate::store::connection::pooler::ParameterTypes,
                sql: &str,
                values: $crate::store::connection::client::StatementValues<'v>,
            ) -> Result<Vec<$crate::store::connection::client::TypedValue<'v>>, tokio_postgres::Error> {
                use $crate::store::connection::pooler::ParameterTypes;
                if values.is_empty() {
                    return Ok(Vec::new());
                }
                let known = match types.known(sql) {
                    Some(known) => known,
                    None => types.learn(sql, &self.$inner.simple_query(&ParameterTypes::question(sql)).await?),
                };
                Ok(values.iter().copied().zip(known.iter().cloned()).collect())
            }

            /// A server that refuses writes was demoted: no connection to it is used again. Nor is one whose last words
            /// these were.
            async fn noticed<T>(
                &self,
                asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
            ) -> Result<T, tokio_postgres::Error> {
                let answer = asked.await;
                if let Err(error) = &answer {
                    if error.code() == Some(&tokio_postgres::error::SqlState::READ_ONLY_SQL_TRANSACTION) {
                        self.$heard.give_up_connections();
                    }
                    $crate::store::connection::client::hear_out(error).await;
                }
                answer
            }
        }

        impl $crate::store::connection::client::Statements for $type {
            async fn rows(
                &self,
                sql: &str,
                values: $crate::store::connection::client::StatementValues<'_>,
            ) -> $crate::store::Result<Vec<tokio_postgres::Row>> {
                Ok(self.query(sql, values).await?)
            }

            async fn row(
                &self,
                sql: &str,
                values: $crate::store::connection::client::StatementValues<'_>,
            ) -> $crate::store::Result<Option<tokio_postgres::Row>> {
                Ok(self.query_opt(sql, values).await?)
            }
        }
    };
}
pub(super) use prepared;

impl StoreClient {
    /// A write that is one statement, and so a transaction of its own: a boundary like any other commit, at which tests let
    /// a worker die.
    pub(in crate::store) async fn write(
        &self,
        write: TransactionKind,
        sql: &str,
        values: StatementValues<'_>,
    ) -> Result<Option<Row>> {
        Ok(failpoint::around(Failpoint::Commit(write), self.query_opt(sql, values)).await?)
    }

    /// The channel that a statement has to notify by itself when it tells something.
    pub(in crate::store) fn relay_to_wake(&self) -> Option<&'static str> {
        self.1.relay_to_notify()
    }

    /// Has the relay send what was told, unless its statement has notified it: `relay` is what [`Self::relay_to_wake`] has said.
    pub(in crate::store) fn wakes(&self, relay: Option<&'static str>) -> impl Fn() + use<> {
        let heard = self.1.clone();
        move || {
            if relay.is_none() {
                heard.wake_relay();
            }
        }
    }
}

prepared!(StoreClient, 0, 1, 2);
