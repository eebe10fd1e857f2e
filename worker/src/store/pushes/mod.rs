//! The branches whose pushes Slipway deploys itself, the looks at them, and the webhooks that say when to look. What
//! follows from a look is decided in [`crate::scheduler`].

pub(super) mod deliveries;
pub(super) mod look;
pub(super) mod push;
pub(super) mod watch;
