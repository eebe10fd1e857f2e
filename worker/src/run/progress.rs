//! What a stage reports while it runs, on its way into the outbox: in batches, and without making the stage wait. A
//! stage that reports faster than the database writes loses lines; the last one of a log event says how many.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slipway_deploy::Reporter;
use slipway_deploy::budget::Budget;
use slipway_protocol::names::HostKey;
use slipway_protocol::{Failure, ProgressKind, Stage};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::cancellation::{Canceller, StopReason};
use crate::store::{Lease, ServerRecord, Store};

/// Lines of one log event.
const BATCH: usize = 50;
/// How many bytes of lines one log event has at most, but for its last line.
const BATCH_BYTES: usize = 64 * 1024;
/// How long a line waits for others.
const FLUSH_DELAY: Duration = Duration::from_millis(500);
/// Lines that wait to be written.
const BUFFER: usize = 2000;

/// The last line of an attempt that has told as much as an attempt may.
const NO_MORE: &str = "… this attempt has told as many lines as are kept; what follows is left out";

enum ProgressMessage {
    Line(Stage, String),
    Retrying(Stage, Failure, Duration),
    HostKey(HostKey),
    Flush(oneshot::Sender<()>),
}

/// The sending end, for the stage.
pub(super) struct ProgressSender {
    sender: mpsc::Sender<ProgressMessage>,
    dropped: Arc<AtomicU64>,
    budget: Mutex<Budget>,
}

impl ProgressSender {
    fn send(&self, message: ProgressMessage) {
        if self.sender.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything sent so far is written, or can't be.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.sender.send(ProgressMessage::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

impl Reporter for ProgressSender {
    fn line(&self, stage: Stage, line: &str) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let was_spent = budget.is_spent();
        if budget.take(line.len()) {
            self.send(ProgressMessage::Line(stage, line.to_owned()));
        } else if !was_spent {
            self.send(ProgressMessage::Line(stage, NO_MORE.to_owned()));
        }
    }

    fn retrying(&self, stage: Stage, failure: &Failure, delay: Duration) {
        self.send(ProgressMessage::Retrying(stage, failure.clone(), delay));
    }

    fn host_key_learned(&self, key: &HostKey) {
        self.send(ProgressMessage::HostKey(key.clone()));
    }
}

/// The end that writes to the outbox; [`ProgressWriter::run`] ends when the [`ProgressSender`] is dropped.
pub(super) struct ProgressWriter {
    receiver: mpsc::Receiver<ProgressMessage>,
    dropped: Arc<AtomicU64>,
    store: Store,
    lease: Lease,
    attempt: u32,
    server: ServerRecord,
    canceller: Canceller,
    lines: Option<(Stage, Vec<String>, Instant)>,
}

/// A sender and the writer that it sends to.
pub(super) fn channel(
    store: Store,
    lease: Lease,
    (attempt, interruptions): (u32, u32),
    server: ServerRecord,
    canceller: Canceller,
) -> (Arc<ProgressSender>, ProgressWriter) {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let dropped = Arc::new(AtomicU64::new(0));
    let budget = Mutex::new(Budget::of_attempt(attempt.saturating_add(interruptions)));
    let sender = ProgressSender { sender, dropped: dropped.clone(), budget };
    (Arc::new(sender), ProgressWriter { receiver, dropped, store, lease, attempt, server, canceller, lines: None })
}

impl ProgressWriter {
    pub(super) async fn run(mut self) {
        loop {
            let due = self.lines.as_ref().map(|(_, _, since)| *since + FLUSH_DELAY);
            let message = tokio::select! {
                message = self.receiver.recv() => message,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.write(None).await;
                    continue;
                }
            };
            match message {
                Some(ProgressMessage::Line(stage, line)) => self.add_line(stage, line).await,
                Some(ProgressMessage::Retrying(stage, failure, delay)) => {
                    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                    let attempt = self.attempt;
                    self.write(Some(ProgressKind::StageRetrying { stage, attempt, failure, delay_ms })).await;
                }
                Some(ProgressMessage::HostKey(key)) => self.pin_host_key(&key).await,
                Some(ProgressMessage::Flush(done)) => {
                    self.write(None).await;
                    let _ = done.send(());
                }
                None => return self.write(None).await,
            }
        }
    }

    async fn add_line(&mut self, stage: Stage, line: String) {
        if self.lines.as_ref().is_some_and(|(of, lines, _)| *of != stage || is_full(lines)) {
            self.write(None).await;
        }
        self.lines.get_or_insert_with(|| (stage, Vec::new(), Instant::now())).1.push(line);
    }

    /// Writes the lines so far and then `next`. What can't be written is lost: it's only a report of progress.
    async fn write(&mut self, next: Option<ProgressKind>) {
        let mut kinds = Vec::new();
        if let Some((stage, mut lines, _)) = self.lines.take() {
            match self.dropped.swap(0, Ordering::Relaxed) {
                0 => {}
                n => lines.push(format!("… {n} lines left out: they came faster than they could be written")),
            }
            kinds.push(ProgressKind::Log { stage, lines });
        }
        kinds.extend(next);
        if !kinds.is_empty()
            && let Err(error) = self.store.record_progress(&self.lease, &kinds).await
        {
            tracing::warn!(%error, deployment.id = %self.lease.deployment, "progress of this deployment is lost, since it couldn't be written");
        }
    }

    async fn pin_host_key(&self, key: &HostKey) {
        match self.store.pin_host_key(&self.server, key, None).await {
            Ok(true) => tracing::info!(server.handle = %self.server.handle, "host key pinned at first sight"),
            Ok(false) => {
                tracing::error!(server.handle = %self.server.handle, "another host key is pinned already; the attempt is cancelled");
                self.canceller.cancel(StopReason::HostKeyMismatch);
            }
            Err(error) => {
                tracing::warn!(%error, server.handle = %self.server.handle, "the host key couldn't be pinned");
            }
        }
    }
}

fn is_full(lines: &[String]) -> bool {
    lines.len() >= BATCH || lines.iter().map(String::len).sum::<usize>() >= BATCH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_event_has_so_many_lines_and_so_many_bytes() {
        assert!(is_full(&vec![String::new(); BATCH]) && !is_full(&vec![String::new(); BATCH - 1]));
        assert!(is_full(&vec!["x".repeat(BATCH_BYTES / 4); 4]) && !is_full(&vec!["x".repeat(BATCH_BYTES / 4); 3]));
    }

    #[test]
    fn an_attempt_tells_so_many_lines_and_says_that_more_are_left_out() {
        let (sender, mut receiver) = mpsc::channel(100_000);
        let sender = ProgressSender { sender, dropped: Arc::default(), budget: Mutex::new(Budget::new(1000, 50)) };
        (0..500).for_each(|_| sender.line(Stage::Compose, "line"));
        let mut told = Vec::new();
        while let Ok(ProgressMessage::Line(_, line)) = receiver.try_recv() {
            told.push(line);
        }
        assert_eq!((told.len(), told.last().map(String::as_str)), (51, Some(NO_MORE)));
    }
}
