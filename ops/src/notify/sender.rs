//! From Postgres to people: one task for each channel, one message at a time. What is told is marked; what isn't taken is kept,
//! and tried again: by itself where the message is at fault, with all others where the channel is.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::{CloudEvent, DeploymentResult};
use slipway_worker::process::Drain;
use slipway_worker::store::{ClaimedNotifications, RefusedNotification, Store, StoreError};
use tokio::sync::Notify;
use uuid::Uuid;

use super::channel::delivery::{MessageDelivery, SendFailure};
use super::channel::send::ChannelClient;
use super::routing::settings::{ChannelAddress, ChannelSettings, NotifyRouting};
use super::text::digest::describe;
use crate::terminal::error::join_sources;

/// How long nobody asks whether something is due that another process has written down.
const POLL: Duration = Duration::from_secs(5);
/// How long after the database failed it's asked again, and after another process was faster.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Events in one message at most.
const TOGETHER: u32 = 500;
/// Said where an earlier try may have arrived.
const MAYBE_TOLD: &str = "(This may have been told before: it isn't known how an earlier try ended.)";

/// Sends to one channel until the drain begins.
pub(crate) struct ChannelSender {
    pub(crate) name: String,
    pub(crate) routing: Arc<NotifyRouting>,
    pub(crate) client: Arc<ChannelClient>,
    pub(crate) store: Store,
    pub(crate) drain: Drain,
    pub(crate) written: Arc<Notify>,
}

impl ChannelSender {
    /// Sends what is due, message after message.
    pub(crate) async fn run(self) {
        let routing = self.routing.clone();
        let Some(settings) = routing.channels.get(&self.name) else { return };
        while !self.drain.has_begun() {
            let written = self.written.notified();
            let pause = match self.turn(settings).await {
                Ok(Some(pause)) => pause,
                Ok(None) => continue,
                Err(error) => {
                    let channel = self.name.as_str();
                    tracing::warn!(
                        channel,
                        error = join_sources(&error),
                        "nothing can be told for now: the database fails"
                    );
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = self.drain.token().cancelled() => {}
                () = written => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends one message; or gives how long there is nothing to send.
    async fn turn(&self, settings: &ChannelSettings) -> Result<Option<Duration>, StoreError> {
        match self.store.until_next_notification(&self.name).await? {
            None => return Ok(Some(POLL)),
            Some(wait) if !wait.is_zero() => return Ok(Some(wait.min(POLL))),
            Some(_) => {}
        }
        // A program wants each event by itself.
        let limit = if matches!(settings.address, ChannelAddress::Webhook(_)) { 1 } else { TOGETHER };
        let Some(claimed) = self.store.claim_notifications(&self.name, limit).await? else {
            return Ok(Some(AFTER_FAILURE));
        };
        let sent = self.send(settings, &claimed).await;
        self.record(settings, &claimed, sent).await?;
        Ok(None)
    }

    async fn send(&self, settings: &ChannelSettings, claimed: &ClaimedNotifications) -> Result<(), SendFailure> {
        let read = claimed.events.iter().map(|claimed| serde_json::from_slice(&claimed.event));
        let results: Result<Vec<CloudEvent<DeploymentResult>>, _> = read.collect();
        let results = results.map_err(|_| SendFailure::message("this version can't read the event any more"))?;
        let results: Vec<DeploymentResult> = results.into_iter().map(|event| event.data).collect();
        let NotifyRouting { link, redactor, .. } = &*self.routing;
        let mut text = describe(&results, &settings.template, link.as_ref(), redactor);
        if claimed.events.iter().any(|event| event.maybe_told) {
            text.lines.push(MAYBE_TOLD.to_owned());
        }
        let event = Some(claimed.events.as_slice()).and_then(|events| match events {
            [one] => Some(one.event.as_slice()),
            _ => None,
        });
        let delivery = MessageDelivery { id: message_id(claimed), target: &claimed.target, text, event };
        self.client.send(&settings.address, &delivery).await
    }

    async fn record(
        &self,
        settings: &ChannelSettings,
        claimed: &ClaimedNotifications,
        sent: Result<(), SendFailure>,
    ) -> Result<(), StoreError> {
        let (channel, clean) = (self.name.as_str(), |text: &str| self.routing.redactor.clean(text));
        let maybe_before = claimed.events.iter().any(|event| event.maybe_told);
        let events: Vec<String> = claimed.events.iter().map(|event| event.event_id.clone()).collect();
        match sent {
            Ok(()) => {
                tracing::info!(channel, events = events.len(), "told");
                self.store.mark_notified(channel, &events, settings.every, settings.spacing).await
            }
            Err(SendFailure::Limited(wait)) => {
                tracing::info!(channel, wait_s = wait.as_secs(), "the channel takes no more for a while");
                self.store.pause_notifications(channel, &events, wait, None, maybe_before).await
            }
            Err(SendFailure::Channel { problem, maybe_told }) => {
                let problem = clean(&problem);
                let policy = RetryPolicy::NOTIFICATIONS;
                let pause = policy.delay(claimed.failures.saturating_add(1)).unwrap_or(policy.max);
                tracing::warn!(channel, problem, wait_s = pause.as_secs(), "the channel doesn't work");
                let maybe_told = maybe_told || maybe_before;
                self.store.pause_notifications(channel, &events, pause, Some(&problem), maybe_told).await
            }
            Err(SendFailure::Message { problem }) => {
                let tries = claimed.events.iter().map(|event| event.tries).max().unwrap_or(1);
                let urgent = claimed.events.iter().any(|event| event.urgent);
                let now = Timestamp::now();
                let refused = RefusedNotification {
                    problem: clean(&problem),
                    again: RetryPolicy::NOTIFICATIONS.delay(tries),
                    not_before: settings.quiet.as_ref().filter(|_| !urgent).and_then(|quiet| quiet.end(now)),
                    maybe_told: maybe_before,
                };
                let problem = refused.problem.as_str();
                tracing::warn!(channel, problem, again = refused.again.is_some(), "a message isn't taken");
                self.store.mark_notification_refused(channel, &events, &refused, settings.spacing).await
            }
        }
    }
}

/// The event's own id, or one that follows from the ids of all events of the message.
fn message_id(claimed: &ClaimedNotifications) -> String {
    match claimed.events.as_slice() {
        [one] => one.event_id.clone(),
        many => {
            let mut ids: Vec<&str> = many.iter().map(|event| event.event_id.as_str()).collect();
            ids.sort_unstable();
            Uuid::new_v5(&Uuid::NAMESPACE_OID, ids.join(" ").as_bytes()).to_string()
        }
    }
}
