//! Connecting: the pinned host key before anything else, then the login. No commands here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_ssh2_tokio::{AuthMethod, Client, Error as SshError, ServerCheckMethod};
use russh::client::{AuthResult, Config, Handler};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey};
use secrecy::ExposeSecret as _;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::HostKey;
use tokio::time::timeout;

use super::CONNECT_TIMEOUT;
use crate::retry::RetryPolicy;
use crate::{HostKeyPolicy, StageError, Target};

/// How often a silent server is asked for a sign of life.
pub const KEEPALIVE: Duration = Duration::from_secs(10);
/// How many of these signs may be missing.
const KEEPALIVE_MISSED: usize = 3;

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
            let key = shown_key(&peers, address).await?;
            learned(&key);
            key
        }
        HostKeyPolicy::Refuse => {
            let shown = fingerprint(&shown_key(&peers, address).await?);
            return Err(StageError::new(
                ErrorCode::HostKeyUnknown,
                format!("{} at {address} shows host key {shown}, and none is pinned", target.handle),
            ));
        }
    };
    log_in(target, &peers, address, &pinned).await
}

fn unreachable(address: &str, why: &dyn std::fmt::Display) -> StageError {
    StageError::new(ErrorCode::ServerUnreachable, format!("no SSH connection to {address}: {why}"))
}

async fn resolve(target: &Target, address: &str) -> Result<Vec<SocketAddr>, StageError> {
    let found = tokio::net::lookup_host((target.address.as_str(), target.ssh_port.get()));
    match timeout(CONNECT_TIMEOUT, found).await {
        Ok(Ok(peers)) => Ok(peers.collect()),
        Ok(Err(e)) => Err(unreachable(address, &e)),
        Err(_) => Err(unreachable(address, &"the name wasn't resolved in time")),
    }
}

fn config(pinned: Option<&HostKey>) -> Config {
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

async fn log_in(target: &Target, peers: &[SocketAddr], address: &str, pinned: &HostKey) -> Result<Client, StageError> {
    let check = pinned.as_str().split(' ').nth(1).unwrap_or_default();
    let mut tried = 0;
    loop {
        tried += 1;
        let auth = AuthMethod::with_key(target.ssh_key.expose_secret(), None);
        let check = ServerCheckMethod::with_public_key(check);
        let user = target.ssh_user.as_str();
        let connecting = Client::connect_with_config(peers, user, auth, check, config(Some(pinned)));
        let error = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => error,
            Err(_) => return Err(unreachable(address, &"it doesn't answer in time")),
        };
        let delay = if reset(&error) { RetryPolicy::CONNECT.delay(tried) } else { None };
        match delay {
            Some(delay) => tokio::time::sleep(delay).await,
            None => return Err(refused(target, peers, address, pinned, error).await),
        }
    }
}

/// Whether the server dropped the connection before it said anything.
fn reset(error: &SshError) -> bool {
    let io = match error {
        SshError::IoError(e) | SshError::SshError(russh::Error::IO(e)) => e.kind(),
        SshError::SshError(russh::Error::HUP | russh::Error::Disconnect) => return true,
        _ => return false,
    };
    matches!(io, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof)
}

async fn refused(
    target: &Target,
    peers: &[SocketAddr],
    address: &str,
    pinned: &HostKey,
    error: SshError,
) -> StageError {
    match error {
        SshError::ServerCheckFailed
        | SshError::SshError(russh::Error::UnknownKey | russh::Error::NoCommonAlgo { .. }) => {
            let shown = match shown_key(peers, address).await {
                Ok(key) => fingerprint(&key),
                Err(_) => "of another kind".to_owned(),
            };
            let message = format!("{address} shows host key {shown}, but {} is pinned", fingerprint(pinned));
            StageError::new(ErrorCode::HostKeyMismatch, message)
        }
        SshError::KeyAuthFailed if !says_no(target, peers, pinned).await => {
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

/// Whether the server really refuses the key: a connection that breaks while it's asked looks the same to whoever logs
/// in through the crate. A server that refuses names the methods that are left; one that is gone names none.
async fn says_no(target: &Target, peers: &[SocketAddr], pinned: &HostKey) -> bool {
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

/// Accepts the pinned host key only.
struct PinnedHostKey(HostKey);

impl Handler for PinnedHostKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, russh::Error> {
        Ok(bare(key).is_some_and(|shown| shown == self.0))
    }
}

/// A host key without its comment.
fn bare(key: &PublicKey) -> Option<HostKey> {
    let shown = key.to_openssh().unwrap_or_default();
    let bare: Vec<&str> = shown.split(' ').take(2).collect();
    HostKey::new(bare.join(" ")).ok()
}

/// Asks the server for its host key and leaves before logging in.
async fn shown_key(peers: &[SocketAddr], address: &str) -> Result<HostKey, StageError> {
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

/// Notes the host key and refuses it.
struct HostKeyRecorder(Arc<Mutex<Option<HostKey>>>);

impl Handler for HostKeyRecorder {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, russh::Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bare(key);
        Ok(false)
    }
}

/// `SHA256:…`, as `ssh-keygen -l` prints it.
fn fingerprint(key: &HostKey) -> String {
    key.as_str()
        .parse::<PublicKey>()
        .map_or_else(|_| "of an unknown kind".to_owned(), |k| k.fingerprint(HashAlg::Sha256).to_string())
}
