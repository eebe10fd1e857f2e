//! The seven stages, a file for each: what is sent, and what is made of the answer; and what else than deploying is
//! done in them (lifecycle). All of them are methods of [`crate::Attempt`]; the shell side stands in `scripts`.

pub(crate) mod aftermath;
mod clone;
mod compose;
mod env;
pub(crate) mod firewall;
mod images;
mod lifecycle;
mod lifecycle_undeploy;
mod ports;
mod preflight;
mod put_back;
mod resume;
pub(crate) mod secrets;
pub(crate) mod verify;
mod version;

pub use put_back::RestoreOutcome;
pub use resume::CompletedStages;
pub use secrets::KEY_SECRET;
use slipway_protocol::ProjectReady;
use slipway_protocol::names::Port;

/// The host ports that are published: those of the modules. A database's allocated port isn't.
pub(crate) fn published(request: &ProjectReady) -> Vec<Port> {
    let modules = request.allocations.iter().filter(|a| request.modules.contains(&a.service));
    modules.map(|a| a.host_port).collect()
}
