//! Marks what was sent. Where the database fails at some of it, that is found and held, and the rest is marked: to send it all
//! again would tell everybody of everything again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use slipway_protocol::DeploymentId;
use tokio::time::Instant;

use crate::store::{HELD_RETRIES, OrderingKey, PublishOutcome, RelayLease, Store, StoreError};

/// After so many failures, one after the other, it isn't known whose they are: the rest isn't tried.
const FAILURES: usize = 3;

/// What was sent of an ordering key.
pub(super) type Sent = (OrderingKey, PublishOutcome);

/// Ordering keys of which something couldn't be marked: what follows of them is held at once, and marked beside the others.
#[derive(Clone, Default)]
pub(super) struct UnmarkableKeys(Arc<Mutex<HashMap<OrderingKey, Unmarkable>>>);

/// Until when that is so, and why.
type Unmarkable = (Instant, Arc<StoreError>);

/// What was sent of such a key.
type Theirs = (OrderingKey, PublishOutcome, Arc<StoreError>);

impl UnmarkableKeys {
    /// Holds what is of these; gives the rest, which is to be marked.
    pub(super) async fn hold_theirs(&self, store: &Store, sent: Vec<Sent>) -> Result<Vec<Sent>, StoreError> {
        let (theirs, mut rest) = self.part(sent);
        for (key, outcome, error) in theirs {
            if !store.hold_marks(&[outcome], deployment_of(key), &error, true).await? {
                // All that was held of it is marked by now.
                self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                rest.push((key, outcome));
            }
        }
        Ok(rest)
    }

    fn part(&self, sent: Vec<Sent>) -> (Vec<Theirs>, Vec<Sent>) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_empty() {
            return (Vec::new(), sent);
        }
        let now = Instant::now();
        keys.retain(|_, (until, _)| *until > now);
        let (mut theirs, mut rest) = (Vec::new(), Vec::new());
        for (key, outcome) in sent {
            match keys.get(&key) {
                Some((_, error)) => theirs.push((key, outcome, error.clone())),
                None => rest.push((key, outcome)),
            }
        }
        (theirs, rest)
    }

    fn insert(&self, key: OrderingKey, error: Arc<StoreError>) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key, (Instant::now() + HELD_RETRIES.max, error));
    }
}

/// What was sent, without whom it's of.
pub(super) fn outcomes(sent: &[Sent]) -> Vec<PublishOutcome> {
    sent.iter().map(|(_, outcome)| *outcome).collect()
}

/// Marks what was sent of each key for itself, since that failed for all together, and holds what can't be marked.
pub(super) async fn mark_each(
    store: &Store,
    lease: RelayLease,
    sent: Vec<Sent>,
    unmarkable: &UnmarkableKeys,
) -> Result<(), StoreError> {
    let mut groups: HashMap<OrderingKey, Vec<PublishOutcome>> = HashMap::new();
    for (key, outcome) in sent {
        groups.entry(key).or_default().push(outcome);
    }
    let (mut failed, mut last) = (0, None::<Arc<StoreError>>);
    for (key, outcomes) in groups {
        let error = match &last {
            Some(error) if failed >= FAILURES => error.clone(),
            _ => match store.mark_published(lease, &outcomes).await {
                Ok(()) => {
                    failed = 0;
                    continue;
                }
                Err(error) if error.fails_at_any() || matches!(error, StoreError::LeaseLost) => return Err(error),
                Err(error) => Arc::new(error),
            },
        };
        let deployment = deployment_of(key);
        store.hold_marks(&outcomes, deployment, &error, false).await?;
        let positions: Vec<i64> = outcomes.iter().map(|sent| sent.position).collect();
        tracing::error!(
            deployment.id = deployment.map(|id| id.to_string()),
            ?positions,
            reason = error.summary(),
            "messages were sent and can't be marked as published: they are held, and others go on"
        );
        // What wasn't tried may be well.
        if failed < FAILURES {
            unmarkable.insert(key, error.clone());
            failed += 1;
        }
        last = Some(error);
    }
    Ok(())
}

fn deployment_of(key: OrderingKey) -> Option<DeploymentId> {
    match key {
        OrderingKey::Events(id) => Some(id),
        OrderingKey::Alone(_) => None,
    }
}
