//! `slipway notify`: tells people how deployments ended. A plain subscriber of `slipway.events`, and so also the example of how
//! to write one: a durable queue of its own, each event made durable before it's acknowledged, duplicates recognised by
//! their ids. It needs nothing of the workers but their events, and nothing that another subscriber couldn't have.
//!
//! `routing` says whom an event is told to, `text` what is said, `channel` how it gets there; `intake` and `sender` are the two
//! halves that Postgres stands between.

pub(crate) mod channel;
pub(crate) mod intake;
pub(crate) mod routing;
pub(crate) mod sender;
pub(crate) mod text;
