//! From the database to those who want to know: events and dead letters to the broker (`relay`, `flow` for what it sends
//! when, `wanted_page` for what it reads, `batch` for how, `marks` for what is marked, and `relay_lease` for whether it may), and the state of
//! deployments to GitHub (`github_status`). What is written to the outbox, and when, is decided by the store.

pub(crate) mod batch;
pub(crate) mod delayed;
mod flow;
pub(crate) mod github_status;
mod marks;
pub(crate) mod relay;
pub(crate) mod relay_lease;
mod wanted_page;

pub use relay::Relay;
