//! Settings of every SSH connection: its time limits, its keepalive and the kind of host key that it asks for.

use std::time::Duration;

use russh::client::Config;
use russh::keys::{Algorithm, HashAlg};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::HostKey;

use crate::StageError;

/// How long connecting, or opening a channel, may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that has sent nothing for this long is asked whether it's there.
pub const KEEPALIVE: Duration = Duration::from_secs(10);
/// The connection is given up after this many of these questions without an answer.
const KEEPALIVE_MISSED: usize = 3;

pub(super) fn config(pinned: Option<&HostKey>) -> Config {
    let mut config = Config {
        nodelay: true,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MISSED,
        inactivity_timeout: Some(Duration::from_secs(60)),
        ..Config::default()
    };
    // A server has several host keys: it must show the one that is pinned.
    match pinned.and_then(|key| key.as_str().split(' ').next()) {
        Some("ssh-rsa") => {
            let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
            config.preferred.key = vec![rsa(HashAlg::Sha512), rsa(HashAlg::Sha256)].into();
        }
        Some(kind) => {
            if let Ok(algorithm) = kind.parse::<Algorithm>() {
                config.preferred.key = vec![algorithm].into();
            }
        }
        None => {}
    }
    config
}

pub(super) fn unreachable(address: &str, why: &dyn std::fmt::Display) -> StageError {
    StageError::new(ErrorCode::ServerUnreachable, format!("no SSH connection to {address}: {why}"))
}
