//! Pushes that Slipway deploys itself. A webhook only says where to look; what is deployed is what GitHub says then. So
//! webhooks that are sent again, come out of order or get lost do no harm: every branch is looked at now and then anyway.
//! What follows from a look is decided in `scheduler` and written in `store`.

pub(crate) mod connections;
pub(crate) mod looker;
mod payload;
mod signature;
pub(crate) mod webhook_server;

pub use looker::PushLooker;
pub use webhook_server::WebhookServer;
