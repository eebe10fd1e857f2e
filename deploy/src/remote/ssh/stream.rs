//! A stream from one server to another, through this process: what a script writes to stderr becomes another one's stdin. No more
//! of it is in memory than a few pieces, however slow either side is.

use std::sync::Arc;
use std::time::Duration;

use russh::ChannelMsg;
use russh::client::Msg;
use russh::{ChannelReadHalf, ChannelWriteHalf};
use secrecy::ExposeSecret;
use slipway_protocol::ErrorCode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::channels::Taken;
use super::output_collector::OutputCollector;
use super::session::{CommandOutput, KILL_GRACE, RemoteExit, Session};
use crate::StageError;
use crate::remote::script::Script;
use crate::secrets::redact::Redactor;

/// How many pieces are on their way.
const PIECES: usize = 8;
/// What a server may write before its stream begins: greetings of its shell, warnings.
const MAX_PREFACE: usize = 64 * 1024;
/// How long a script may take to be read by its server.
const SEND_TIME: Duration = Duration::from_secs(30);

/// What bounds a stream.
pub(crate) struct StreamLimits<'a> {
    /// How many bytes it may have.
    pub bytes: u64,
    /// Ends it, and both scripts.
    pub cancel: &'a CancellationToken,
    /// Redacts what the scripts print.
    pub redactor: &'a Redactor,
}

/// A stream that has ended, however.
pub(crate) struct EndedStream {
    /// The script that it came from.
    pub from: CommandOutput,
    /// The script that it went to.
    pub to: CommandOutput,
    /// How much was sent on.
    pub bytes: u64,
    /// Whether there was more than there may be.
    pub too_large: bool,
}

struct RunningScript {
    reader: ChannelReadHalf,
    writer: Arc<ChannelWriteHalf<Msg>>,
    mark: String,
}

/// Streams from `from`'s script, which writes `MARK archive` on a line of its own before, to that of `to`.
///
/// # Errors
/// `server-connection-lost` when no channel can be opened.
pub(crate) async fn stream(
    (from, source): (&mut Session, &Script),
    (to, sink): (&mut Session, &Script),
    limits: &StreamLimits<'_>,
) -> Result<EndedStream, StageError> {
    let mut sink = to.begin_stream(sink).await?;
    let mut source = from.begin_stream(source).await?;
    let (sender, receiver) = mpsc::channel(PIECES);
    // Cancelled as soon as one side has ended, or all of it is to end.
    let ends = limits.cancel.child_token();
    let quiet = |_: &str| {};
    let collector = OutputCollector::new(source.mark.clone(), limits.redactor, &quiet);
    let read = read_source(&mut source, sender, &ends, collector);
    let write = write_sink(sink.writer.clone(), receiver, &ends, limits.bytes);
    let collector = OutputCollector::new(sink.mark.clone(), limits.redactor, &quiet);
    let watch = async {
        let ended = watch_sink(&mut sink.reader, &sink.writer, limits.cancel, collector).await;
        ends.cancel();
        ended
    };
    let (from, (bytes, too_large), to) = tokio::join!(read, write, watch);
    Ok(EndedStream { from, to, bytes, too_large })
}

impl Session {
    async fn begin_stream(&mut self, script: &Script) -> Result<RunningScript, StageError> {
        let waiting = script.waiting();
        let lost = |session: &Self| session.lost_during(script.name());
        let Some(Taken { channel, begun, .. }) = self.take_channel(&waiting).await else { return Err(lost(self)) };
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let frame = script.frame(&mark);
        let (reader, writer) = channel.split();
        let sent = async {
            if !begun {
                writer.exec(true, waiting).await?;
            }
            writer.data(frame.expose_secret()).await
        };
        match timeout(SEND_TIME, sent).await {
            Ok(Ok(())) => Ok(RunningScript { reader, writer: Arc::new(writer), mark }),
            _ => Err(lost(self)),
        }
    }
}

/// Hands on what comes after the mark; ends the script when nobody takes it any more.
async fn read_source(
    source: &mut RunningScript,
    sender: mpsc::Sender<Bytes>,
    ends: &CancellationToken,
    mut collector: OutputCollector<'_>,
) -> CommandOutput {
    let mark = format!("\n{} archive\n", source.mark).into_bytes();
    let (mut sender, mut preface, mut exit) = (Some(sender), Some(Vec::new()), RemoteExit::Lost);
    let ending = async {
        ends.cancelled().await;
        tokio::time::sleep(KILL_GRACE).await;
    };
    tokio::pin!(ending);
    let mut told_to_end = false;
    loop {
        let message = tokio::select! {
            message = source.reader.wait() => message,
            () = ends.cancelled(), if !told_to_end => {
                (told_to_end, sender) = (true, None);
                let _ = source.writer.eof().await;
                continue;
            }
            () = &mut ending => break,
        };
        match message {
            Some(ChannelMsg::Data { data }) => collector.feed_stdout(&data),
            Some(ChannelMsg::ExtendedData { data, .. }) => {
                let piece = match &mut preface {
                    None => Some(data),
                    Some(before) => {
                        before.extend_from_slice(&data);
                        let begins = before.windows(mark.len()).position(|window| window == mark);
                        let rest = begins.map(|at| Bytes::copy_from_slice(&before[at + mark.len()..]));
                        if rest.is_some() {
                            preface = None;
                        } else if before.len() > MAX_PREFACE {
                            ends.cancel();
                        }
                        rest
                    }
                };
                if let (Some(piece), Some(sending)) = (piece, &sender) {
                    let sent = tokio::select! {
                        sent = sending.send(piece) => sent.is_ok(),
                        () = ends.cancelled() => false,
                    };
                    if !sent {
                        ends.cancel();
                    }
                }
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => exit = RemoteExit::Exited(exit_status),
            Some(ChannelMsg::ExitSignal { .. }) => exit = RemoteExit::Signalled,
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    let _ = timeout(Duration::from_secs(1), source.writer.close()).await;
    CommandOutput { exit, output: collector.finish() }
}

/// Sends what is handed on, then the end; how much that was, and whether it was too much.
async fn write_sink(
    writer: Arc<ChannelWriteHalf<Msg>>,
    mut receiver: mpsc::Receiver<Bytes>,
    ends: &CancellationToken,
    most: u64,
) -> (u64, bool) {
    let (mut bytes, mut too_large) = (0_u64, false);
    while let Some(piece) = receiver.recv().await {
        bytes += piece.len() as u64;
        too_large = bytes > most;
        let sent = match too_large {
            true => None,
            false => ends.run_until_cancelled(writer.data_bytes(piece)).await,
        };
        if !matches!(sent, Some(Ok(()))) {
            ends.cancel();
            break;
        }
    }
    let _ = timeout(SEND_TIME, writer.eof()).await;
    (bytes, too_large)
}

/// Waits for the end of the script that the stream goes to.
async fn watch_sink(
    reader: &mut ChannelReadHalf,
    writer: &ChannelWriteHalf<Msg>,
    cancel: &CancellationToken,
    mut collector: OutputCollector<'_>,
) -> CommandOutput {
    let mut exit = RemoteExit::Lost;
    let ending = async {
        cancel.cancelled().await;
        tokio::time::sleep(KILL_GRACE).await;
    };
    tokio::pin!(ending);
    loop {
        let message = tokio::select! {
            message = reader.wait() => message,
            () = &mut ending => break,
        };
        match message {
            Some(ChannelMsg::Data { data }) => collector.feed_stdout(&data),
            Some(ChannelMsg::ExtendedData { data, .. }) => collector.feed_stderr(&data),
            Some(ChannelMsg::ExitStatus { exit_status }) => exit = RemoteExit::Exited(exit_status),
            Some(ChannelMsg::ExitSignal { .. }) => exit = RemoteExit::Signalled,
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    let _ = timeout(Duration::from_secs(1), writer.close()).await;
    CommandOutput { exit, output: collector.finish() }
}

impl EndedStream {
    /// Why it wasn't copied whole, if it wasn't: what a script has explained itself comes first.
    pub(crate) fn defect(&self) -> Option<String> {
        if self.too_large {
            return Some(format!("it's larger than it was said to be: {} bytes had come", self.bytes));
        }
        let explained = |side: &CommandOutput| {
            let failed = side.output.value("failed")?;
            Some(failed.split_once(' ').map_or(failed, |(_, message)| message).to_owned())
        };
        let done = |side: &CommandOutput, key| side.exit == RemoteExit::Exited(0) && side.output.value(key).is_some();
        let (packed, unpacked) = (done(&self.from, "packed"), done(&self.to, "unpacked"));
        if packed && unpacked {
            return None;
        }
        let side = match packed {
            true => "the script that writes it came to no end",
            false => "the script that reads it came to no end",
        };
        Some(explained(&self.from).or_else(|| explained(&self.to)).unwrap_or_else(|| side.to_owned()))
    }

    /// The code of a failure that isn't the copy's own: whoever has lost the project must not act on it.
    pub(crate) fn explained_code(&self) -> Option<ErrorCode> {
        let code = |side: &CommandOutput| side.output.value("failed")?.split(' ').next()?.parse().ok();
        code(&self.from).or_else(|| code(&self.to))
    }
}
