//! StatementValues between Rust and SQL: what a column holds as the type that it stands for, and numbers and time spans.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

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

/// The first and the last id that begin with `prefix`, as people type them; `None` when no id does.
pub(in crate::store) fn id_range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let complete = |filled: &str| Uuid::try_parse(&format!("{prefix}{}", filled.get(prefix.len()..)?)).ok();
    let fits = prefix.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let first = complete("00000000-0000-0000-0000-000000000000").filter(|_| fits)?;
    Some((first, complete("ffffffff-ffff-ffff-ffff-ffffffffffff")?))
}

/// A time span as a parameter of a statement, which multiplies it with `interval '1 second'`.
pub(in crate::store) fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// A time span that the database counted in seconds; zero when its clock was set back meanwhile.
pub(in crate::store) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_means_a_range_of_ids() {
        let range = |prefix| id_range(prefix).map(|(first, last)| (first.to_string(), last.to_string()));
        let of = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
        let all = of("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff");
        assert_eq!(range(""), all);
        let some = of("12ab0000-0000-0000-0000-000000000000", "12abffff-ffff-ffff-ffff-ffffffffffff");
        assert_eq!(range("12ab"), some);
        let longer = of("12ab34cd-5000-0000-0000-000000000000", "12ab34cd-5fff-ffff-ffff-ffffffffffff");
        assert_eq!(range("12ab34cd-5"), longer);
        let id = Uuid::new_v4().to_string();
        assert_eq!(range(&id), of(&id, &id));
        for none in ["12ab-", "12ab34cd5", "12AB", "x", "ä", &format!("{id}0")] {
            assert_eq!(range(none), None, "{none}");
        }
    }
}
