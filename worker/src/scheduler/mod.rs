//! Decisions about time and order, as pure code: which of two requests is the newer one, what follows from an attempt
//! that failed, which servers take no more for now, which push is deployed, what a half of a request
//! comes to, who may ask for what, which server a project gets. No clock, no chance and no database: they are passed in. The store
//! fetches what is asked here and writes what is answered, under its locks.

mod circuit_breaker;
mod halves;
mod limits;
#[cfg(test)]
mod model;
mod placement;
mod plain;
mod pushes;
mod retry;
mod sources;
mod superseding;

pub use circuit_breaker::{COOL_DOWN, Circuit, CircuitState, FAILURES_TO_OPEN};
pub use halves::{HalfVerdict, HalfView, KeptHalf};
pub use limits::{Due, Limits, Load};
pub use placement::{
    InvalidPortRange, MeasuredRoom, PlacementChoice, PlacementLimits, PlacementNeeds, PlacementServer, PortRange,
    ReservedRoom, assign_ports, choose,
};
pub use plain::PlainView;
pub use pushes::{LOOK_RETRIES, NO_RUNS_GRACE, PushDecision, PushView, RUN_NEEDED};
pub use retry::{AttemptCounts, MAX_INTERRUPTIONS, MAX_WAITS, RetryDecision, after_failure, after_interruption};
pub use sources::{Asking, InvalidPattern, Pattern, SourceScope, is_allowed, is_allowed_on_some_server, is_impostor};
pub use superseding::{CLOCK_AHEAD, Contender, GiveWay, OlderDeployment, Order, Precedence, happened_at, resolve};
