//! Values between Rust and SQL: what a column holds as the type that it stands for, and numbers and time spans.

use std::time::Duration;

use tokio_postgres::Row;

use crate::store::{Result, StoreError};

/// A value of the database that should be readable, as the type it stands for.
pub(in crate::store) fn readable<T, E: std::fmt::Display>(
    table: &'static str,
    column: &'static str,
    value: Result<T, E>,
) -> Result<T, StoreError> {
    value.map_err(|e| StoreError::Unreadable { table, column, reason: e.to_string() })
}

/// A count in column `column`, which is never negative.
pub(in crate::store) fn number(row: &Row, column: &str) -> u32 {
    u32::try_from(row.get::<_, i32>(column)).unwrap_or(0)
}

/// A time span as a parameter of a statement, which multiplies it with `interval '1 second'`.
pub(in crate::store) fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// A time span that the database counted in seconds; zero when its clock was set back meanwhile.
pub(in crate::store) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
