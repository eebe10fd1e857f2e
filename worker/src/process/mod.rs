//! The process around the work: command line, signals and drain, readiness, the admin server and the heartbeat. What
//! the process works on is not here.

mod admin_server;
pub mod command_line;
mod drain;
pub(crate) mod heartbeat;
mod readiness;

pub use admin_server::{AdminServer, LivenessProbe};
pub use drain::{Drain, do_or_wait_for, drain_on_signals, exit, wait_for};
pub use heartbeat::WorkerHeartbeat;
pub use readiness::{Condition, ConditionStatus, Readiness, ReadinessReport};
