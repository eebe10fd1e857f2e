//! Servers for requests that name none: whoever waits gets one as soon as there is room, and servers are asked for what they
//! have. What is chosen is decided in [`crate::scheduler`] and written by [`crate::store`].

mod placer;
pub(crate) mod server_asker;

pub use placer::Placer;
pub use server_asker::ServerAsker;
