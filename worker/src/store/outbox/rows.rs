//! The rows of the outbox as the relay reads them: in order, and marked once the broker has confirmed them. A dead
//! letter's row is removed then, since its body may hold what no table keeps.

use std::time::Duration;

use slipway_protocol::DeploymentId;
use uuid::Uuid;

use crate::message::Outgoing;
use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{duration, number};
use crate::store::outbox::relay_lease::RelayLease;
use crate::store::outbox::render::{MESSAGE_COLUMNS, messages};
use crate::store::{Result, Store, StoreError};

/// Messages of which none may overtake another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderingKey {
    /// A deployment's events.
    Events(DeploymentId),
    /// A message that no order binds, by its position: a dead letter, a replay.
    Alone(i64),
}

/// A message that waits to be published. What one step tells has one place in the outbox: its messages follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Its place; rows with one ordering key are in order.
    pub position: i64,
    /// What it belongs to.
    pub ordering_key: OrderingKey,
    /// Which deployment it's about.
    pub deployment: Option<DeploymentId>,
    /// How often it broke its channel: if at all, it's sent alone.
    pub breaks: u32,
    /// Whether the broker's returning it means that it has to be sent again.
    pub must_route: bool,
    /// What is published.
    pub message: Outgoing,
    /// Why its message can't be made of what is stored; then that is empty, and isn't sent.
    pub unreadable: Option<String>,
}

/// What a result counts for in a page, before it's read: they are seldom larger.
const RESULT_BYTES: i32 = 4096;

/// So many rows that wait are counted at most: who is told so many needs no exact number.
const COUNTED: i64 = 100_000;

/// What is read of the outbox at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutboxPage {
    /// The messages in the order of their positions, however many keys they have.
    pub rows: Vec<OutboxRow>,
    /// Whether more may wait.
    pub more: bool,
}

/// What became of a message that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishOutcome {
    /// Its place in the outbox.
    pub position: i64,
    /// Whether it reached a queue.
    pub routed: bool,
}

/// How much waits in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OutboxBacklog {
    /// How many messages, of the first rows that wait.
    pub depth: u64,
    /// How long the oldest has waited.
    pub oldest: Duration,
    /// How many more are aside, since the broker can't take them.
    pub set_aside: u64,
}

impl OutboxBacklog {
    /// Whether more may wait than were counted.
    #[must_use]
    pub fn may_be_more(&self) -> bool {
        i64::try_from(self.depth).is_ok_and(|depth| depth >= COUNTED)
    }
}

impl Store {
    /// Waiting messages in order, without those whose ordering key is in `held` and whose position is in `known`: those of at
    /// most `limit` rows, and no more once their bodies come to `bytes`; of one row at least, however large it is.
    ///
    /// There is no "after that position": positions are given before the commit, so that a row may become visible after
    /// one with a higher number, and of one deployment even the first after the second.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting_messages(
        &self,
        held: &[OrderingKey],
        known: &[i64],
        limit: u32,
        bytes: u32,
    ) -> Result<OutboxPage> {
        let (deployments, left_out) = left_out(held, known);
        deadline(async {
            let sql = format!("WITH {} SELECT {} ORDER BY position", waiting(), of_page());
            let client = self.client().await?;
            let rows = client.query(&sql, &[&deployments, &left_out, &i64::from(limit), &i64::from(bytes)]).await?;
            Ok(page(&rows, limit))
        })
        .await
    }

    /// [`Self::mark_published`] and [`Self::waiting_messages`] by one statement: `known` has to name what is marked, too.
    ///
    /// # Errors
    /// As those two.
    pub async fn mark_and_read(
        &self,
        lease: RelayLease,
        sent: &[PublishOutcome],
        held: &[OrderingKey],
        known: &[i64],
        limit: u32,
        bytes: u32,
    ) -> Result<OutboxPage> {
        let (deployments, left_out) = left_out(held, known);
        let (positions, unrouted) = positions(sent);
        deadline(async {
            let (marking, waiting, of_page) = (marking(Some("$7"), ["$5", "$6"]), waiting(), of_page());
            let sql = format!(
                "WITH {marking}, {waiting}, page AS (SELECT {of_page})
                 SELECT page.* FROM held LEFT JOIN page ON true ORDER BY position"
            );
            let rows = self
                .mark(
                    &sql,
                    &[
                        &deployments,
                        &left_out,
                        &i64::from(limit),
                        &i64::from(bytes),
                        &positions,
                        &unrouted,
                        &lease.fence,
                    ],
                )
                .await?;
            match rows.first() {
                None => Err(StoreError::LeaseLost),
                Some(row) if row.get::<_, Option<i64>>("position").is_none() => Ok(OutboxPage::default()),
                Some(_) => Ok(page(&rows, limit)),
            }
        })
        .await
    }

    /// Marks messages as published. A database that crashes right after it may have forgotten: then they're published again.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another process is the relay by now; then nothing was marked.
    pub async fn mark_published(&self, lease: RelayLease, sent: &[PublishOutcome]) -> Result<()> {
        let (positions, unrouted) = positions(sent);
        deadline(async {
            let sql = format!("WITH {} SELECT FROM held", marking(Some("$3"), ["$1", "$2"]));
            let held = self.mark(&sql, &[&positions, &unrouted, &lease.fence]).await?;
            held.first().map(drop).ok_or(StoreError::LeaseLost)
        })
        .await
    }

    /// How much waits to be published.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn backlog(&self) -> Result<OutboxBacklog> {
        deadline(async {
            let sql = format!(
                "SELECT coalesce(sum(coalesce(events, 1)), 0)::bigint,
                     coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8,
                     (SELECT count(*) FROM (SELECT FROM outbox WHERE set_aside_at IS NOT NULL AND published_at IS NULL
                         LIMIT {COUNTED}) aside)
                 FROM (SELECT events, created_at FROM outbox WHERE published_at IS NULL AND set_aside_at IS NULL
                       AND position NOT IN (SELECT position FROM held_marks) ORDER BY position LIMIT {COUNTED}) first"
            );
            let row = self.client().await?.query_one(&sql, &[]).await?;
            let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
            Ok(OutboxBacklog { depth: count(0), oldest: duration(row.get(1)), set_aside: count(2) })
        })
        .await
    }
}

/// The ordering keys and the positions that are left out of a page, as its statement names them.
fn left_out(held: &[OrderingKey], known: &[i64]) -> (Vec<Uuid>, Vec<i64>) {
    let (mut deployments, mut positions) = (Vec::new(), known.to_vec());
    for key in held {
        match key {
            OrderingKey::Events(id) => deployments.push(id.0),
            OrderingKey::Alone(position) => positions.push(*position),
        }
    }
    (deployments, positions)
}

/// The positions of what was sent, and of what reached no queue.
fn positions(sent: &[PublishOutcome]) -> (Vec<i64>, Vec<i64>) {
    let unrouted = sent.iter().filter(|s| !s.routed).map(|s| s.position).collect();
    (sent.iter().map(|s| s.position).collect(), unrouted)
}

/// The first $3 rows that wait, without what $1 and $2 name, and what is sent already and can't be marked: where they are, and how many bytes come before each.
fn waiting() -> String {
    format!(
        "waiting AS (
             SELECT ctid AS place, position, coalesce(octet_length(body), octet_length(told), {RESULT_BYTES}) AS size
             FROM outbox WHERE published_at IS NULL AND set_aside_at IS NULL
               AND position NOT IN (SELECT unnest($2::bigint[]) UNION ALL SELECT position FROM held_marks)
               AND (sequence IS NULL OR deployment_id NOT IN (SELECT unnest($1::uuid[])))
             ORDER BY position LIMIT $3),
         sized AS (
             SELECT place, count(*) OVER () AS waiting, sum(size) OVER (ORDER BY position) - size AS before FROM waiting)"
    )
}

/// What is read of those rows, up to $4 bytes.
fn of_page() -> String {
    format!(
        "position, waiting, breaks, must_route, {MESSAGE_COLUMNS}
         FROM sized JOIN outbox o ON o.ctid = sized.place LEFT JOIN deployments d ON d.id = o.deployment_id
         WHERE before < $4"
    )
}

/// What marks messages, given the names of the relay's fence, of their positions and of those that reached no queue; without a
/// fence it marks what has been sent for certain. It needn't be on the disk at once: what isn't marked is published again.
pub(super) fn marking(fence: Option<&str>, [positions, unrouted]: [&str; 2]) -> String {
    let of_lease = fence.map_or_else(String::new, |fence| format!("FROM relay_lease WHERE fence = {fence}"));
    format!(
        "held AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) {of_lease}),
         removed AS (
             DELETE FROM outbox WHERE position = ANY({positions}) AND published_at IS NULL AND sequence IS NULL
                 AND EXISTS (SELECT FROM held)),
         marked AS (
             UPDATE outbox SET published_at = now(), unrouted = position = ANY({unrouted})
             WHERE position = ANY({positions}) AND published_at IS NULL AND sequence IS NOT NULL
                 AND EXISTS (SELECT FROM held))"
    )
}

fn page(rows: &[tokio_postgres::Row], limit: u32) -> OutboxPage {
    let waiting = rows.first().map_or(0, |row| row.get::<_, i64>("waiting"));
    let more = waiting >= i64::from(limit) || usize::try_from(waiting).is_ok_and(|n| n > rows.len());
    OutboxPage { rows: rows.iter().flat_map(of_row).collect(), more }
}

fn of_row(row: &tokio_postgres::Row) -> Vec<OutboxRow> {
    let (position, deployment) = (row.get("position"), row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId));
    let sequence: Option<i64> = row.get("sequence");
    let ordering_key =
        deployment.filter(|_| sequence.is_some()).map_or(OrderingKey::Alone(position), OrderingKey::Events);
    let (messages, unreadable) = match messages(row) {
        Ok(messages) => (messages, None),
        Err(error) => (vec![Outgoing::default()], Some(error.to_string())),
    };
    let of_message = |message| OutboxRow {
        position,
        ordering_key,
        deployment,
        breaks: number(row, "breaks"),
        must_route: row.get("must_route"),
        message,
        unreadable: unreadable.clone(),
    };
    messages.into_iter().map(of_message).collect()
}
