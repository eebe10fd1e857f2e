//! Whether this worker is ready, condition by condition. The parts of the worker set the conditions, `admin_server`
//! shows them. Nothing is stopped or started here.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use super::drain::Drain;

/// What must hold before a worker is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The database has the expected schema, and has taken this worker's latest heartbeat.
    Database,
    /// The broker has registered this worker's consumer.
    BrokerConsumer,
    /// The broker takes what this worker publishes. Without that a worker still takes requests in and carries them out.
    /// It isn't ready all the same: its results reach nobody, and people must see that the broker is in alarm.
    BrokerPublisher,
    /// A message that it sent to itself has come back through the broker.
    Canary,
    /// It isn't draining.
    NotDraining,
}

/// One condition as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionStatus {
    /// Which condition.
    pub name: Condition,
    /// Whether it holds.
    pub met: bool,
    /// Why it doesn't, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it has been met or unmet.
    pub since: Timestamp,
}

/// All conditions at one moment; the body of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// Whether every condition holds.
    pub ready: bool,
    /// Every condition, met or not.
    pub conditions: Vec<ConditionStatus>,
    /// What the database fails at though it answers others, and waits. It stops nothing else, and so makes no
    /// worker unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldReport>,
}

/// What waits beside the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldReport {
    /// How many messages; a thousand stands for that many or more.
    pub messages: u64,
    /// How many writes of deployments and of what was sent.
    pub writes: u64,
    /// Those that have waited for longest: for what, and since when.
    pub oldest: Vec<String>,
}

/// A handle on the conditions; clones share them. Every worker starts with nothing met but [`Condition::NotDraining`].
#[derive(Debug, Clone)]
pub struct Readiness {
    conditions: Arc<watch::Sender<Vec<ConditionStatus>>>,
    held: Arc<Mutex<Option<HeldReport>>>,
    drain: Drain,
}

impl Readiness {
    /// Conditions of a worker that stops being ready when `drain` begins.
    #[must_use]
    pub fn new(drain: &Drain) -> Self {
        let since = Timestamp::now();
        let unmet = |name| ConditionStatus { name, met: false, reason: Some("not there yet".into()), since };
        let conditions =
            [Condition::Database, Condition::BrokerConsumer, Condition::BrokerPublisher, Condition::Canary];
        let conditions = conditions.map(unmet).into();
        Self { conditions: Arc::new(watch::Sender::new(conditions)), held: Arc::default(), drain: drain.clone() }
    }

    /// Sets that `condition` holds.
    pub fn set_met(&self, condition: Condition) {
        self.set(condition, true, None);
    }

    /// Records that `condition` doesn't hold (any more); the reason is shown in `/readyz`.
    pub fn set_unmet(&self, condition: Condition, reason: impl Into<String>) {
        self.set(condition, false, Some(reason.into()));
    }

    /// [`Condition::NotDraining`] follows the drain and can't be set.
    fn set(&self, condition: Condition, met: bool, reason: Option<String>) {
        self.conditions.send_if_modified(|conditions| {
            let Some(status) = conditions.iter_mut().find(|status| status.name == condition) else { return false };
            if status.met != met {
                status.since = Timestamp::now();
                tracing::info!(condition = ?condition, met, reason = reason.as_deref(), "readiness changed");
            }
            let changed = status.met != met || status.reason != reason;
            (status.met, status.reason) = (met, reason);
            changed
        });
    }

    /// Sets what is held: how many messages and writes, and the oldest in words.
    pub fn set_held(&self, messages: u64, writes: u64, oldest: Vec<String>) {
        let report = (messages + writes > 0).then_some(HeldReport { messages, writes, oldest });
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// All conditions as they are now.
    #[must_use]
    pub fn report(&self) -> ReadinessReport {
        let mut conditions = self.conditions.borrow().clone();
        conditions.push(self.draining());
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ReadinessReport { ready: conditions.iter().all(|status| status.met), conditions, held }
    }

    fn draining(&self) -> ConditionStatus {
        let began_at = self.drain.began_at();
        ConditionStatus {
            name: Condition::NotDraining,
            met: began_at.is_none(),
            reason: began_at.map(|_| "draining: running work ends, nothing new is taken".into()),
            since: began_at.unwrap_or_else(|| self.drain.created_at()),
        }
    }

    /// Waits until `condition` holds (`met`) or doesn't; not for [`Condition::NotDraining`].
    pub async fn until(&self, condition: Condition, met: bool) {
        let is = |conditions: &Vec<ConditionStatus>| conditions.iter().any(|s| s.name == condition && s.met == met);
        // Fails only when every sender is gone, and `self` holds one.
        let _ = self.conditions.subscribe().wait_for(is).await;
    }

    /// Waits until every condition holds, or gives `false` when the drain begins first.
    pub async fn ready(&self) -> bool {
        let mut changes = self.conditions.subscribe();
        tokio::select! {
            all = changes.wait_for(|conditions| conditions.iter().all(|status| status.met)) => all.is_ok(),
            () = self.drain.token().cancelled() => false,
        }
    }
}
