//! LISTEN: who waits for work is woken when there is some. A wake-up may be lost with its connection, so that everybody
//! who waits polls as well.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use tokio::sync::{Notify, watch};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store::{Result, Store};

/// Channel of deployments that may be claimed and, with [`CANCEL_REQUESTED`], of those that somebody wants to stop.
pub(in crate::store) const DEPLOYMENTS: &str = "slipway_deployments";
/// Payload of [`DEPLOYMENTS`] when running attempts are to look for requests to cancel.
pub(in crate::store) const CANCEL_REQUESTED: &str = "wish";
/// Channel of new rows in the outbox.
pub(in crate::store) const OUTBOX: &str = "slipway_outbox";

/// Channel of branches that are to be looked at.
pub(in crate::store) const PUSHES: &str = "slipway_pushes";

#[derive(Clone, Default)]
struct Heard {
    deployments: Arc<Notify>,
    outbox: Arc<Notify>,
    pushes: Arc<Notify>,
    cancel_requests: Arc<watch::Sender<()>>,
}

/// Wake-ups from the database; listens until dropped.
pub struct Wakeups {
    heard: Heard,
    _listening: DropGuard,
}

impl Wakeups {
    /// Waits until there may be a deployment to claim, at most `poll`.
    pub async fn deployment(&self, poll: Duration) {
        let _ = tokio::time::timeout(poll, self.heard.deployments.notified()).await;
    }

    /// Waits until there may be something to publish or to read in the outbox, at most `poll`.
    pub async fn outbox(&self, poll: Duration) {
        let _ = tokio::time::timeout(poll, self.heard.outbox.notified()).await;
    }

    /// Waits until there may be a branch to look at, at most `poll`.
    pub async fn push(&self, poll: Duration) {
        let _ = tokio::time::timeout(poll, self.heard.pushes.notified()).await;
    }

    /// Changes whenever somebody may have asked to cancel a running attempt.
    #[must_use]
    pub fn cancel_requests(&self) -> watch::Receiver<()> {
        self.heard.cancel_requests.subscribe()
    }
}

impl Store {
    /// Starts listening, and goes on through every loss of the connection.
    #[must_use]
    pub fn listen(&self) -> Wakeups {
        let heard = Heard::default();
        let stop = CancellationToken::new();
        let (store, listener, token) = (self.clone(), heard.clone(), stop.clone());
        tokio::spawn(async move {
            let mut tried = 0;
            while !token.is_cancelled() {
                tried += 1;
                tokio::select! {
                    () = token.cancelled() => return,
                    ended = store.listen_once(&listener, &mut tried) => {
                        if let Err(error) = ended {
                            tracing::debug!(%error, "listening to the database ended");
                        }
                    }
                }
                let delay = RetryPolicy::RECONNECT.delay(tried).unwrap_or(RetryPolicy::RECONNECT.max);
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
            }
        });
        Wakeups { heard, _listening: stop.drop_guard() }
    }

    /// One connection's life; resets `tried` once it listens.
    async fn listen_once(&self, heard: &Heard, tried: &mut u32) -> Result<()> {
        let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
        let listen = async {
            client.batch_execute(&format!("LISTEN {DEPLOYMENTS}; LISTEN {OUTBOX}; LISTEN {PUSHES}")).await?;
            *tried = 0;
            // Something may have happened before this connection listened.
            heard.deployments.notify_one();
            heard.outbox.notify_one();
            heard.pushes.notify_one();
            heard.cancel_requests.send_replace(());
            std::future::pending::<Result<()>>().await
        };
        let receive = async {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(n) = message? {
                    match n.channel() {
                        DEPLOYMENTS => {
                            if n.payload() == CANCEL_REQUESTED {
                                heard.cancel_requests.send_replace(());
                            }
                            heard.deployments.notify_one();
                        }
                        OUTBOX => heard.outbox.notify_one(),
                        PUSHES => heard.pushes.notify_one(),
                        _ => {}
                    }
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = listen => ended,
            ended = receive => ended,
        }
    }
}
