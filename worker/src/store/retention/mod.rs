//! What is kept for how long, and how it's pruned: in small batches, each over an index, that wait for nobody. One worker of
//! the fleet does it at a time, under a lease, and writes down how far it has come; `crate::housekeeping` decides when.

pub(super) mod chores;
pub(super) mod deployments;
pub(super) mod others;
mod projects;
mod removal;
pub(super) mod settings;
