//! Connecting: the host key is checked before anything else, then the login. No commands here.

use std::net::SocketAddr;
use std::sync::Arc;

use async_ssh2_tokio::{AuthMethod, Client, Error as SshError};
use russh::client::{AuthResult, Handle};
use russh::keys::PrivateKeyWithHashAlg;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::{HostKey, UserName};
use tokio::time::timeout;

use super::host_key::{PinnedHostKey, ask_host_key, fingerprint, mismatch, pinned_check};
use super::private_key;
use super::transport::{CONNECT_TIMEOUT, config, unreachable};
use crate::backoff::RetryPolicy;
use crate::{HostKeyPolicy, StageError, Target};

/// Where and as whom somebody logs in, and what the server proves itself with.
#[derive(Clone)]
pub(super) struct SshLogin {
    user: UserName,
    address: String,
    peers: Vec<SocketAddr>,
    pinned: HostKey,
}

/// What a server says to a key.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyAnswer {
    /// It lets the user in.
    Taken,
    /// It doesn't.
    Refused,
    /// It takes the key, and wants these methods beside it.
    NeedsMore(String),
    /// It can't be asked, or breaks off without a word about the key.
    Unknown,
}

/// As `user ann of 10.0.0.1:22`.
impl std::fmt::Display for SshLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "user {} of {}", self.user, self.address)
    }
}

/// Connects to the server that proves itself as the policy asks.
pub(super) async fn connect(
    target: &Target,
    address: &str,
    learned: &(dyn Fn(&HostKey) + Sync),
) -> Result<(Client, SshLogin), StageError> {
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
    let login = SshLogin { user: target.ssh_user.clone(), address: address.to_owned(), peers, pinned };
    Ok((log_in(target, &login).await?, login))
}

async fn resolve(target: &Target, address: &str) -> Result<Vec<SocketAddr>, StageError> {
    let found = tokio::net::lookup_host((target.address.as_str(), target.ssh_port.get()));
    match timeout(CONNECT_TIMEOUT, found).await {
        Ok(Ok(peers)) => Ok(peers.collect()),
        Ok(Err(e)) => Err(unreachable(address, &e)),
        Err(_) => Err(unreachable(address, &"the name wasn't resolved in time")),
    }
}

async fn log_in(target: &Target, login: &SshLogin) -> Result<Client, StageError> {
    let mut tried = 0;
    loop {
        tried += 1;
        let auth = AuthMethod::with_key(target.ssh_key.expose_secret(), None);
        let check = pinned_check(&login.pinned);
        let config = config(Some(&login.pinned));
        let connecting = Client::connect_with_config(login.peers.as_slice(), login.user.as_str(), auth, check, config);
        let error = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => error,
            Err(_) => return Err(unreachable(&login.address, &"it doesn't answer in time")),
        };
        let delay = if is_reset(&error) { RetryPolicy::CONNECT.delay(tried) } else { None };
        match delay {
            Some(delay) => tokio::time::sleep(delay).await,
            None => return Err(explain_refusal(target, login, error).await),
        }
    }
}

/// Whether the server dropped the connection before it said anything.
fn is_reset(error: &SshError) -> bool {
    match error {
        SshError::IoError(error) => is_end(error),
        SshError::SshError(error) => is_dropped(error),
        _ => false,
    }
}

fn is_dropped(error: &russh::Error) -> bool {
    match error {
        russh::Error::IO(error) => is_end(error),
        russh::Error::HUP | russh::Error::Disconnect => true,
        _ => false,
    }
}

fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof)
}

async fn explain_refusal(target: &Target, login: &SshLogin, error: SshError) -> StageError {
    let address = &login.address;
    let refused = |why: &str| {
        let message = format!("{address} refuses the SSH key of {} for user {}{why}", target.handle, login.user);
        StageError::new(ErrorCode::SshKeyRefused, message)
    };
    match error {
        SshError::ServerCheckFailed
        | SshError::SshError(russh::Error::UnknownKey | russh::Error::NoCommonAlgo { .. }) => {
            mismatch(&login.peers, address, &login.pinned).await
        }
        // The SSH crate reports a connection that breaks during the login in the same way.
        SshError::KeyAuthFailed => match login.clone().try_key(target.ssh_key.clone()).await {
            KeyAnswer::Refused => refused(""),
            KeyAnswer::NeedsMore(methods) => {
                refused(&format!(" alone: its AuthenticationMethods want {methods} as well, which no worker has"))
            }
            KeyAnswer::Taken | KeyAnswer::Unknown => unreachable(address, &"the connection broke while logging in"),
        },
        SshError::SshError(russh::Error::NoAuthMethod) => refused(""),
        SshError::KeyInvalid(_) => {
            let why =
                private_key::check(&target.ssh_key).err().map_or("can't be read".to_owned(), |error| error.message);
            StageError::new(ErrorCode::SshKeyUnusable, format!("the SSH key for {} {why}", target.handle))
        }
        ref other if is_reset(other) => unreachable(
            address,
            &"it drops connections before it says anything: its sshd takes no more at once (MaxStartups), or none from here",
        ),
        other => unreachable(address, &other),
    }
}

impl SshLogin {
    /// A connection without a login. One that is dropped before a word is tried again.
    async fn connect_bare(&self) -> Result<Handle<PinnedHostKey>, russh::Error> {
        let mut tried = 0;
        loop {
            tried += 1;
            let server = PinnedHostKey(self.pinned.clone());
            let config = Arc::new(config(Some(&self.pinned)));
            match russh::client::connect(config, self.peers.as_slice(), server).await {
                Err(error) if is_dropped(&error) => match RetryPolicy::CONNECT.delay(tried) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => return Err(error),
                },
                connected => return connected,
            }
        }
    }

    /// Logs in with that key and leaves. A server that refuses it names the methods that are left; one that is gone doesn't.
    pub(super) async fn try_key(self, key: SecretString) -> KeyAnswer {
        let Ok(key) = russh::keys::decode_secret_key(key.expose_secret(), None) else { return KeyAnswer::Refused };
        let asking = async {
            let mut handle = self.connect_bare().await?;
            let hash = handle.best_supported_rsa_hash().await?.flatten();
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
            handle.authenticate_publickey(self.user.as_str(), key).await
        };
        match timeout(CONNECT_TIMEOUT, asking).await {
            Ok(Ok(AuthResult::Success)) => KeyAnswer::Taken,
            Ok(Ok(AuthResult::Failure { remaining_methods, partial_success: true })) => {
                let methods: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
                KeyAnswer::NeedsMore(methods.join(" and "))
            }
            Ok(Ok(AuthResult::Failure { remaining_methods, .. })) if !remaining_methods.is_empty() => {
                KeyAnswer::Refused
            }
            Ok(Ok(AuthResult::Failure { .. }) | Err(_)) | Err(_) => KeyAnswer::Unknown,
        }
    }
}
