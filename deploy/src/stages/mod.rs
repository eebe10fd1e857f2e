//! The seven stages, a file for each: which script is sent, and what its output means. Beside them: stopping, starting and
//! undeploying, which run in these stages too; restoring the previous release; resuming; and what an attempt looks at in
//! the end. All of them are methods of [`crate::Attempt`]; the shell side is in `scripts`, and the order of the stages in
//! `slipway_protocol`.

mod after_ci;
mod certificates;
mod clocks;
mod clone;
mod compose;
mod deploy_key;
mod domains;
mod door;
mod env;
pub(crate) mod firewall;
pub(crate) mod fitness;
mod images;
mod judgement;
mod leaks_and_prune;
mod left;
pub(crate) mod left_reports;
mod move_back;
mod move_data;
pub(crate) mod move_state;
mod moving;
mod origin;
mod platforms;
mod port_holders;
mod preflight;
mod project_model;
mod registry_secrets;
mod restore_previous;
mod resume;
pub(crate) mod secrets;
mod served_commit;
mod server_env;
mod service_check;
pub(crate) mod serving;
mod start_failure;
mod stop_start;
pub(crate) mod unchanged;
mod undeploy;
pub(crate) mod verify;
mod without_ci;

pub(crate) use domains::WEB_PORTS;
pub use restore_previous::RestoreOutcome;
pub use resume::CompletedStages;
pub use secrets::KEY_SECRET;
use slipway_protocol::ProjectReady;
use slipway_protocol::names::Port;

/// The host ports that are published: those of the modules. A database's allocated port isn't.
pub(crate) fn published_ports(request: &ProjectReady) -> Vec<Port> {
    let modules = request.allocations.iter().filter(|a| request.modules.contains(&a.service));
    modules.filter_map(|a| a.host_port).collect()
}
