//! The session of an attempt: one connection, one script an exec. Connecting is in `login`, and what is in store for the
//! next scripts in `channels`.
//!
//! Sequential round trips, as [`Session::round_trips`] counts them and the wire shows: six for TCP and the handshake, one to
//! open the first channels, and one for each script. A script whose shell isn't begun yet takes one more, unless it stands in
//! the command: sshd takes what is for a program's stdin only once that has begun.

use std::sync::Arc;
use std::time::Duration;

use russh::ChannelMsg;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::{Host, HostKey, Port};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::channels::{Channels, NoChannel, Taken};
use super::login::{self, KeyAnswer, SshLogin};
use super::output_collector::OutputCollector;
use crate::remote::failure_phrases::{explain_no_session, explain_other_program};
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::secrets::redact::Redactor;
use crate::{StageError, Target};

const HANDSHAKE_ROUND_TRIPS: u32 = 6;
/// How long a cancelled script may take to end; the watchdog kills it after five seconds.
pub const KILL_GRACE: Duration = Duration::from_secs(8);

/// How a remote command ended. A lost connection is neither success nor failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteExit {
    /// It exited with this code.
    Exited(u32),
    /// A signal from somewhere else ended it: the server restarts, lacks memory, or somebody wanted it.
    Signalled,
    /// The connection broke; it may still have ended either way.
    Lost,
}

impl RemoteExit {
    /// A shell exits with 128 plus the number of the signal that ended its command; KILL and TERM come from outside.
    /// `setsid`, which every script runs under, exits with the bare number. That may also be a program's own status: a
    /// script that ran to its end says so with `ended`.
    fn of(status: u32, output: &ScriptOutput) -> Self {
        match status {
            137 | 143 => Self::Signalled,
            9 | 15 if output.value("ended").is_none() => Self::Signalled,
            status => Self::Exited(status),
        }
    }
}

/// A remote command that has ended.
#[derive(Debug)]
pub struct CommandOutput {
    /// How it ended.
    pub exit: RemoteExit,
    /// What it printed.
    pub output: ScriptOutput,
}

/// One connection to one server.
pub struct Session {
    channels: Channels,
    round_trips: u32,
    /// Whether the server has refused a script that stood in the command.
    takes_short_commands: bool,
    /// Whether a script has begun to run.
    runs_scripts: bool,
    login: SshLogin,
    address: String,
    host: Host,
    port: Port,
}

/// Limits of one exec, and who gets its output.
pub struct ExecOptions<'a> {
    /// Longest time it may take.
    pub deadline: Duration,
    /// Ends it, with its process group.
    pub cancel: &'a CancellationToken,
    /// Redacts every line before anybody sees it.
    pub redactor: &'a Redactor,
    /// Gets every line that programs print, redacted.
    pub on_line: &'a (dyn Fn(&str) + Sync),
}

impl Session {
    /// Connects and logs in. `learned` is called with a host key that was trusted on first use.
    ///
    /// # Errors
    /// `host-key-unknown` and `host-key-mismatch` (before authentication, naming the fingerprint shown),
    /// `ssh-key-refused`, `ssh-key-unusable`, `server-unreachable`.
    pub async fn connect(target: &Target, learned: &(dyn Fn(&HostKey) + Sync)) -> Result<Self, StageError> {
        let address = format!("{}:{}", target.address.url_form(), target.ssh_port);
        let span = tracing::info_span!(
            "ssh connect",
            otel.kind = "client",
            server.address = %target.address,
            server.port = target.ssh_port.get(),
        );
        async {
            let (client, login) = login::connect(target, &address, learned).await?;
            let (host, port) = (target.address.clone(), target.ssh_port);
            let (channels, round_trips) = (Channels::open(client), HANDSHAKE_ROUND_TRIPS + 1);
            let (takes_short_commands, runs_scripts) = (false, false);
            Ok(Self { channels, round_trips, takes_short_commands, runs_scripts, login, address, host, port })
        }
        .instrument(span)
        .await
    }

    /// Sequential round trips so far.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        self.round_trips
    }

    /// Whether the server lets the same user in with another key, asked over a connection of its own.
    pub fn try_key(&self, key: SecretString) -> impl Future<Output = KeyAnswer> + Send + 'static {
        self.login.clone().try_key(key)
    }

    /// Starts the shell of the next script, while something else is waited for.
    pub fn begin_next(&mut self) {
        self.channels.begin_next(&Script::new("next", &[]).waiting());
    }

    /// A channel for a script whose shell is begun by `waiting`; `None` when the connection is broken.
    pub(super) async fn take_channel(&mut self, waiting: &str) -> Option<Taken> {
        let taken = self.channels.take(waiting).await.ok()?;
        self.round_trips += taken.round_trips + 1 + u32::from(!taken.begun);
        Some(taken)
    }

    /// Runs one script to its end.
    ///
    /// # Errors
    /// `server-connection-lost` when no channel can be opened, `ssh-command-refused` when the server runs something else in
    /// the script's place or nothing, `deadline-exceeded` after the deadline or a cancel, `output-too-large` when it reports
    /// too much. By then the remote process group has ended, or it got the signal to end and hasn't within [`KILL_GRACE`]: then the
    /// next command finds that it holds the project's lock, and ends it.
    pub async fn exec(&mut self, script: &Script, options: &ExecOptions<'_>) -> Result<CommandOutput, StageError> {
        let span = tracing::info_span!(
            "ssh exec",
            otel.kind = "client",
            process.command = script.name(),
            server.address = %self.host,
            server.port = self.port.get(),
            process.exit.code = tracing::field::Empty,
        );
        let result = self.run(script, options).instrument(span.clone()).await;
        if let Ok(CommandOutput { exit: RemoteExit::Exited(code), .. }) = &result {
            span.record("process.exit.code", code);
        }
        result
    }

    async fn run(&mut self, script: &Script, options: &ExecOptions<'_>) -> Result<CommandOutput, StageError> {
        let waiting = script.waiting();
        let Taken { channel, begun, round_trips } = match self.channels.take(&waiting).await {
            Ok(taken) => taken,
            Err(NoChannel::Refused) if !self.runs_scripts => return Err(explain_no_session(&self.login.to_string())),
            Err(_) => return Err(connection_lost("opening a channel", &self.address)),
        };
        if !script.is_last() {
            // In one go with the script.
            self.channels.begin_next(&waiting);
        }
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let openly = script.is_open() && !begun && !self.takes_short_commands;
        self.round_trips += round_trips + 1 + u32::from(!begun && !openly);
        let (command, frame) = if openly {
            (script.with_itself(&mark), SecretSlice::from(Vec::new()))
        } else {
            (waiting, script.frame(&mark))
        };
        let (mut reader, writer) = channel.split();
        let writer = Arc::new(writer);
        let sender = writer.clone();
        // A remote that exits without reading would block the writer for ever: it's aborted with the reader's end.
        let writing = tokio::spawn(async move {
            if (begun || sender.exec(true, command).await.is_ok()) && !openly {
                let _ = sender.data(frame.expose_secret()).await;
            }
        });
        let mut collector = OutputCollector::new(mark, options.redactor, options.on_line);
        let mut exit = RemoteExit::Lost;
        let started = Instant::now();
        let mut ends = started + script.limit().map_or(options.deadline, |limit| limit.min(options.deadline));
        let mut stopped: Option<(ErrorCode, &str)> = None;
        let mut refused = false;
        loop {
            let message = tokio::select! {
                message = reader.wait() => message,
                () = options.cancel.cancelled(), if stopped.is_none() => {
                    stopped = Some((ErrorCode::DeadlineExceeded, "was cancelled"));
                    ends = Instant::now() + KILL_GRACE;
                    let _ = writer.eof().await;
                    continue;
                }
                () = tokio::time::sleep_until(ends) => {
                    if stopped.is_some() {
                        break;
                    }
                    stopped = Some((ErrorCode::DeadlineExceeded, "took too long"));
                    ends = Instant::now() + KILL_GRACE;
                    let _ = writer.eof().await;
                    continue;
                }
            };
            match message {
                // What comes after too much isn't even read.
                Some(ChannelMsg::Data { .. } | ChannelMsg::ExtendedData { .. }) if collector.is_too_large() => {}
                Some(ChannelMsg::Data { data }) => collector.feed_stdout(&data),
                Some(ChannelMsg::ExtendedData { data, .. }) => collector.feed_stderr(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => exit = RemoteExit::Exited(exit_status),
                Some(ChannelMsg::ExitSignal { .. }) => exit = RemoteExit::Signalled,
                Some(ChannelMsg::Failure) if openly => {
                    refused = true;
                    break;
                }
                // The channel stays open: there is nobody to close it.
                Some(ChannelMsg::Failure) => {
                    stopped.get_or_insert((ErrorCode::ServerConnectionLost, NO_PROGRAM));
                    break;
                }
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            }
            if collector.is_too_large() && stopped.is_none() {
                stopped = Some((ErrorCode::OutputTooLarge, "reported more than a deployment can need and was ended"));
                ends = Instant::now() + KILL_GRACE;
                let _ = writer.eof().await;
            }
        }
        writing.abort();
        let _ = timeout(Duration::from_secs(1), writer.close()).await;
        if refused && stopped.is_none() {
            self.takes_short_commands = true;
            return Box::pin(self.run(script, options)).await;
        }
        let output = collector.finish();
        if let RemoteExit::Exited(status) = exit {
            exit = RemoteExit::of(status, &output);
        }
        let began = output.value("began").is_some();
        self.runs_scripts |= began;
        match stopped {
            None if !began && let RemoteExit::Exited(status) = exit => {
                Err(explain_other_program(&self.login.to_string(), &format!("ended with status {status}"), &output))
            }
            Some((ErrorCode::DeadlineExceeded, _)) if !began && !options.cancel.is_cancelled() => {
                let seconds = started.elapsed().as_secs();
                Err(explain_other_program(&self.login.to_string(), &format!("hadn't ended after {seconds} s"), &output))
            }
            // Its work was done, and what it went on to do is asked for again by whoever needs it.
            Some(_) if script.done_once().is_some_and(|key| output.value(key).is_some()) => {
                Ok(CommandOutput { exit: RemoteExit::Signalled, output })
            }
            Some((code, why)) => Err(StageError::new(
                code,
                format!("{} on {} {why} after {} s", script.name(), self.address, started.elapsed().as_secs()),
            )
            .with_tail(output.tail())),
            None => Ok(CommandOutput { exit, output }),
        }
    }

    /// Logs out and closes the connection.
    pub async fn close(self) {
        let _ = timeout(Duration::from_secs(2), self.channels.disconnect()).await;
    }

    /// The error for a connection that broke during `what`.
    #[must_use]
    pub fn lost_during(&self, what: &str) -> StageError {
        connection_lost(what, &self.address)
    }

    /// The error for a script that a signal ended. Its last output doesn't explain that, whatever it is.
    #[must_use]
    pub fn signalled(&self, script: &str) -> StageError {
        let address = &self.address;
        let message = format!(
            "{script} was ended on {address} by a signal: the server restarts, has no memory left, or somebody has sent it"
        );
        StageError::new(ErrorCode::ServerConnectionLost, message)
    }
}

/// Why a script didn't run where sshd answered that it can't start it.
const NO_PROGRAM: &str = "was refused by its sshd, which may have no process or memory left for it,";

fn connection_lost(what: &str, address: &str) -> StageError {
    StageError::new(ErrorCode::ServerConnectionLost, format!("the connection to {address} broke while {what}"))
}
