//! One file or folder per command, named as on the command line; `stop`, `start`, `rollback`, `undeploy` and
//! `projects rotate-key` share `lifecycle`. Connections are in `connect`, printing is in `terminal`.

pub(crate) mod allowances;
pub(crate) mod arguments;
pub(crate) mod audit;
pub(crate) mod cancel;
pub(crate) mod dead_letters;
pub(crate) mod deployments;
pub(crate) mod events;
pub(crate) mod explain;
mod front_doors;
pub(crate) mod keys;
pub(crate) mod lifecycle;
pub(crate) mod named_place;
pub(crate) mod notify;
mod operator;
pub(crate) mod outbox;
pub(crate) mod pending;
pub(crate) mod placement;
pub(crate) mod plan;
mod policies;
pub(crate) mod projects;
pub(crate) mod pushes;
pub(crate) mod servers;
pub(crate) mod sources;
pub(crate) mod status;
pub(crate) mod status_circuits;
mod status_notifications;
mod status_parts;
pub(crate) mod submit;
pub(crate) mod topology;
pub(crate) mod watch;
pub(crate) mod workers;
