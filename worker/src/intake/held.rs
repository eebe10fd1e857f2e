//! Messages that can't be taken in though the database answers others: a lock that somebody holds, a statement that takes too
//! long, a row that can't be read. They are held in the database, so that what is behind them goes on, and tried again beside
//! it. One that has failed too often is given up: it becomes a dead letter with its reason, and has its result. Deployments and
//! marks that are held for that reason are looked after here, too.
//!
//! A database that is away altogether isn't this module's matter: the consumer waits for it. It isn't away if it takes the
//! write that holds the message, or puts it off: then it's this message that ends its connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::{ErrorCode, Message, ProjectHalf, ProjectId, Rejection};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::admission::Admitter;
use super::envelope::read_envelope;
use super::repeated_secrets;
use crate::message::Incoming;
use crate::process::{Drain, Readiness};
use crate::store::{FailingWrite, HeldMessage, HeldWrite, StoreError, WaitingMessage};
use crate::telemetry::{self, Metrics, OutageLog};

/// How long one message may take while others wait behind it.
pub(crate) const TRY_TIME: Duration = Duration::from_secs(5);
/// How long after a message was held it's tried again: a deadlock or a short lock is over by then.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// So long one worker has for a try before another one begins.
const HELD_LEASE: Duration = Duration::from_secs(90);
/// So long the messages of a project whose last one was held go to the held ones at once, and wait for it.
const FAILING_TIME: Duration = Duration::from_secs(60);
/// How often it's looked whether messages are still held that another worker lets go.
const POLL: Duration = Duration::from_secs(60);
/// While much is tried, it's shown so often what is held.
const BETWEEN_REPORTS: Duration = Duration::from_secs(1);
/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// How many held messages `/readyz` names.
const NAMED: u32 = 5;

/// What the consumer and the tries of held messages know of each other; clones share it.
#[derive(Clone, Default)]
pub struct Holding {
    failing: Arc<Mutex<BTreeMap<ProjectId, Instant>>>,
    held: Arc<Notify>,
}

impl Holding {
    /// Whether the project's messages are held for now.
    pub(super) fn is_failing(&self, read: &Result<Message, Rejection>) -> bool {
        let Some(project) = project_of(read) else { return false };
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.retain(|_, until| *until > Instant::now());
        failing.contains_key(&project)
    }

    /// Holds a message; false when it holds a secret in plain text, which no table keeps.
    pub(super) async fn hold(
        &self,
        admitter: &Admitter,
        read: &Result<Message, Rejection>,
        incoming: &Incoming,
        reason: &str,
    ) -> Result<bool, StoreError> {
        if !may_be_kept(admitter, read, incoming) {
            return Ok(false);
        }
        let (known, _) = read_envelope(read);
        admitter.store.hold(&known, incoming, reason, FIRST_DELAY).await?;
        self.note_failure(read);
        self.held.notify_one();
        Metrics::get().taken_in("held");
        let deployment = known.deployment_id().map(|id| id.to_string());
        tracing::warn!(deployment.id = deployment, reason, "a message can't be taken in for now, and is held");
        Ok(true)
    }

    fn note_failure(&self, read: &Result<Message, Rejection>) {
        let Some(project) = project_of(read) else { return };
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.insert(project, Instant::now() + FAILING_TIME);
    }

    fn note_success(&self, read: &Result<Message, Rejection>) {
        let Some(project) = project_of(read) else { return };
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&project);
    }
}

fn project_of(read: &Result<Message, Rejection>) -> Option<ProjectId> {
    match read {
        Ok(Message::Ready(request)) => Some(request.event.data.project.id),
        Ok(Message::Half(half)) => Some(half.event.data.project().id),
        Ok(Message::Command(request)) => Some(request.event.data.project.id),
        Ok(Message::Cancel(_) | Message::Cordon(_)) | Err(_) => None,
    }
}

fn may_be_kept(admitter: &Admitter, read: &Result<Message, Rejection>, incoming: &Incoming) -> bool {
    match read {
        Ok(Message::Ready(request)) => {
            repeated_secrets::find(incoming, &admitter.credentials.openable(&request.event.data)).is_none()
        }
        Ok(Message::Half(half)) => match &half.event.data {
            ProjectHalf::Engineering(half) => {
                repeated_secrets::find(incoming, &admitter.credentials.openable(half)).is_none()
            }
            ProjectHalf::Resources(_) => true,
        },
        Ok(Message::Command(_) | Message::Cancel(_) | Message::Cordon(_)) => true,
        Err(rejection) => rejection.code != ErrorCode::PlaintextSecret,
    }
}

/// Tries held messages again until the drain begins.
pub struct HeldMessages {
    /// Decides what a message calls for, and commits it.
    pub admitter: Admitter,
    /// What the consumer knows.
    pub holding: Holding,
    /// How often, and how far apart.
    pub retries: RetryPolicy,
    /// Where it's shown what is held.
    pub readiness: Readiness,
    /// Ends the tries.
    pub drain: Drain,
}

impl HeldMessages {
    /// Works until the drain begins. A try that is cut off is begun anew by another worker.
    pub async fn run(self) {
        let wakeups = self.admitter.store.listen();
        let mut outages = OutageLog::new("held");
        // What is held already is told by the first turn.
        let mut wait = None;
        loop {
            tokio::select! {
                () = self.drain.token().cancelled() => return,
                () = self.holding.held.notified() => {}
                () = wakeups.held() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            let next = tokio::select! {
                () = self.drain.token().cancelled() => return,
                next = self.work_once() => next,
            };
            wait = *next.as_ref().unwrap_or(&Some(AFTER_FAILURE));
            outages.record(next.map(drop));
        }
    }

    /// Tries what is due and shows what is held; gives when to look again, unless nothing is held.
    async fn work_once(&self) -> Result<Option<Duration>, StoreError> {
        let store = &self.admitter.store;
        store.forget_held().await?;
        self.report().await?;
        let mut reported_at = Instant::now();
        while self.try_next().await? || store.give_up_held().await? || store.mark_held().await? {
            if reported_at.elapsed() >= BETWEEN_REPORTS {
                self.report().await?;
                reported_at = Instant::now();
            }
        }
        let is_failing = self.report().await?;
        let next = [store.until_next_held().await?, store.until_next_mark().await?, store.until_next_end().await?];
        let next = next.into_iter().chain([is_failing.then_some(POLL)]).flatten().min();
        Ok(next.map(|next| next.clamp(Duration::from_millis(50), POLL)))
    }

    /// Tries the message that is due; false when none is.
    async fn try_next(&self) -> Result<bool, StoreError> {
        let Some(held) = self.admitter.store.next_held(HELD_LEASE).await? else { return Ok(false) };
        let mut read = slipway_protocol::read(&held.incoming.body, &held.incoming.metadata());
        // What came without a time happened when it came, and not when it could be taken in.
        match &mut read {
            Ok(Message::Ready(request)) => drop(request.event.time.get_or_insert(held.received_at)),
            Ok(Message::Half(half)) => drop(half.event.time.get_or_insert(held.received_at)),
            Ok(Message::Command(request)) => drop(request.event.time.get_or_insert(held.received_at)),
            Ok(Message::Cancel(_) | Message::Cordon(_)) | Err(_) => {}
        }
        let (envelope, tracestate) = read_envelope(&read);
        let queue = slipway_protocol::topology::DEPLOYMENTS_QUEUE;
        let span = telemetry::processing_span(queue, &envelope, tracestate.as_deref(), &held.incoming);
        self.take_in(&held, &read).instrument(span).await?;
        Ok(true)
    }

    async fn take_in(&self, held: &HeldMessage, read: &Result<Message, Rejection>) -> Result<(), StoreError> {
        let store = &self.admitter.store;
        let error = match self.admitter.admit(read, &held.incoming).await {
            Ok(()) => {
                self.holding.note_success(read);
                return store.let_go_held(held.number).await;
            }
            Err(error) if error.fails_at_any() => return Err(error),
            Err(error) => error,
        };
        self.holding.note_failure(read);
        let (tries, reason) = (held.tries.saturating_add(1), error.summary());
        let outcome = match self.retries.delay(tries) {
            Some(_) => Err(error),
            None => {
                let why = format!(
                    "it couldn't be taken in at {tries} tries since {}, though the database answered others; at the last \
                     one: {reason}",
                    held.received_at
                );
                self.admitter.give_up(read, &held.incoming, why).await
            }
        };
        match outcome {
            Ok(()) => store.let_go_held(held.number).await,
            Err(error) if error.fails_at_any() => Err(error),
            Err(error) => {
                // Where the database is away, this fails as well, and it's no try.
                let delay = self.retries.delay(tries).unwrap_or(self.retries.max);
                tracing::warn!(tries, retry_in_s = delay.as_secs(), "a held message failed again: {}", error.summary());
                store.put_off_held(held.number, &error.summary(), delay).await
            }
        }
    }

    /// Shows what is held; gives whether that is more than messages.
    async fn report(&self) -> Result<bool, StoreError> {
        let (held, failing) =
            (self.admitter.store.held(NAMED).await?, self.admitter.store.failing_writes(NAMED).await?);
        let oldest = held.messages.iter().map(describe).chain(failing.writes.iter().map(describe_failing)).collect();
        self.readiness.set_held(held.count, failing.count, oldest);
        Ok(failing.count > 0)
    }
}

fn describe_failing(failing: &FailingWrite) -> String {
    let project = failing.project.as_deref().unwrap_or("no known project");
    let (waited, tries) = (failing.waited.as_secs(), failing.tries);
    let what = match (failing.what, failing.deployment) {
        (HeldWrite::Deployment, Some(id)) => format!("deployment {id} of {project} can't go on"),
        (HeldWrite::Mark(position), Some(id)) => {
            let more = if failing.and_more > 0 { format!(" and {} more", failing.and_more) } else { String::new() };
            format!("message {position}{more} of deployment {id} of {project} was sent, and can't be marked")
        }
        (HeldWrite::Mark(position), None) => format!("message {position} was sent, and can't be marked"),
        (HeldWrite::Deployment, None) => "a deployment can't go on".to_owned(),
    };
    let next = if failing.next_try_in.is_some() { "" } else { " and waits for people" };
    format!("{what}, for {waited} s, after {tries} tries{next}: {}", failing.reason)
}

fn describe(message: &WaitingMessage) -> String {
    let project = message.project.as_deref().unwrap_or("no known project");
    let id = message.event_id.as_deref().unwrap_or("unknown");
    let (waited, tries) = (message.waited.as_secs(), message.tries);
    format!("request {id} of {project} has waited for {waited} s, after {tries} tries: {}", message.reason)
}
