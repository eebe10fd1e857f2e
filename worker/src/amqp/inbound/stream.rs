//! The stream that repairs. It reads into the reader's own buffer and repairs there; only the last frame of a read, if
//! it came in part and must be seen as a whole, is kept back until the rest is there. What of a body is there passes at
//! once, without being copied.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};

use super::texts::{HEAD, HEADER, METHOD, repair};

/// Longest frame that is kept back, in bytes; RabbitMQ's are at most 128 KiB unless it's told otherwise, and a longer
/// one passes as it came.
const LONGEST: usize = 1024 * 1024;

/// A stream from a broker in which short strings are UTF-8.
pub(super) struct RepairedStream<S> {
    stream: S,
    frames: Frames,
}

impl<S> RepairedStream<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::default() }
    }
}

/// How far the stream has come.
#[derive(Default)]
struct Frames {
    /// What is still to come of a frame that passes as it is.
    passing: usize,
    /// The beginning of a frame, kept back.
    buffered: Vec<u8>,
    /// How much of it was given to the reader, once it may be given.
    given: Option<usize>,
}

/// What is to be done with a frame; lengths are of the whole of it.
enum Frame {
    /// Its head isn't there yet.
    Unknown,
    /// It's passed on unread: it holds no short strings, or is too long.
    Passes(usize),
    /// It must be there as a whole.
    Whole(usize),
}

impl Frame {
    fn of(bytes: &[u8]) -> Self {
        let [kind, _, _, a, b, c, d, ..] = *bytes else { return Self::Unknown };
        let payload = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let length = payload.saturating_add(HEAD + 1);
        if matches!(kind, METHOD | HEADER) && length <= LONGEST { Self::Whole(length) } else { Self::Passes(length) }
    }
}

impl Frames {
    /// Repairs what was read and keeps back the frame that ends behind it; gives how much of it is ready.
    fn take(&mut self, read: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let passing = self.passing.min(read.len() - at);
            self.passing -= passing;
            at += passing;
            let rest = &mut read[at..];
            match Frame::of(rest) {
                Frame::Passes(length) => self.passing = length,
                Frame::Whole(length) if length <= rest.len() => {
                    log_repair(repair(&mut rest[..length]));
                    at += length;
                }
                Frame::Whole(_) | Frame::Unknown => {
                    self.buffered.extend_from_slice(rest);
                    return at;
                }
            }
        }
    }

    /// How many more bytes must be there before it is known what to do; 0 when the buffer may be given away.
    fn missing(&mut self) -> usize {
        match Frame::of(&self.buffered) {
            Frame::Unknown => HEAD - self.buffered.len(),
            Frame::Whole(length) if length > self.buffered.len() => length - self.buffered.len(),
            Frame::Whole(_) => {
                log_repair(repair(&mut self.buffered));
                self.given = Some(0);
                0
            }
            Frame::Passes(length) => {
                self.passing = length - self.buffered.len();
                self.given = Some(0);
                0
            }
        }
    }

    /// Gives the reader what is buffered, from `given` on.
    fn give(&mut self, given: usize, buffer: &mut [u8]) -> usize {
        let rest = &self.buffered[given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        if count == rest.len() {
            self.buffered.clear();
            self.given = None;
        } else {
            self.given = Some(given + count);
        }
        count
    }
}

fn log_repair(repaired: bool) {
    if repaired {
        tracing::warn!(
            "the next message's AMQP properties aren't UTF-8 or are nested too deep: `?` stands for each byte that can't \
             be read; its producer should be corrected"
        );
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RepairedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { stream, frames } = self.get_mut();
        loop {
            if let Some(given) = frames.given {
                return Poll::Ready(Ok(frames.give(given, buffer)));
            }
            if frames.buffered.is_empty() {
                let read = ready!(Pin::new(&mut *stream).poll_read(cx, buffer))?;
                let ready = frames.take(&mut buffer[..read]);
                if ready > 0 || read == 0 {
                    return Poll::Ready(Ok(ready));
                }
            }
            let missing = frames.missing();
            if missing > 0 && ready!(buffer_more(frames, stream, missing, cx))? == 0 {
                // The stream ends in the middle of a frame, which is the reader's to judge.
                frames.given = Some(0);
            }
        }
    }
}

/// Reads up to `missing` more bytes into the buffer.
fn buffer_more<S: AsyncRead + Unpin>(
    frames: &mut Frames,
    stream: &mut S,
    missing: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let before = frames.buffered.len();
    frames.buffered.resize(before + missing, 0);
    let read = Pin::new(stream).poll_read(cx, &mut frames.buffered[before..]);
    let more = if let Poll::Ready(Ok(more)) = &read { *more } else { 0 };
    frames.buffered.truncate(before + more);
    read
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RepairedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
