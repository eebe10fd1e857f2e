//! How the outbox flows to the broker: what is new is read, and what is confirmed is marked, while other messages are under
//! way. No key waits for another one's confirms, and none for a mark. How a key's messages are sent is in `batch`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::batch::{Ended, RelayError, batch_span, by_key, note, record, send_alone, send_in_order};
use super::delayed::DelayedKeys;
use super::marks::UnmarkableKeys;
use super::wanted_page::{BYTES, WantedPage};
use crate::amqp::{AmqpError, Publisher};
use crate::store::{OrderingKey, OutboxPage, OutboxRow, RelayLease, Store, StoreError, Wakeups};

/// The most messages in memory before more are read.
const ENOUGH: usize = 400;
/// While there is something to send, the database isn't asked more often: what comes meanwhile is read, and what is confirmed
/// meanwhile is marked, by one statement.
const PACE: Duration = Duration::from_millis(5);
/// How long messages are sent before the relay looks at anything else, while many wait.
const SEND_WINDOW: Duration = Duration::from_secs(2);

/// Sends what waits, for at most [`SEND_WINDOW`] and until it's confirmed and marked; false when more may wait. Without
/// `wakeups` nothing is waited for that isn't there yet.
pub(super) async fn send_waiting(
    store: &Store,
    publishers: &[Publisher],
    lease: RelayLease,
    (delayed, unmarkable): (&mut DelayedKeys, &UnmarkableKeys),
    wakeups: Option<&Wakeups>,
) -> Result<bool, RelayError> {
    let started_at = Instant::now();
    let mut flow = Flow::over(publishers);
    let (mut look, mut has_suspects, mut next_ask) = (true, false, started_at);
    let (mut unread, mut unmarked) = (None::<StoreError>, None::<StoreError>);
    let mut asked: FuturesUnordered<BoxFuture<'_, Answer>> = FuturesUnordered::new();
    let woken = wake(wakeups);
    tokio::pin!(woken);
    loop {
        let has_failed = unread.is_some() || unmarked.is_some() || flow.broken.is_some();
        flow.closes = has_failed || has_suspects || started_at.elapsed() >= SEND_WINDOW;
        let (reads, marks) = (look && !flow.closes && flow.has_room(), !flow.ended.is_empty() && unmarked.is_none());
        let may_ask = asked.is_empty() && (reads || marks);
        if may_ask && Instant::now() >= next_ask {
            next_ask = Instant::now() + PACE;
            let wanted = reads.then(|| flow.wanted(delayed));
            look &= !reads;
            let ended = if marks { std::mem::take(&mut flow.ended) } else { Vec::new() };
            asked.push(ask(store, lease, ended, wanted, unmarkable).boxed());
        }
        if asked.is_empty() && flow.under_way.is_empty() && !may_ask {
            break;
        }
        tokio::select! {
            Some(ended) = flow.under_way.next() => flow.end(ended, delayed),
            Some((marked, page)) = asked.next() => {
                match marked {
                    Ok(positions) => flow.forget(positions),
                    Err(error) => unmarked = Some(error),
                }
                match page {
                    Ok(OutboxPage { rows, more }) => {
                        look |= more;
                        has_suspects |= rows.iter().any(|row| row.breaks > 0);
                        if !has_suspects && !has_failed {
                            flow.take(rows, delayed);
                        }
                    }
                    Err(error) => unread = Some(error),
                }
            }
            () = &mut woken, if !flow.closes => {
                look = true;
                woken.set(wake(wakeups));
            }
            () = tokio::time::sleep_until(next_ask), if may_ask => {}
        }
    }
    // A broken channel isn't used again, whatever else has failed.
    if let Some(error) = flow.broken {
        return Err(error.into());
    }
    if let Some(error) = unmarked.or(unread) {
        return Err(error.into());
    }
    if has_suspects {
        let rows = flow.wanted(delayed).read(store, lease, &[]).await?.rows;
        let span = batch_span(&rows);
        send_alone(store, publishers, lease, rows, delayed, unmarkable).instrument(span).await?;
    }
    Ok(!look && !has_suspects && !flow.left)
}

async fn wake(wakeups: Option<&Wakeups>) {
    match wakeups {
        Some(wakeups) => wakeups.outbox().await,
        None => std::future::pending().await,
    }
}

/// What the database has answered: the places in the outbox that are marked, and what was read.
type Answer = (Result<Vec<i64>, StoreError>, Result<OutboxPage, StoreError>);

async fn ask(
    store: &Store,
    lease: RelayLease,
    ended: Vec<Ended>,
    wanted: Option<WantedPage>,
    unmarkable: &UnmarkableKeys,
) -> Answer {
    let positions = ended.iter().flat_map(|(_, outcome)| outcome.positions()).collect();
    match record(store, lease, ended, wanted.as_ref(), unmarkable).await {
        Ok(page) => (Ok(positions), page),
        Err(error) => (Err(error), Ok(OutboxPage::default())),
    }
}

/// The messages in memory.
struct Flow<'a> {
    publishers: &'a [Publisher],
    next: usize,
    under_way: FuturesUnordered<BoxFuture<'a, Ended>>,
    /// The keys of those, and what follows of each.
    following: HashMap<OrderingKey, Vec<OutboxRow>>,
    /// Keys that were stopped since the outbox was asked last: its answer may leave out what comes before.
    stopped: HashSet<OrderingKey>,
    ended: Vec<Ended>,
    /// The places in the outbox of all of them.
    known: HashSet<i64>,
    rows: usize,
    bytes: usize,
    broken: Option<AmqpError>,
    /// Nothing more is begun; whether something was left for the next time.
    closes: bool,
    left: bool,
}

impl<'a> Flow<'a> {
    fn over(publishers: &'a [Publisher]) -> Self {
        Self {
            publishers,
            next: 0,
            under_way: FuturesUnordered::new(),
            following: HashMap::new(),
            stopped: HashSet::new(),
            ended: Vec::new(),
            known: HashSet::new(),
            rows: 0,
            bytes: 0,
            broken: None,
            closes: false,
            left: false,
        }
    }

    fn has_room(&self) -> bool {
        self.rows < ENOUGH && self.bytes < BYTES && self.known.len() < 2 * ENOUGH
    }

    fn positions(&self) -> Vec<i64> {
        self.known.iter().copied().collect()
    }

    /// All that isn't in memory, and isn't to wait.
    fn wanted(&mut self, delayed: &DelayedKeys) -> WantedPage {
        self.stopped.clear();
        WantedPage { held: delayed.waiting(), known: self.positions(), bytes: self.bytes }
    }

    /// Sends the messages; one whose key is under way follows.
    fn take(&mut self, mut rows: Vec<OutboxRow>, delayed: &DelayedKeys) {
        rows.retain(|row| !self.stopped.contains(&row.ordering_key));
        if rows.is_empty() {
            return;
        }
        let span = batch_span(&rows);
        self.known.extend(rows.iter().map(|row| row.position));
        self.rows += rows.len();
        self.bytes += size(&rows);
        for (key, group) in by_key(rows) {
            match self.following.get_mut(&key) {
                Some(following) => following.extend(group),
                None => self.send(key, group, delayed, &span),
            }
        }
    }

    fn send(&mut self, key: OrderingKey, group: Vec<OutboxRow>, delayed: &DelayedKeys, span: &Span) {
        let Some(publisher) = self.publishers.get(self.next) else { return };
        self.next = (self.next + 1) % self.publishers.len();
        self.following.insert(key, Vec::new());
        let confirmed = delayed.confirmed_of(&group);
        let sent = send_in_order(publisher, group, confirmed);
        self.under_way.push(sent.instrument(span.clone()).boxed());
    }

    /// What follows is sent, unless something before it wasn't taken: then all from there on is read again.
    fn end(&mut self, mut ended: Ended, delayed: &mut DelayedKeys) {
        let taken = ended.1.taken(&ended.0);
        self.lessen(&ended.0);
        if let Some(error) = note(&mut ended, delayed) {
            self.broken.get_or_insert(error);
        }
        // What is left of it says whom it was about.
        ended.0.iter_mut().for_each(|row| row.message.body = Vec::new());
        let Some(key) = ended.0.first().map(|row| row.ordering_key) else { return };
        let following = self.following.remove(&key).unwrap_or_default();
        let was_taken = taken == ended.0.len();
        if was_taken && !self.closes && !following.is_empty() {
            self.send(key, following, delayed, &Span::current());
        } else if !was_taken || !following.is_empty() {
            self.left |= was_taken;
            self.stopped.insert(key);
            self.lessen(&following);
            self.forget(ended.0[taken..].iter().chain(&following).map(|row| row.position));
        }
        self.ended.push(ended);
    }

    fn lessen(&mut self, rows: &[OutboxRow]) {
        self.rows = self.rows.saturating_sub(rows.len());
        self.bytes = self.bytes.saturating_sub(size(rows));
    }

    fn forget(&mut self, positions: impl IntoIterator<Item = i64>) {
        for position in positions {
            self.known.remove(&position);
        }
    }
}

fn size(rows: &[OutboxRow]) -> usize {
    rows.iter().map(|row| row.message.body.len()).sum()
}

#[cfg(test)]
mod tests {
    use slipway_protocol::DeploymentId;

    use super::super::batch::SendOutcome;
    use super::*;
    use crate::message::Outgoing;

    const KEY: OrderingKey = OrderingKey::Events(DeploymentId(uuid::Uuid::nil()));

    fn rows(positions: &[i64]) -> Vec<OutboxRow> {
        let row = |position: &i64| OutboxRow {
            position: *position,
            ordering_key: KEY,
            deployment: None,
            breaks: 0,
            must_route: false,
            message: Outgoing::default(),
            unreadable: None,
        };
        positions.iter().map(row).collect()
    }

    #[test]
    fn what_follows_a_refused_message_is_read_again_and_not_sent_before_it() {
        let (mut flow, mut delayed) = (Flow::over(&[]), DelayedKeys::default());
        flow.following.insert(KEY, rows(&[3, 4]));
        (flow.known, flow.rows) = ([1, 2, 3, 4].into(), 4);
        flow.end((rows(&[1, 2]), SendOutcome::refused_at(1, &[1])), &mut delayed);
        assert_eq!((flow.positions(), flow.rows), (vec![1], 0), "all but what was sent is forgotten");
        flow.take(rows(&[5]), &delayed);
        assert_eq!(flow.positions(), [1], "an answer to what was asked before leaves out what comes first");
        flow.stopped.clear();
        flow.take(rows(&[2, 3, 4, 5]), &delayed);
        assert_eq!((flow.known.len(), flow.rows), (5, 4));
    }

    #[test]
    fn what_follows_at_the_end_of_a_window_is_left_for_the_next_one() {
        let (mut flow, mut delayed) = (Flow::over(&[]), DelayedKeys::default());
        flow.following.insert(KEY, rows(&[2]));
        (flow.known, flow.rows, flow.closes) = ([1, 2].into(), 2, true);
        flow.end((rows(&[1]), SendOutcome::default()), &mut delayed);
        assert_eq!((flow.positions(), flow.rows, flow.left), (vec![1], 0, true));
        flow.take(rows(&[3]), &delayed);
        assert_eq!(flow.positions(), [1], "nothing overtakes it");
        flow.following.insert(KEY, Vec::new());
        (flow.stopped, flow.left) = (HashSet::new(), false);
        flow.end((rows(&[4]), SendOutcome::default()), &mut delayed);
        assert!(!flow.left && flow.stopped.is_empty(), "nothing follows");
    }
}
