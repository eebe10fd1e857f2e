//! Replaying dead letters: their messages are put into the outbox in the transaction of their new state, and the worker
//! that accepts one finds here what it resumes. A body never leaves the database on this way.

use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::{CONTENT_TYPE, DeploymentId, EventType, Request, topology};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::message::Outgoing;
use crate::scheduler::{Contender, Order};
use crate::store::audit::{Operator, OperatorAction, record_letters};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::wakeups;
use crate::store::dead_letter::list::{DeadLetterFilter, FILTER_CONDITION, StatementParameter};
use crate::store::dead_letter::replay_plan::{VERDICT_CASE, joined_with_newer};
use crate::store::outbox::enqueue::enqueue;
use crate::store::{Result, Store};

/// What a replay is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replay {
    /// Every stage is run again, also those that are done.
    pub from_start: bool,
    /// Also when a newer deployment of the project is here, and then it counts as the newest.
    pub force: bool,
}

/// A dead letter that was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentReplay {
    /// The dead letter.
    pub id: Uuid,
    /// When it failed last.
    pub failed_at: Timestamp,
    /// The replay's id.
    pub replay: Uuid,
    /// The deployment that it asks for; `None` when the message's ids couldn't be read.
    pub deployment: Option<DeploymentId>,
}

/// So many letters are looked at together, at least: most can be sent.
const LOOKED_AT: u32 = 100;

impl Store {
    /// Replays the dead letters that match and can be replayed, those that failed first before others, at most `limit`:
    /// their state, their messages and the record are one transaction. When two callers ask at once, each dead letter is
    /// sent once. When nothing was sent, nothing that is meant can be.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn replay_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        replay: Replay,
        operator: &Operator,
        limit: u32,
    ) -> Result<Vec<SentReplay>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut filter = filter.clone();
        loop {
            let (sent, next) = self.replay_page(&filter, replay, operator, limit).await?;
            if next.is_none() || !sent.is_empty() {
                return Ok(sent);
            }
            filter.after = next;
        }
    }

    /// What was sent of a page, and the page's last letter if there may be more behind it.
    async fn replay_page(
        &self,
        filter: &DeadLetterFilter,
        replay: Replay,
        operator: &Operator,
        limit: u32,
    ) -> Result<(Vec<SentReplay>, Option<(Timestamp, Uuid)>)> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            tx.plan_by_values().await?;
            let page = limit.max(LOOKED_AT);
            let rows = send_batch(&tx, filter, replay, limit, page).await?;
            let is_full = u32::try_from(rows.len()).is_ok_and(|looked_at| looked_at >= page);
            let last = rows.last().filter(|_| is_full).map(|row| (row.get("last_failed_at"), row.get("id")));
            let sent: Vec<SentReplay> = rows.iter().filter_map(replayed_row).collect();
            for SentReplay { id, replay: replay_id, .. } in &sent {
                let Replay { from_start, force } = replay;
                let details = json!({ "replay_id": replay_id, "from_start": from_start, "forced": force });
                record_letters(&tx, &[*id], OperatorAction::ReplayDeadLetter, operator, &details).await?;
            }
            if !sent.is_empty() {
                tx.execute("SELECT pg_notify($1, '')", &[&wakeups::OUTBOX]).await?;
            }
            commit(tx, TransactionKind::Replay).await?;
            Ok((sent, last))
        })
        .await
    }

    /// Sends an edited dead letter as the new event that `request` was read from; false when it isn't open any more, or
    /// when a newer deployment is here and it isn't forced.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn replay_edited(
        &self,
        id: Uuid,
        request: &Request,
        body: Vec<u8>,
        force: bool,
        operator: &Operator,
    ) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let joined_with_newer = joined_with_newer();
            let sql = format!(
                "WITH picked AS (SELECT l.id FROM {joined_with_newer} WHERE l.id = $1 AND l.state = 'open' AND ($2 OR n.id IS NULL)
                                 FOR UPDATE OF l)
                 UPDATE dead_letters l SET state = 'replayed', replayed_as = $3, replay_from_start = true,
                     replay_forced = $2, updated_at = now()
                 FROM picked WHERE l.id = picked.id"
            );
            let event = &request.event;
            if tx.execute(&sql, &[&id, &force, &event.id.parse::<Uuid>().ok()]).await? == 0 {
                return Ok(false);
            }
            let message = Outgoing {
                exchange: topology::REQUESTS.to_owned(),
                routing_key: event.event_type.clone(),
                message_id: event.id.clone(),
                event_type: event.event_type.clone(),
                content_type: Some(CONTENT_TYPE.to_owned()),
                body,
                ..Outgoing::default()
            };
            enqueue(&tx, None, &message, event.traceparent.clone(), true).await?;
            let details = json!({ "event_id": event.id, "deployment_id": request.deployment_id(), "forced": force });
            record_letters(&tx, &[id], OperatorAction::EditDeadLetter, operator, &details).await?;
            commit(tx, TransactionKind::Replay).await?;
            Ok(true)
        })
        .await
    }
}

/// The one statement of a batch: the letters of a page, of which some are sent.
async fn send_batch(
    tx: &StoreTransaction<'_>,
    filter: &DeadLetterFilter,
    replay: Replay,
    limit: u32,
    page: u32,
) -> Result<Vec<Row>> {
    let joined_with_newer = joined_with_newer();
    let sql = format!(
        "WITH page AS MATERIALIZED (
             SELECT l.id, l.last_failed_at FROM dead_letters l WHERE {FILTER_CONDITION} AND l.state = 'open'
             ORDER BY l.last_failed_at, l.id LIMIT $20),
         picked AS (
             SELECT l.id FROM {joined_with_newer} WHERE l.id = ANY(ARRAY(SELECT id FROM page)) AND l.state = 'open'
               AND ({VERDICT_CASE} = 'ready' OR ($14 AND {VERDICT_CASE} = 'superseded'))
             ORDER BY l.last_failed_at, l.id LIMIT $15 FOR UPDATE OF l),
         moved AS (
             UPDATE dead_letters l SET state = 'replayed', replayed_as = gen_random_uuid(), replay_from_start = $16,
                 replay_forced = $14, updated_at = now()
             FROM picked WHERE l.id = picked.id RETURNING l.*),
         sent AS (
             INSERT INTO outbox (message_id, type, exchange, routing_key, content_type, headers, body, must_route)
             SELECT replayed_as::text, key, $17, key, content_type,
                    headers || jsonb_build_object($18::text, replayed_as::text), body, true
             FROM moved, LATERAL (SELECT CASE WHEN original_routing_key ~ '^slipway[.](project|deployment|engineering|resources)[.]'
                                              THEN original_routing_key ELSE $19 END AS key) k
             ORDER BY last_failed_at, id)
         SELECT p.id, p.last_failed_at, m.replayed_as, d.source, d.event_id
         FROM page p LEFT JOIN moved m USING (id) LEFT JOIN deployments d ON d.id = m.deployment_id
         ORDER BY p.last_failed_at, p.id"
    );
    let (state, limit, page) = (filter.state(), i64::from(limit), i64::from(page));
    let Replay { from_start, force } = replay;
    let (exchange, header) = (topology::REQUESTS, topology::REPLAY_HEADER);
    let key = EventType::ProjectReady.as_str();
    let own: [StatementParameter<'_>; 7] = [&force, &limit, &from_start, &exchange, &header, &key, &page];
    Ok(tx.query(&sql, &filter.parameters(&state, &own)).await?)
}

/// The letter of a row, if it was sent.
fn replayed_row(row: &Row) -> Option<SentReplay> {
    let replay = row.get::<_, Option<Uuid>>("replayed_as")?;
    let text = |column: &str| row.get::<_, Option<String>>(column).filter(|text| !text.is_empty());
    let deployment = text("source").zip(text("event_id"));
    Some(SentReplay {
        id: row.get("id"),
        failed_at: row.get("last_failed_at"),
        replay,
        deployment: deployment.map(|(source, id)| DeploymentId::of(&source, &id, Some(replay))),
    })
}

/// The replay that a request comes from; an edited dead letter is an event of its own, whose id is known here.
pub(in crate::store) fn replay_of<T>(request: &Request<T>) -> Option<Uuid> {
    request.replay.or_else(|| request.event.id.parse().ok())
}

/// When deployment `id` is a replay: writes down what it resumes and, when the operator forced it, gives it the newest
/// place among its contenders.
pub(in crate::store) async fn apply_replay(
    tx: &StoreTransaction<'_>,
    id: DeploymentId,
    replay: Option<Uuid>,
    order: Order,
    contenders: &[Contender],
) -> Result<Order> {
    let Some(replay) = replay else { return Ok(order) };
    let sql = "SELECT CASE WHEN NOT replay_from_start AND stage <> 'intake' THEN deployment_id END AS resumes,
                      replay_forced FROM dead_letters WHERE replayed_as = $1";
    let Some(row) = tx.query_opt(sql, &[&replay]).await? else { return Ok(order) };
    let order = if row.get("replay_forced") { order.above(contenders) } else { order };
    tx.execute(
        "UPDATE deployments SET resumes = $2, producer_sequence = $3, event_time = $4 WHERE id = $1",
        &[
            &id.0,
            &row.get::<_, Option<Uuid>>("resumes"),
            &order.sequence.map(|s| i64::try_from(s).unwrap_or(i64::MAX)),
            &order.time,
        ],
    )
    .await?;
    Ok(order)
}
