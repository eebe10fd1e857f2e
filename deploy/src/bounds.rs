//! Times that bound what is done on the way to servers and to GitHub, for those who list all policies. Each constant is
//! defined where it's used; the deadlines of a whole deployment, which the worker enforces, are here.

use std::time::Duration;

pub use crate::github::answer::{MAX_WAIT as GITHUB_MAX_WAIT, SECONDARY_WAIT as GITHUB_SECONDARY_WAIT};
pub use crate::github::api::{CONNECT_TIMEOUT as GITHUB_CONNECT, REQUEST_TIMEOUT as GITHUB_REQUEST};
pub use crate::http::PROBE_TIMEOUT;
pub use crate::project::registry::TIMEOUT as REGISTRY_TIMEOUT;
pub use crate::remote::ssh::session::KILL_GRACE;
pub use crate::remote::ssh::transport::{CONNECT_TIMEOUT as SSH_CONNECT, KEEPALIVE as SSH_KEEPALIVE};
pub use crate::server_facts::ASK_TIME as SERVER_FACTS;
pub use crate::stages::firewall::CONNECT_TIMEOUT as PORT_CONNECT;
pub use crate::stages::serving::RESTORED_WARM_UP;
pub use crate::stages::unchanged::LOOK_TIME as SERVER_LOOK;
pub use crate::stages::verify::WARM_UP;

/// How long the parts of a deployment may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// One stage of an attempt, its short retries included. Then its command is ended and the attempt has failed.
    pub stage: Duration,
    /// A deployment from its first attempt's start, all retries included. Then it has failed for good.
    pub deployment: Duration,
    /// The age of a request at which its deployment isn't begun any more.
    pub request: Duration,
    /// Restoring the previous release after a deployment that failed for good or was cancelled.
    pub restore: Duration,
}

impl Deadlines {
    /// What applies unless the worker's environment says otherwise.
    pub const DEFAULT: Self = Self {
        stage: Duration::from_secs(30 * 60),
        deployment: Duration::from_secs(3 * 3600),
        request: Duration::from_secs(24 * 3600),
        restore: Duration::from_secs(10 * 60),
    };
}
