//! The host key: checking it against the pinned one, and asking a server for it without logging in. What is done with a
//! key that isn't known is decided in `login`, by [`crate::HostKeyPolicy`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_ssh2_tokio::ServerCheckMethod;
use russh::client::Handler;
use russh::keys::{HashAlg, PublicKey};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::HostKey;
use tokio::time::timeout;

use super::transport::{CONNECT_TIMEOUT, config, unreachable};
use crate::StageError;

/// How a login checks that the server shows the pinned key.
pub(super) fn pinned_check(pinned: &HostKey) -> ServerCheckMethod {
    ServerCheckMethod::with_public_key(pinned.as_str().split(' ').nth(1).unwrap_or_default())
}

/// The error for a server that shows another key than the pinned one; the server is asked for that key.
pub(super) async fn mismatch(peers: &[SocketAddr], address: &str, pinned: &HostKey) -> StageError {
    let shown = match ask_host_key(peers, address).await {
        Ok(key) => fingerprint(&key),
        Err(_) => "of another kind".to_owned(),
    };
    let message = format!("{address} shows host key {shown}, but {} is pinned", fingerprint(pinned));
    StageError::new(ErrorCode::HostKeyMismatch, message)
}

/// Accepts the pinned host key only, where the question is asked without the SSH crate's client.
pub(super) struct PinnedHostKey(pub HostKey);

impl Handler for PinnedHostKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, russh::Error> {
        Ok(without_comment(key).is_some_and(|shown| shown == self.0))
    }
}

/// A host key without its comment.
fn without_comment(key: &PublicKey) -> Option<HostKey> {
    let shown = key.to_openssh().unwrap_or_default();
    let bare: Vec<&str> = shown.split(' ').take(2).collect();
    HostKey::new(bare.join(" ")).ok()
}

/// Asks the server for its host key and leaves before logging in.
pub(super) async fn ask_host_key(peers: &[SocketAddr], address: &str) -> Result<HostKey, StageError> {
    let seen = Arc::new(Mutex::new(None));
    let asking = russh::client::connect(Arc::new(config(None)), peers, HostKeyRecorder(seen.clone()));
    let outcome = timeout(CONNECT_TIMEOUT, asking).await;
    let key = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (key, outcome) {
        (Some(key), _) => Ok(key),
        (None, Ok(Err(e))) => Err(unreachable(address, &e)),
        (None, _) => Err(unreachable(address, &"it showed no usable host key")),
    }
}

/// Records the host key and refuses it.
struct HostKeyRecorder(Arc<Mutex<Option<HostKey>>>);

impl Handler for HostKeyRecorder {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, russh::Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = without_comment(key);
        Ok(false)
    }
}

/// `SHA256:…`, as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(key: &HostKey) -> String {
    key.as_str()
        .parse::<PublicKey>()
        .map_or_else(|_| "of an unknown kind".to_owned(), |k| k.fingerprint(HashAlg::Sha256).to_string())
}
