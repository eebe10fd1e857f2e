//! Messages that the broker can't take: the relay puts them aside and goes on, and an operator sends them again or drops
//! them.

use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::DeploymentId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::number;
use crate::store::connection::wakeups;
use crate::store::outbox::relay_lease::RelayLease;
use crate::store::outbox::render::{MESSAGE_COLUMNS, messages};
use crate::store::{Result, Store, StoreError};

/// How often a message may break its channel before it's put aside.
pub(crate) const MAX_BREAKS: u32 = 3;

/// A message that the broker can't take, or may not be able to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlamedMessage {
    /// Its place in the outbox.
    pub position: i64,
    /// What the broker or the client said.
    pub reason: String,
    /// Whether trying again is of no use.
    pub hopeless: bool,
}

/// A message that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAsideMessage {
    /// Its place in the outbox, by which it's named.
    pub position: i64,
    /// Which deployment it's about.
    pub deployment: Option<DeploymentId>,
    /// Its number among the events of that deployment; none: a dead letter or a replay.
    pub sequence: Option<i64>,
    /// How many events go with it, from that number on: a step tells up to two, and some lines.
    pub events: u64,
    /// The type of the event.
    pub event_type: String,
    /// Property `message-id`; of several events, of the first, as all that follows but for the body.
    pub message_id: String,
    /// Where it was to go.
    pub exchange: String,
    /// By which routing key.
    pub routing_key: String,
    /// The longest body's length.
    pub body_bytes: u64,
    /// The length of headers and their names.
    pub header_bytes: u64,
    /// How often it was tried.
    pub breaks: u64,
    /// Since when it's aside.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
}

impl Store {
    /// Counts against messages that they broke their channel; gives the positions of those that are aside from now on:
    /// hopeless ones, and those that have done so `MAX_BREAKS` times.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another process is the relay by now; then nothing was written.
    pub async fn blame_messages(&self, lease: RelayLease, blamed: &[BlamedMessage]) -> Result<Vec<i64>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let held = "SELECT 1 FROM relay_lease WHERE fence = $1 FOR SHARE";
            if tx.query_opt(held, &[&lease.fence]).await?.is_none() {
                return Err(StoreError::LeaseLost);
            }
            let mut aside = Vec::new();
            for BlamedMessage { position, reason, hopeless } in blamed {
                let row = tx
                    .query_opt(
                        "UPDATE outbox SET breaks = breaks + 1, set_aside_because = $2,
                             set_aside_at = CASE WHEN $3 OR breaks + 1 >= $4 THEN now() END
                         WHERE position = $1 AND published_at IS NULL RETURNING set_aside_at IS NOT NULL",
                        &[
                            position,
                            &reason.replace('\0', ""),
                            hopeless,
                            &i32::try_from(MAX_BREAKS).unwrap_or(i32::MAX),
                        ],
                    )
                    .await?;
                aside.extend(row.filter(|row| row.get(0)).map(|_| *position));
            }
            commit(tx, TransactionKind::MarkPublished).await?;
            Ok(aside)
        })
        .await
    }

    /// Messages that are aside, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_aside_messages(&self, limit: u32) -> Result<Vec<SetAsideMessage>> {
        deadline(async {
            let sql = format!(
                "SELECT o.position, o.breaks, o.set_aside_at, coalesce(o.set_aside_because, '') AS reason,
                     octet_length(o.headers::text)::bigint AS header_bytes, {MESSAGE_COLUMNS}
                 FROM outbox o LEFT JOIN deployments d ON d.id = o.deployment_id
                 WHERE o.set_aside_at IS NOT NULL AND o.published_at IS NULL ORDER BY o.position LIMIT $1"
            );
            let rows = self.client().await?.query(&sql, &[&i64::from(limit)]).await?;
            Ok(rows.iter().map(set_aside).collect())
        })
        .await
    }

    /// Lets the relay send a message again that is aside, or was sent and couldn't be marked; false when there is none at this
    /// position.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resend_set_aside(&self, position: i64, operator: &Operator) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let sql = "UPDATE outbox SET set_aside_at = NULL, breaks = 0
                       WHERE position = $1 AND set_aside_at IS NOT NULL AND published_at IS NULL";
            let held = "DELETE FROM held_marks WHERE position = $1";
            if tx.execute(sql, &[&position]).await? + tx.execute(held, &[&position]).await? == 0 {
                return Ok(false);
            }
            tx.execute("SELECT pg_notify($1, '')", &[&wakeups::OUTBOX]).await?;
            record(&tx, OperatorAction::ResendMessage, &position.to_string(), operator, &json!({})).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(true)
        })
        .await
    }

    /// Gives up a message that is aside; false when there is none at this position. Who did it stays in its row. What
    /// isn't an event loses its body, as it does when it's published.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_set_aside(&self, position: i64, operator: &Operator) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let why = operator.why.as_deref().unwrap_or("no reason given");
            let dropped = format!("; dropped by {}: {why}", operator.who);
            let sql = "UPDATE outbox SET published_at = now(), unrouted = true,
                           set_aside_because = concat(set_aside_because, $2::text),
                           body = CASE WHEN sequence IS NULL THEN ''::bytea ELSE body END
                       WHERE position = $1 AND set_aside_at IS NOT NULL AND published_at IS NULL
                       RETURNING deployment_id, type, message_id";
            let Some(row) = tx.query_opt(sql, &[&position, &dropped]).await? else { return Ok(false) };
            let (kind, message_id) = (row.get::<_, String>("type"), row.get::<_, Option<String>>("message_id"));
            let deployment = row.get::<_, Option<Uuid>>("deployment_id");
            let details = json!({ "type": kind, "message_id": message_id, "deployment_id": deployment });
            record(&tx, OperatorAction::DropMessage, &position.to_string(), operator, &details).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(true)
        })
        .await
    }
}

fn set_aside(row: &Row) -> SetAsideMessage {
    // One that can't be made of what is stored is listed all the same.
    let messages = messages(row).unwrap_or_default();
    let (events, body_bytes) = (messages.len().max(1), messages.iter().map(|message| message.body.len()).max());
    let message = messages.into_iter().next().unwrap_or_default();
    SetAsideMessage {
        position: row.get("position"),
        deployment: row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId),
        sequence: row.get("sequence"),
        events: u64::try_from(events).unwrap_or(u64::MAX),
        event_type: row.get("type"),
        message_id: message.message_id,
        exchange: message.exchange,
        routing_key: message.routing_key,
        body_bytes: body_bytes.and_then(|length| u64::try_from(length).ok()).unwrap_or_default(),
        header_bytes: u64::try_from(row.get::<_, i64>("header_bytes")).unwrap_or_default(),
        breaks: u64::from(number(row, "breaks")),
        since: row.get("set_aside_at"),
        reason: row.get("reason"),
    }
}
