//! Times that bound what is done on the way to servers and to GitHub, for those who list all policies. Each is defined
//! where it's used.

pub use crate::github::answer::{MAX_WAIT as GITHUB_MAX_WAIT, SECONDARY_WAIT as GITHUB_SECONDARY_WAIT};
pub use crate::github::api::{CONNECT_TIMEOUT as GITHUB_CONNECT, REQUEST_TIMEOUT as GITHUB_REQUEST};
pub use crate::registry::TIMEOUT as REGISTRY_TIMEOUT;
pub use crate::ssh::login::KEEPALIVE as SSH_KEEPALIVE;
pub use crate::ssh::{CONNECT_TIMEOUT as SSH_CONNECT, KILL_GRACE};
pub use crate::stages::aftermath::WARM_UP as PUT_BACK_WARM_UP;
pub use crate::stages::firewall::CONNECT_TIMEOUT as PORT_CONNECT;
pub use crate::stages::verify::{PROBE_TIMEOUT, WARM_UP};
