//! The SSH session of an attempt: one connection, one script an exec. The only file that imports the SSH crates.
//!
//! Sequential round trips, as [`Session::round_trips`] counts them: seven for the handshake (TCP, versions, key
//! exchange offers, key exchange, service request, offer of the public key, signature), one to open the first channel,
//! one for each exec. The channel of the next exec is opened while the current one runs, so it costs none.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_ssh2_tokio::{AuthMethod, Client, Error as SshError, ServerCheckMethod};
use russh::client::{Config, Handler, Msg};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::{Channel, ChannelMsg};
use secrecy::ExposeSecret;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::HostKey;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::lines::{Said, Splitter};
use crate::redact::Redactor;
use crate::retry::Policy;
use crate::script::Script;
use crate::{HostKeyPolicy, StageError, Target};

const HANDSHAKE_ROUND_TRIPS: u32 = 7;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a cancelled script may take to end; the watchdog kills it after five seconds.
const KILL_GRACE: Duration = Duration::from_secs(8);
/// sshd's MaxStartups resets connections at random while many come at once.
const CONNECT_RETRY: Policy =
    Policy { initial: Duration::from_millis(200), max: Duration::from_secs(1), multiplier: 2.0, attempts: 4 };

/// How a remote command ended. A lost connection is neither success nor failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Exited(u32),
    /// A signal ended it.
    Signalled(String),
    /// The connection broke; it may still have ended either way.
    Lost,
}

/// A remote command that ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub exit: Exit,
    /// What it said.
    pub said: Said,
}

/// One connection to one server.
pub struct Session {
    client: Client,
    spare: Option<JoinHandle<Result<Channel<Msg>, SshError>>>,
    round_trips: u32,
    address: String,
}

/// Limits of one exec, and who listens.
pub struct Watch<'a> {
    /// Longest time it may take.
    pub deadline: Duration,
    /// Ends it, with its process group.
    pub cancel: &'a CancellationToken,
    /// Cleans every line before anybody sees it.
    pub redactor: &'a Redactor,
    /// Hears every line that programs print.
    pub on_line: &'a (dyn Fn(&str) + Sync),
}

impl Session {
    /// Connects and logs in. `learned` hears of a host key that was trusted on first use.
    ///
    /// # Errors
    /// `host-key-unknown` and `host-key-mismatch` (before authentication, naming the fingerprint shown),
    /// `ssh-key-refused`, `ssh-key-unusable`, `server-unreachable`.
    pub async fn connect(target: &Target, learned: &(dyn Fn(&HostKey) + Sync)) -> Result<Self, StageError> {
        let address = format!("{}:{}", target.address.url_form(), target.ssh_port);
        let span = tracing::info_span!("ssh connect", server.address = %address);
        async {
            let peers = resolve(target, &address).await?;
            let pinned = match &target.host_key {
                HostKeyPolicy::Pinned(key) => key.clone(),
                HostKeyPolicy::TrustOnFirstUse => {
                    let key = shown_key(&peers, &address).await?;
                    learned(&key);
                    key
                }
                HostKeyPolicy::Refuse => {
                    let shown = fingerprint(&shown_key(&peers, &address).await?);
                    return Err(StageError::new(
                        ErrorCode::HostKeyUnknown,
                        format!("{} at {address} shows host key {shown}, and none is pinned", target.handle),
                    ));
                }
            };
            let client = log_in(target, &peers, &address, &pinned).await?;
            let mut session = Self { client, spare: None, round_trips: HANDSHAKE_ROUND_TRIPS, address };
            session.open_spare();
            session.round_trips += 1;
            Ok(session)
        }
        .instrument(span)
        .await
    }

    /// Sequential round trips so far.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        self.round_trips
    }

    fn open_spare(&mut self) {
        let client = self.client.clone();
        self.spare = Some(tokio::spawn(async move { client.get_channel().await }));
    }

    async fn channel(&mut self) -> Result<Channel<Msg>, StageError> {
        let opened = match self.spare.take() {
            Some(spare) => timeout(CONNECT_TIMEOUT, spare).await,
            None => return Err(lost("opening a channel", &self.address)),
        };
        match opened {
            Ok(Ok(Ok(channel))) => Ok(channel),
            _ => Err(lost("opening a channel", &self.address)),
        }
    }

    /// Runs one script to its end.
    ///
    /// # Errors
    /// `server-connection-lost` when no channel can be opened, `deadline-exceeded` after the deadline or a cancel; by
    /// then the remote process group is gone, or the connection is.
    pub async fn exec(&mut self, script: &Script, watch: &Watch<'_>) -> Result<Finished, StageError> {
        let span = tracing::info_span!(
            "ssh exec",
            process.command = script.name(),
            server.address = %self.address,
            process.exit.code = tracing::field::Empty,
        );
        let result = self.run(script, watch).instrument(span.clone()).await;
        if let Ok(Finished { exit: Exit::Exited(code), .. }) = &result {
            span.record("process.exit.code", code);
        }
        result
    }

    async fn run(&mut self, script: &Script, watch: &Watch<'_>) -> Result<Finished, StageError> {
        let channel = self.channel().await?;
        self.open_spare();
        self.round_trips += 1;
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let (mut reader, writer) = channel.split();
        let writer = Arc::new(writer);
        let (frame, sender) = (script.frame(&mark), writer.clone());
        // A remote that exits without reading would block the writer for ever: it's aborted with the reader's end.
        let writing = tokio::spawn(async move {
            if sender.exec(true, Script::command()).await.is_ok() {
                let _ = sender.data(frame.expose_secret()).await;
            }
        });
        let mut ears = Ears { said: Said::default(), out: Splitter::default(), err: Splitter::default(), mark, watch };
        let mut exit = Exit::Lost;
        let started = Instant::now();
        let mut ends = started + watch.deadline;
        let mut stopped: Option<&str> = None;
        loop {
            let message = tokio::select! {
                message = reader.wait() => message,
                () = watch.cancel.cancelled(), if stopped.is_none() => {
                    (stopped, ends) = (Some("was cancelled"), Instant::now() + KILL_GRACE);
                    let _ = writer.eof().await;
                    continue;
                }
                () = tokio::time::sleep_until(ends) => {
                    if stopped.is_some() {
                        break;
                    }
                    (stopped, ends) = (Some("took too long"), Instant::now() + KILL_GRACE);
                    let _ = writer.eof().await;
                    continue;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => ears.hear(&data, true),
                Some(ChannelMsg::ExtendedData { data, .. }) => ears.hear(&data, false),
                Some(ChannelMsg::ExitStatus { exit_status }) => exit = Exit::Exited(exit_status),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => exit = Exit::Signalled(format!("{signal_name:?}")),
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            }
        }
        writing.abort();
        let _ = timeout(Duration::from_secs(1), writer.close()).await;
        let said = ears.finish();
        match stopped {
            Some(why) => Err(StageError::new(
                ErrorCode::DeadlineExceeded,
                format!("{} on {} {why} after {} s", script.name(), self.address, started.elapsed().as_secs()),
            )
            .with_tail(said.tail())),
            None => Ok(Finished { exit, said }),
        }
    }

    /// Says good-bye and closes the connection.
    pub async fn close(mut self) {
        if let Some(spare) = self.spare.take() {
            spare.abort();
        }
        let _ = timeout(Duration::from_secs(2), self.client.disconnect()).await;
    }

    /// The error for a connection that broke during `what`.
    #[must_use]
    pub fn lost(&self, what: &str) -> StageError {
        lost(what, &self.address)
    }
}

/// Collects what a remote command prints.
struct Ears<'a> {
    said: Said,
    out: Splitter,
    err: Splitter,
    mark: String,
    watch: &'a Watch<'a>,
}

impl Ears<'_> {
    fn hear(&mut self, bytes: &[u8], stdout: bool) {
        let Self { said, out, err, mark, watch } = self;
        let splitter = if stdout { out } else { err };
        // Only stdout carries values: stderr belongs to the programs.
        let mark = if stdout { mark.as_str() } else { "\0" };
        splitter.feed(bytes, |line| note(said, mark, line, watch));
    }

    fn finish(mut self) -> Said {
        let Self { said, out, err, mark, watch } = &mut self;
        out.finish(|line| note(said, mark, line, watch));
        err.finish(|line| note(said, "\0", line, watch));
        self.said
    }
}

fn note(said: &mut Said, mark: &str, line: &[u8], watch: &Watch<'_>) {
    if let Some(text) = said.take(mark, line) {
        let text = watch.redactor.clean(&text);
        (watch.on_line)(&text);
        said.keep(text);
    }
}

fn lost(what: &str, address: &str) -> StageError {
    StageError::new(ErrorCode::ServerConnectionLost, format!("the connection to {address} broke while {what}"))
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
        keepalive_interval: Some(Duration::from_secs(10)),
        keepalive_max: 3,
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
        let delay = if reset(&error) { CONNECT_RETRY.delay(tried) } else { None };
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

/// Asks the server for its host key and leaves before logging in.
async fn shown_key(peers: &[SocketAddr], address: &str) -> Result<HostKey, StageError> {
    let seen = Arc::new(Mutex::new(None));
    let asking = russh::client::connect(Arc::new(config(None)), peers, Onlooker(seen.clone()));
    let outcome = timeout(CONNECT_TIMEOUT, asking).await;
    let key = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (key, outcome) {
        (Some(key), _) => Ok(key),
        (None, Ok(Err(e))) => Err(unreachable(address, &e)),
        (None, _) => Err(unreachable(address, &"it showed no usable host key")),
    }
}

/// Notes the host key and refuses it.
struct Onlooker(Arc<Mutex<Option<HostKey>>>);

impl Handler for Onlooker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKey) -> Result<bool, russh::Error> {
        let shown = key.to_openssh().unwrap_or_default();
        let bare: Vec<&str> = shown.split(' ').take(2).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = HostKey::new(bare.join(" ")).ok();
        Ok(false)
    }
}

/// `SHA256:…`, as `ssh-keygen -l` prints it.
fn fingerprint(key: &HostKey) -> String {
    key.as_str()
        .parse::<PublicKey>()
        .map_or_else(|_| "of an unknown kind".to_owned(), |k| k.fingerprint(HashAlg::Sha256).to_string())
}
