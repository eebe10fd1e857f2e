//! What is remembered of servers: how to log in to them, and whether they can be reached.

pub(super) mod allowances;
pub(super) mod availability;
pub(super) mod circuit_breaker;
pub(super) mod cordon_event;
pub(super) mod cordoning;
pub(super) mod facts;
pub(super) mod front_door;
pub(super) mod inventory;
