//! The channels that a session has in store, so that a script costs one round trip: the next one has its shell already,
//! which waits for a script on its stdin, and the one after that is open. A shell that gets none ends with the connection.
//! A server that refuses one (`MaxSessions`) isn't asked for more than a script needs, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_ssh2_tokio::{Client, Error as SshError};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::transport::CONNECT_TIMEOUT;

/// The one with a shell, and the one that's only open.
const IN_STORE: usize = 2;
/// How often a server may refuse to open a channel that is needed now, and how long is waited in between: what a script has
/// left running holds its session for a while.
const REFUSED: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

type Opening = JoinHandle<Result<Channel<Msg>, SshError>>;

/// A channel in store.
struct Spare {
    /// The command of the shell that waits there.
    begun: Option<String>,
    opening: Opening,
}

/// A channel for a script.
pub(super) struct Taken {
    pub(super) channel: Channel<Msg>,
    /// Whether its shell waits for the script.
    pub(super) begun: bool,
    /// The round trips that had to be waited for.
    pub(super) round_trips: u32,
}

/// Why there is no channel.
pub(super) enum NoChannel {
    /// The connection is broken, or the server doesn't answer.
    Broken,
    /// The server opens none, though nothing runs that could take its place.
    Refused,
}

/// See the module.
pub(super) struct Channels {
    client: Client,
    spares: VecDeque<Spare>,
    /// Whether the server has refused to open one beside others.
    refuses_more: Arc<AtomicBool>,
}

impl Channels {
    /// Opens all of them at once.
    pub(super) fn open(client: Client) -> Self {
        let mut channels = Self { client, spares: VecDeque::new(), refuses_more: Arc::default() };
        channels.fill();
        channels
    }

    /// Opens as many as there should be.
    fn fill(&mut self) {
        while self.spares.len() < IN_STORE && !self.refuses_more.load(Ordering::Relaxed) {
            let (client, refuses_more) = (self.client.clone(), self.refuses_more.clone());
            let opening = tokio::spawn(async move {
                let opened = client.get_channel().await;
                if is_refusal(&opened) {
                    refuses_more.store(true, Ordering::Relaxed);
                }
                opened
            });
            self.spares.push_back(Spare { begun: None, opening });
        }
    }

    /// Starts the shell of the next script.
    pub(super) fn begin_next(&mut self, command: &str) {
        self.fill();
        let Some(Spare { begun: None, .. }) = self.spares.front() else { return };
        let Some(Spare { opening, .. }) = self.spares.pop_front() else { return };
        let text = command.to_owned();
        let opening = tokio::spawn(async move {
            let channel = opening.await.unwrap_or_else(|_| Err(SshError::SshError(russh::Error::Disconnect)))?;
            channel.exec(true, text).await.map_err(SshError::SshError)?;
            Ok(channel)
        });
        self.spares.push_front(Spare { begun: Some(command.to_owned()), opening });
    }

    /// The next one, with a shell only if that was begun by this very command.
    pub(super) async fn take(&mut self, command: &str) -> Result<Taken, NoChannel> {
        while let Some(Spare { begun, opening }) = self.spares.pop_front() {
            let fits = begun.as_ref().is_none_or(|begun| begun == command);
            let opened = timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| NoChannel::Broken)?;
            let Ok(Ok(mut channel)) = opened else { continue };
            if fits && !(begun.is_some() && has_ended(&mut channel).await) {
                return Ok(Taken { channel, begun: begun.is_some(), round_trips: 0 });
            }
            let _ = channel.close().await;
        }
        let opening = timeout(CONNECT_TIMEOUT, self.open_patiently());
        let channel = opening.await.unwrap_or(Err(NoChannel::Broken))?;
        Ok(Taken { channel, begun: false, round_trips: 1 })
    }

    /// A server that takes one session at a time may not have seen the end of the last one yet.
    async fn open_patiently(&self) -> Result<Channel<Msg>, NoChannel> {
        for _ in 0..REFUSED {
            match self.client.get_channel().await {
                refused if is_refusal(&refused) => tokio::time::sleep(PAUSE).await,
                opened => return opened.map_err(|_| NoChannel::Broken),
            }
        }
        Err(NoChannel::Refused)
    }

    /// Logs out.
    pub(super) async fn disconnect(self) {
        self.spares.iter().for_each(|spare| spare.opening.abort());
        let _ = self.client.disconnect().await;
    }
}

fn is_refusal(opened: &Result<Channel<Msg>, SshError>) -> bool {
    matches!(opened, Err(SshError::SshError(russh::Error::ChannelOpenFailure(_))))
}

/// Whether the server has ended a shell that nothing was asked of yet: some end what is idle.
async fn has_ended(channel: &mut Channel<Msg>) -> bool {
    loop {
        let message = tokio::select! {
            biased;
            message = channel.wait() => message,
            () = std::future::ready(()) => return false,
        };
        match message {
            None
            | Some(
                ChannelMsg::Close
                | ChannelMsg::Eof
                | ChannelMsg::ExitStatus { .. }
                | ChannelMsg::ExitSignal { .. }
                | ChannelMsg::Failure,
            ) => return true,
            Some(_) => {}
        }
    }
}
