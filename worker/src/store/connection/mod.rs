//! The connection to PostgreSQL: the pool, TLS, transactions, deadlines, migrations and wake-ups.

pub(super) mod client;
pub(super) mod deadline;
pub(super) mod error;
pub(super) mod hosts;
mod indexes;
pub(super) mod listen;
pub(super) mod migrations;
mod online;
pub(super) mod pool;
pub(super) mod pooler;
pub(super) mod tls;
pub(super) mod transaction;
pub(super) mod value;
pub(super) mod wakeups;
