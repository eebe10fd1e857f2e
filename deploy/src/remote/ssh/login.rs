//! Connecting: the host key is checked before anything else, then the login. No commands here.

use std::net::SocketAddr;
use std::sync::Arc;

use async_ssh2_tokio::{AuthMethod, Client, Error as SshError};
use russh::client::AuthResult;
use russh::keys::PrivateKeyWithHashAlg;
use secrecy::ExposeSecret as _;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::HostKey;
use tokio::time::timeout;

use super::host_key::{PinnedHostKey, ask_host_key, fingerprint, mismatch, pinned_check};
use super::transport::{CONNECT_TIMEOUT, config, unreachable};
use crate::backoff::RetryPolicy;
use crate::{HostKeyPolicy, StageError, Target};

/// Connects to the server that proves itself as the policy asks.
pub(super) async fn connect(
    target: &Target,
    address: &str,
    learned: &(dyn Fn(&HostKey) + Sync),
) -> Result<Client, StageError> {
    let peers = resolve(target, address).await?;
    let pinned = match &target.host_key {
        HostKeyPolicy::Pinned(key) => key.clone(),
        HostKeyPolicy::TrustOnFirstUse => {
            let key = ask_host_key(&peers, address).await?;
            learned(&key);
            key
        }
        HostKeyPolicy::Refuse => {
            let shown = fingerprint(&ask_host_key(&peers, address).await?);
            return Err(StageError::new(
                ErrorCode::HostKeyUnknown,
                format!("{} at {address} shows host key {shown}, and none is pinned", target.handle),
            ));
        }
    };
    log_in(target, &peers, address, &pinned).await
}

async fn resolve(target: &Target, address: &str) -> Result<Vec<SocketAddr>, StageError> {
    let found = tokio::net::lookup_host((target.address.as_str(), target.ssh_port.get()));
    match timeout(CONNECT_TIMEOUT, found).await {
        Ok(Ok(peers)) => Ok(peers.collect()),
        Ok(Err(e)) => Err(unreachable(address, &e)),
        Err(_) => Err(unreachable(address, &"the name wasn't resolved in time")),
    }
}

async fn log_in(target: &Target, peers: &[SocketAddr], address: &str, pinned: &HostKey) -> Result<Client, StageError> {
    let mut tried = 0;
    loop {
        tried += 1;
        let auth = AuthMethod::with_key(target.ssh_key.expose_secret(), None);
        let user = target.ssh_user.as_str();
        let check = pinned_check(pinned);
        let connecting = Client::connect_with_config(peers, user, auth, check, config(Some(pinned)));
        let error = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => error,
            Err(_) => return Err(unreachable(address, &"it doesn't answer in time")),
        };
        let delay = if is_reset(&error) { RetryPolicy::CONNECT.delay(tried) } else { None };
        match delay {
            Some(delay) => tokio::time::sleep(delay).await,
            None => return Err(explain_refusal(target, peers, address, pinned, error).await),
        }
    }
}

/// Whether the server dropped the connection before it said anything.
fn is_reset(error: &SshError) -> bool {
    let io = match error {
        SshError::IoError(e) | SshError::SshError(russh::Error::IO(e)) => e.kind(),
        SshError::SshError(russh::Error::HUP | russh::Error::Disconnect) => return true,
        _ => return false,
    };
    matches!(io, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof)
}

async fn explain_refusal(
    target: &Target,
    peers: &[SocketAddr],
    address: &str,
    pinned: &HostKey,
    error: SshError,
) -> StageError {
    match error {
        SshError::ServerCheckFailed
        | SshError::SshError(russh::Error::UnknownKey | russh::Error::NoCommonAlgo { .. }) => {
            mismatch(peers, address, pinned).await
        }
        SshError::KeyAuthFailed if !is_key_refused(target, peers, pinned).await => {
            unreachable(address, &"the connection broke while logging in")
        }
        SshError::KeyAuthFailed | SshError::SshError(russh::Error::NoAuthMethod) => StageError::new(
            ErrorCode::SshKeyRefused,
            format!("{address} refuses the SSH key of {} for user {}", target.handle, target.ssh_user),
        ),
        SshError::KeyInvalid(_) => {
            StageError::new(ErrorCode::SshKeyUnusable, format!("the SSH key for {} can't be read", target.handle))
        }
        other => unreachable(address, &other),
    }
}

/// Whether the server really refuses the key. The SSH crate reports a connection that breaks during the login in the
/// same way, so the server is asked once more: one that refuses names the methods that are left, one that is gone doesn't.
async fn is_key_refused(target: &Target, peers: &[SocketAddr], pinned: &HostKey) -> bool {
    let Ok(key) = russh::keys::decode_secret_key(target.ssh_key.expose_secret(), None) else { return true };
    let asking = async {
        let server = PinnedHostKey(pinned.clone());
        let mut handle = russh::client::connect(Arc::new(config(Some(pinned))), peers, server).await?;
        let hash = handle.best_supported_rsa_hash().await?.flatten();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        handle.authenticate_publickey(target.ssh_user.as_str(), key).await
    };
    match timeout(CONNECT_TIMEOUT, asking).await {
        Ok(Ok(AuthResult::Failure { remaining_methods, .. })) => !remaining_methods.is_empty(),
        Ok(Ok(AuthResult::Success) | Err(_)) | Err(_) => false,
    }
}
