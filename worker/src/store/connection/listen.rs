//! Listening to the notifications of the database, and telling this process's parts what they say.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use tokio::time::Instant;
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use crate::store::connection::client::Statements as _;
use crate::store::connection::deadline::deadline;
use crate::store::connection::hosts::DatabaseHosts;
use crate::store::connection::wakeups::{DEPLOYMENTS, FLEET, OUTBOX, PUSHES, RELAY, Wakeups};
use crate::store::{Result, Store};

/// So many attempts of a worker are many: its writes wait a moment for each other.
pub(in crate::store) const MANY: usize = 4;
/// Where many are at work, requests are taken in, and deployments claimed, so far apart.
const BETWEEN: Duration = Duration::from_millis(10);

impl Store {
    /// Starts listening, and goes on through every loss of the connection. All callers in a process share one
    /// connection.
    #[must_use]
    pub fn listen(&self) -> Wakeups {
        let mut listener = self.heard.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listening) = listener.upgrade() {
            return Wakeups { heard: self.heard.clone(), _listening: listening };
        }
        let stop = CancellationToken::new();
        let listening = Arc::new(stop.clone().drop_guard());
        *listener = Arc::downgrade(&listening);
        let store = self.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(async { tokio::join!(store.keep_listening(), store.keep_telling()) }).await
        });
        Wakeups { heard: self.heard.clone(), _listening: listening }
    }

    async fn keep_listening(&self) {
        // Where no session is ours, everybody polls for good; the start of a worker says so.
        let Some(way) = &self.sessions else { return };
        let mut tried = 0;
        loop {
            tried += 1;
            let ended = self.listen_once(way, &mut tried).await;
            if self.heard.listening.send_if_modified(std::mem::take) {
                tracing::warn!("no notifications come from the database; until they do, it's asked every second");
            }
            if let Err(error) = ended {
                tracing::debug!(%error, "listening to the database ended");
            }
            tokio::time::sleep(RetryPolicy::RECONNECT.delay(tried).unwrap_or(RetryPolicy::RECONNECT.max)).await;
        }
    }

    /// Tells the relay of another process what is committed here, after the commit and once for all that came meanwhile:
    /// PostgreSQL lets transactions that notify commit one at a time. One that is lost with this process or its connection
    /// is made up for by the relay, which looks when it renews its lease.
    async fn keep_telling(&self) {
        loop {
            self.heard.untold.notified().await;
            let told = async { self.client().await?.row("SELECT pg_notify($1, '')", &[&OUTBOX]).await };
            if let Err(error) = deadline(told).await {
                tracing::debug!(%error, "the relay couldn't be told of new events; it looks by itself");
            }
        }
    }

    /// One connection's life; resets `tried` once it listens.
    async fn listen_once(&self, hosts: &DatabaseHosts, tried: &mut u32) -> Result<()> {
        let (client, mut connection) = hosts.connect().await?;
        let listen = async {
            let channels = [DEPLOYMENTS, OUTBOX, PUSHES, RELAY, FLEET].map(|channel| format!("LISTEN {channel};"));
            client.batch_execute(&channels.concat()).await?;
            *tried = 0;
            self.heard.listening.send_replace(true);
            // Something may have happened before this connection listened.
            self.heard.wake_all();
            std::future::pending::<Result<()>>().await
        };
        let receive = async {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(n) = message? {
                    self.heard.take(n.channel(), n.payload());
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = listen => ended,
            ended = receive => ended,
            () = self.heard.listens_in_vain.notified() => {
                self.close_stale();
                Ok(())
            }
        }
    }

    /// Tells how many attempts this process's runner has, and how many slots are free: what is committed here is then
    /// claimed here, and nobody else is woken for it. `None`: no runner is at work here (any more).
    pub fn set_slots(&self, slots: Option<(usize, usize)>) {
        let (running, free) = slots.unwrap_or_default();
        self.heard.running.store(running, Ordering::Release);
        self.heard.free_slots.store(free, Ordering::Release);
        self.heard.runs.store(slots.is_some(), Ordering::Release);
    }

    /// How many attempts this process's runner has.
    pub(in crate::store) fn running(&self) -> usize {
        self.heard.running.load(Ordering::Acquire)
    }

    /// Waits until some milliseconds after `last`, where many are at work: what comes meanwhile is done with it.
    pub async fn keep_pace(&self, last: &mut Option<Instant>) {
        if let Some(last) = last.filter(|_| self.running() >= MANY) {
            tokio::time::sleep_until(last + BETWEEN).await;
        }
        *last = Some(Instant::now());
    }

    /// Has this process's runner ask for a deployment after a while, when one becomes due that others learn of by their
    /// turns only.
    pub(in crate::store) fn wake_runner_in(&self, delay: Duration) {
        if self.heard.has_runner() {
            let heard = self.heard.clone();
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                heard.deployments.notify_one();
            });
        }
    }

    /// So many workers live.
    pub(in crate::store) fn set_workers(&self, workers: usize) {
        self.heard.workers.store(workers, Ordering::Relaxed);
    }
}
