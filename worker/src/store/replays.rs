//! Sending dead letters again: which of them can be, the messages through the outbox in the same transaction as their
//! new state, and what the worker that accepts one does about it. Bodies never leave the database on this way.

use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::{CONTENT_TYPE, DeploymentId, EventType, Request, topology};
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::actions::record;
use super::dead_letters::MATCHES;
use super::ledger::enqueue;
use super::new_deployment::place_of;
use super::{DeadLetterFilter, Operator, Result, Store, Tx, commit, deadline, wakeups};
use crate::crash::Write;
use crate::message::Outgoing;
use crate::scheduler::{Order, Rival};

/// What a replay is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replay {
    /// Every stage is run again, also those that are done.
    pub from_start: bool,
    /// Also when a newer deployment of the project is here, and then it counts as the newest.
    pub force: bool,
}

/// Whether a dead letter can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It can.
    Ready,
    /// Only by force: a newer deployment of its project is here.
    Superseded,
    /// No: its time is over, and it would be refused.
    Expired,
    /// No: it held a secret in plain text, and isn't kept.
    Withheld,
    /// No: it was sent again or archived.
    NotOpen,
}

impl Verdict {
    const ALL: [Self; 5] = [Self::Ready, Self::Superseded, Self::Expired, Self::Withheld, Self::NotOpen];

    /// The name, as in the statements and in what operators read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::Withheld => "withheld",
            Self::NotOpen => "not-open",
        }
    }

    fn read(row: &Row) -> Self {
        let name: &str = row.get("verdict");
        Self::ALL.into_iter().find(|v| v.as_str() == name).unwrap_or(Self::NotOpen)
    }
}

/// A dead letter and what a replay would do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The dead letter.
    pub id: Uuid,
    /// Its project.
    pub project: Option<String>,
    /// Its stage: where a replay resumes, if it's one of the pipeline.
    pub stage: String,
    /// Its error code.
    pub code: String,
    /// Its state.
    pub state: String,
    /// Whether it can be sent again.
    pub verdict: Verdict,
    /// The newer deployment of its project.
    pub newer: Option<DeploymentId>,
}

/// A dead letter that was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// The dead letter.
    pub id: Uuid,
    /// The replay's id.
    pub replay: Uuid,
    /// The deployment that it asks for; `None` when the message's ids couldn't be read.
    pub deployment: Option<DeploymentId>,
}

/// Joins a dead letter `l` with its deployment `d` and with the newest one `n` of the same project that it would stand
/// against at the door, by the order in which the scheduler has them. What was refused has no place, but an arrival.
fn rivals() -> String {
    let (newer, own) = (place_of("n"), place_of("d"));
    format!(
        "dead_letters l LEFT JOIN deployments d ON d.id = l.deployment_id LEFT JOIN LATERAL (
             SELECT n.id FROM deployments n
             WHERE n.project_id = d.project_id AND n.request IS NOT NULL AND n.state <> 'cancelled'
               AND (n.source, n.event_id) <> (d.source, d.event_id)
               AND (n.server = d.server OR (n.action = 'deploy' AND d.action = 'deploy'))
               AND CASE WHEN d.request IS NULL THEN n.arrival > d.arrival ELSE {newer} > {own} END
             ORDER BY {newer} DESC LIMIT 1) n ON true"
    )
}

/// What expired by its own word would be refused again. What waited for too long wouldn't: whoever sends it again knows
/// how old it is.
const VERDICT: &str = "CASE WHEN l.state <> 'open' THEN 'not-open' WHEN l.body IS NULL THEN 'withheld'
         WHEN (d.request IS NULL AND l.code = 'expired-event')
           OR (d.request #>> '{data,expires_at}')::timestamptz <= now() THEN 'expired'
         WHEN n.id IS NOT NULL THEN 'superseded' ELSE 'ready' END";

impl Store {
    /// The database's clock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clock(&self) -> Result<Timestamp> {
        deadline(async { Ok(self.client().await?.query_one("SELECT now()", &[]).await?.get(0)) }).await
    }

    /// What a replay would do with each dead letter that is meant, in the order in which they would be sent.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_replay(&self, filter: &DeadLetterFilter, limit: u32) -> Result<Vec<Planned>> {
        deadline(async {
            let rivals = rivals();
            let sql = format!(
                "SELECT l.id, l.project_slug, l.stage, l.code, l.state, {VERDICT} AS verdict, n.id AS newer
                 FROM {rivals} WHERE {MATCHES} ORDER BY d.arrival NULLS FIRST, l.last_failed_at, l.id LIMIT $9"
            );
            let (state, limit) = (filter.state(), i64::from(limit));
            let rows = self.client().await?.query(&sql, &filter.parameters(&state, &[&limit])).await?;
            let planned = |row: &Row| Planned {
                id: row.get("id"),
                project: row.get("project_slug"),
                stage: row.get("stage"),
                code: row.get("code"),
                state: row.get("state"),
                verdict: Verdict::read(row),
                newer: row.get::<_, Option<Uuid>>("newer").map(DeploymentId),
            };
            Ok(rows.iter().map(planned).collect())
        })
        .await
    }

    /// How many of those that are meant can be sent again, and how many can't for which reason.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_replay(&self, filter: &DeadLetterFilter) -> Result<Vec<(Verdict, u64)>> {
        deadline(async {
            let rivals = rivals();
            let sql =
                format!("SELECT {VERDICT} AS verdict, count(*) AS count FROM {rivals} WHERE {MATCHES} GROUP BY 1");
            let state = filter.state();
            let rows = self.client().await?.query(&sql, &filter.parameters(&state, &[])).await?;
            let count = |row: &Row| (Verdict::read(row), u64::try_from(row.get::<_, i64>("count")).unwrap_or(0));
            let mut counts: Vec<_> = rows.iter().map(count).collect();
            counts.sort();
            Ok(counts)
        })
        .await
    }

    /// Sends those again that are meant and can be, the oldest first, at most `limit`: their state, their messages and
    /// the record in one transaction. Of two callers, one sends each.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn replay_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        replay: Replay,
        operator: &Operator,
        limit: u32,
    ) -> Result<Vec<Replayed>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = Tx::begin(&mut client).await?;
            let rows = send(&tx, filter, replay, operator, limit).await?;
            if !rows.is_empty() {
                tx.execute("SELECT pg_notify($1, '')", &[&wakeups::OUTBOX]).await?;
            }
            commit(tx, Write::Replay).await?;
            Ok(rows.iter().map(replayed_row).collect())
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
            let tx = Tx::begin(&mut client).await?;
            let rivals = rivals();
            let sql = format!(
                "WITH picked AS (SELECT l.id FROM {rivals} WHERE l.id = $1 AND l.state = 'open' AND ($2 OR n.id IS NULL)
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
            record(&tx, &[id], "edit", operator, &details).await?;
            commit(tx, Write::Replay).await?;
            Ok(true)
        })
        .await
    }
}

/// The one statement of a batch.
async fn send(
    tx: &Transaction<'_>,
    filter: &DeadLetterFilter,
    replay: Replay,
    operator: &Operator,
    limit: u32,
) -> Result<Vec<Row>> {
    let rivals = rivals();
    let sql = format!(
        "WITH picked AS (
             SELECT l.id, d.arrival FROM {rivals} WHERE {MATCHES} AND l.state = 'open'
               AND ({VERDICT} = 'ready' OR ($9 AND {VERDICT} = 'superseded'))
             ORDER BY d.arrival NULLS FIRST, l.last_failed_at, l.id LIMIT $10 FOR UPDATE OF l),
         moved AS (
             UPDATE dead_letters l SET state = 'replayed', replayed_as = gen_random_uuid(), replay_from_start = $11,
                 replay_forced = $9, updated_at = now()
             FROM picked WHERE l.id = picked.id RETURNING l.*, picked.arrival),
         sent AS (
             INSERT INTO outbox (message_id, type, exchange, routing_key, content_type, headers, body, must_route)
             SELECT replayed_as::text, key, $12, key, content_type,
                    headers || jsonb_build_object($13::text, replayed_as::text), body, true
             FROM moved, LATERAL (SELECT CASE WHEN original_routing_key ~ '^slipway[.](project|deployment)[.]'
                                              THEN original_routing_key ELSE $14 END AS key) k
             ORDER BY arrival NULLS FIRST, last_failed_at, id),
         recorded AS (
             INSERT INTO dead_letter_audit (dead_letter_id, action, who, why, details)
             SELECT id, 'replay', $15, $16, jsonb_build_object('replay_id', replayed_as, 'from_start', $11::bool,
                                                               'forced', $9::bool)
             FROM moved)
         SELECT m.id, m.replayed_as, d.source, d.event_id FROM moved m LEFT JOIN deployments d ON d.id = m.deployment_id
         ORDER BY m.arrival NULLS FIRST, m.last_failed_at, m.id"
    );
    let (state, limit) = (filter.state(), i64::from(limit));
    let Replay { from_start, force } = replay;
    let (exchange, header) = (topology::REQUESTS, topology::REPLAY_HEADER);
    let key = EventType::ProjectReady.as_str();
    let own: [super::dead_letters::Parameter<'_>; 8] =
        [&force, &limit, &from_start, &exchange, &header, &key, &operator.who, &operator.why];
    Ok(tx.query(&sql, &filter.parameters(&state, &own)).await?)
}

fn replayed_row(row: &Row) -> Replayed {
    let replay: Uuid = row.get("replayed_as");
    let text = |column: &str| row.get::<_, Option<String>>(column).filter(|text| !text.is_empty());
    let deployment = text("source").zip(text("event_id"));
    Replayed {
        id: row.get("id"),
        replay,
        deployment: deployment.map(|(source, id)| DeploymentId::of(&source, &id, Some(replay))),
    }
}

/// The replay that a request comes from; an edited dead letter is an event of its own, whose id is known here.
pub(super) fn replay_of<T>(request: &Request<T>) -> Option<Uuid> {
    request.replay.or_else(|| request.event.id.parse().ok())
}

/// Does what was asked for with the replay that deployment `id` is, if it's one: notes what it resumes and, when forced, gives
/// it the newest place among its rivals.
pub(super) async fn replayed(
    tx: &Transaction<'_>,
    id: DeploymentId,
    replay: Option<Uuid>,
    order: Order,
    rivals: &[Rival],
) -> Result<Order> {
    let Some(replay) = replay else { return Ok(order) };
    let sql = "SELECT CASE WHEN NOT replay_from_start AND stage <> 'intake' THEN deployment_id END AS resumes,
                      replay_forced FROM dead_letters WHERE replayed_as = $1";
    let Some(row) = tx.query_opt(sql, &[&replay]).await? else { return Ok(order) };
    let order = if row.get("replay_forced") { order.above(rivals) } else { order };
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
