//! Placement: which server a project is deployed to, as pure code. What is known of the servers is fetched by the store,
//! which also writes the choice down; here it's decided, and told why.

mod choice;
mod lacks;
mod limits;
#[cfg(test)]
mod oracle;
mod ports;
mod server;

pub use choice::{PlacementChoice, choose};
pub use limits::PlacementLimits;
pub use ports::{InvalidPortRange, PortRange, assign_ports};
pub use server::{MeasuredRoom, PlacementNeeds, PlacementServer, ReservedRoom};
