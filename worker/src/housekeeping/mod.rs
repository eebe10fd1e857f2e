//! Prunes what is older than it's kept for, in the database and in the queue of dead letters. Any worker may do it, one at a
//! time; what is pruned how is in `crate::store` (`retention`).

mod dead_letter_queue;
mod error;
mod pace;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::amqp::{BrokerConnection, BrokerEndpoints};
use crate::process::Drain;
use crate::store::{DELIVERY_RETENTION, NOTIFICATION_RETENTION, OldRows, Retention, Store, StoreError, WalkPosition};
use dead_letter_queue::DeadLetterQueue;
use error::ChoreError;
use pace::Pace;
pub(crate) use pace::TARGET;

/// How often it's asked whether there is something to do.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(600);
/// From the end of one pass to the next one.
pub(crate) const PASS_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// From a pass that failed to the next one.
const AFTER_FAILURE: Duration = Duration::from_secs(1800);
/// How often a pass looks whether missing indexes are there.
const INDEX_POLL: Duration = Duration::from_secs(5);
/// So long after a worker fell silent another one goes on.
pub(crate) const CHORE_LEASE: Duration = Duration::from_secs(120);
/// The chore that waits for missing indexes.
const INDEXES: &str = "indexes";
/// The walk over the deployments.
const DEPLOYMENTS: &str = "deployments";
/// The queue of dead letters.
const QUEUE: &str = "queue of dead letters";

/// Prunes until the drain begins.
pub struct Housekeeping {
    /// What is pruned.
    pub store: Store,
    /// The broker with the queue of dead letters.
    pub broker: BrokerEndpoints,
    /// What is kept for how long.
    pub retention: Retention,
    /// Ends it between two batches.
    pub drain: Drain,
}

impl Housekeeping {
    /// Works until the drain begins.
    pub async fn run(self) {
        // Neither holds up the other: an index may wait for hours for somebody's transaction.
        tokio::join!(self.keep_indexes(), self.prune_regularly());
    }

    /// After an upgrade of a large database some are missing.
    async fn keep_indexes(&self) {
        loop {
            tokio::select! {
                () = self.drain.token().cancelled() => return,
                made = self.store.make_indexes() => if let Err(error) = made {
                    tracing::warn!(%error, "indexes can't be made; some commands are slow until they are");
                }
            }
            tokio::select! {
                () = self.drain.token().cancelled() => return,
                () = tokio::time::sleep(HOUSEKEEPING_INTERVAL) => {}
            }
        }
    }

    async fn prune_regularly(&self) {
        loop {
            tokio::select! {
                () = self.drain.token().cancelled() => return,
                () = tokio::time::sleep(HOUSEKEEPING_INTERVAL) => {}
            }
            match self.store.take_chores(CHORE_LEASE).await {
                Ok(false) => {}
                Ok(true) => self.pass().await,
                Err(error) => tracing::warn!(%error, "nothing can be pruned for now"),
            }
        }
    }

    /// One pass over everything, after the chores were taken.
    pub async fn pass(&self) {
        let mut pause = PASS_PAUSE;
        let begun = Instant::now();
        let mut last_begun = begun;
        for chore in
            std::iter::once(INDEXES).chain([DEPLOYMENTS]).chain(OldRows::ALL.map(OldRows::as_str)).chain([QUEUE])
        {
            last_begun = Instant::now();
            match self.carry_out(chore).await {
                Ok(0) => {}
                Ok(changed) => tracing::info!(chore, changed, "what was too old is removed"),
                Err(ChoreError::Drained | ChoreError::Lost) => {
                    pause = Duration::ZERO;
                    break;
                }
                Err(error) => {
                    pause = AFTER_FAILURE;
                    let problem = match &error {
                        ChoreError::Database(error) => error.summary(),
                        other => other.to_string(),
                    };
                    tracing::warn!(chore, problem, "a chore failed, and goes on later");
                    if let Err(error) = self.note_problem(chore, &problem).await {
                        tracing::warn!(%error, "its problem couldn't be written down");
                    }
                }
            }
        }
        tracing::debug!(seconds = begun.elapsed().as_secs(), "housekeeping has ended");
        // The other chores don't wait for the queue, which comes last and may take hours.
        if let Err(error) = self.store.release_chores(pause.saturating_sub(last_begun.elapsed())).await {
            tracing::debug!(%error, "the chores couldn't be given back; their lease expires");
        }
    }

    async fn note_problem(&self, chore: &str, problem: &str) -> Result<(), StoreError> {
        let position = self.store.chore_position(chore).await?;
        self.store.note_chore(chore, 0, position.as_ref(), Some(problem)).await
    }

    async fn carry_out(&self, chore: &'static str) -> Result<u64, ChoreError> {
        self.go_on().await?;
        match chore {
            INDEXES => self.await_indexes().await,
            DEPLOYMENTS => self.walk().await,
            QUEUE => {
                let link = self.broker.connect("trim").await?;
                let trimmed = self.trim(&link).await;
                link.close().await;
                trimmed
            }
            name => match OldRows::ALL.into_iter().find(|rows| rows.as_str() == name) {
                Some(rows) => self.prune(rows).await,
                None => Ok(0),
            },
        }
    }

    /// Waits for indexes that are just being made, but not for ever: without one, pruning is slow, and as right.
    async fn await_indexes(&self) -> Result<u64, ChoreError> {
        let (begun, mut awaited) = (Instant::now(), 0);
        loop {
            let missing = self.store.missing_indexes().await?;
            if missing.is_empty() {
                self.store.note_chore(INDEXES, awaited, None, None).await?;
                return Ok(awaited);
            }
            if begun.elapsed() >= HOUSEKEEPING_INTERVAL {
                return Err(ChoreError::NoIndexes(missing.join(", ")));
            }
            awaited = awaited.max(missing.len() as u64);
            self.rest(INDEX_POLL).await?;
        }
    }

    /// Trims the queue of dead letters until what is left is young, or until the other chores are due again.
    async fn trim(&self, link: &BrokerConnection) -> Result<u64, ChoreError> {
        let mut queue = DeadLetterQueue::open(link).await?;
        let (all_begun, mut pace, mut trimmed) = (Instant::now(), Pace::new(), 0);
        loop {
            let begun = Instant::now();
            let (batch, more) = queue.trim(&self.store, &self.retention, pace.limit()).await?;
            let took = begun.elapsed();
            trimmed += batch;
            self.store.note_chore(QUEUE, batch, more.then_some(&Value::Bool(true)), None).await?;
            if !more || all_begun.elapsed() >= PASS_PAUSE {
                return Ok(trimmed);
            }
            self.rest(pace.after(took)).await?;
        }
    }

    async fn walk(&self) -> Result<u64, ChoreError> {
        let stored = self.store.chore_position(DEPLOYMENTS).await?;
        let mut from: WalkPosition = stored.and_then(|at| serde_json::from_value(at).ok()).unwrap_or_default();
        let (mut pace, mut changed) = (Pace::new(), 0);
        loop {
            let begun = Instant::now();
            let step = self.store.prune_deployments(&self.retention, &from, pace.limit()).await?;
            let took = begun.elapsed();
            changed += step.changed;
            let position = step.next.as_ref().and_then(|next| serde_json::to_value(next).ok());
            self.store.note_chore(DEPLOYMENTS, step.changed, position.as_ref(), None).await?;
            let Some(next) = step.next else { return Ok(changed) };
            from = next;
            self.rest(pace.after(took)).await?;
        }
    }

    async fn prune(&self, rows: OldRows) -> Result<u64, ChoreError> {
        let (age, mut pace, mut changed) = (self.age(rows), Pace::new(), 0);
        loop {
            let (begun, limit) = (Instant::now(), pace.limit());
            let batch = self.store.prune_old(rows, age, limit).await?;
            let took = begun.elapsed();
            changed += batch;
            let more = batch >= u64::from(limit);
            self.store.note_chore(rows.as_str(), batch, more.then_some(&Value::Bool(true)), None).await?;
            if !more {
                return Ok(changed);
            }
            self.rest(pace.after(took)).await?;
        }
    }

    fn age(&self, rows: OldRows) -> Duration {
        let keep = &self.retention;
        match rows {
            OldRows::Events => keep.events,
            OldRows::DeadLetters => keep.dead_letters,
            OldRows::DeadLetterBodies => keep.secrets,
            OldRows::Audit | OldRows::Cancellations | OldRows::SourceRules | OldRows::Allowances => keep.audit,
            OldRows::Ids => keep.ids,
            OldRows::GithubDigests | OldRows::Halves => keep.deployments,
            OldRows::Untold => keep.journal,
            OldRows::Notifications => NOTIFICATION_RETENTION,
            OldRows::Webhooks => DELIVERY_RETENTION,
        }
    }

    /// Leaves the database to others for a while.
    async fn rest(&self, pause: Duration) -> Result<(), ChoreError> {
        tokio::select! {
            () = self.drain.token().cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        self.go_on().await
    }

    async fn go_on(&self) -> Result<(), ChoreError> {
        if self.drain.has_begun() {
            return Err(ChoreError::Drained);
        }
        self.store.keep_chores(CHORE_LEASE).await?.then_some(()).ok_or(ChoreError::Lost)
    }
}
