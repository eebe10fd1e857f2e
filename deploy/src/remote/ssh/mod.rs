//! SSH: connecting to a server, its pinned host key, and running scripts. The only folder that imports the SSH crates.

mod channels;
mod host_key;
mod login;
mod output_collector;
pub mod private_key;
pub(crate) mod session;
pub(crate) mod stream;
pub(crate) mod transport;

pub use login::KeyAnswer;
pub use session::{CommandOutput, ExecOptions, RemoteExit, Session};
