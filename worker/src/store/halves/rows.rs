//! The rows of halves: what is known of a project, and what waits.

use jiff::Timestamp;
use slipway_protocol::names::Slug;
use slipway_protocol::{DeploymentId, HalfKind, Message, Project, ProjectHalf, ProjectId, Rejection, Request};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::message::Incoming;
use crate::scheduler::Order;
use crate::store::connection::deadline::deadline;
use crate::store::connection::value::readable;
use crate::store::{Result, Store};

/// A half that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredHalf {
    /// By which its duplicate is recognised.
    pub id: DeploymentId,
    /// What it says, with the number and the time of its place; or why this version can't read it.
    pub read: Result<Request<ProjectHalf>, Rejection>,
    /// The message as it was delivered.
    pub incoming: Incoming,
    /// Its place among the halves of its kind.
    pub order: Order,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// The deployment that it has made last, together with the other half.
    pub joined_as: Option<DeploymentId>,
    /// Whether the project was moved away from the server that it names.
    pub place_left: bool,
}

/// What is known of a project when a half of it arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownHalves {
    /// The database's time.
    pub now: Timestamp,
    /// Whether the arriving half was here before.
    pub is_duplicate: bool,
    /// The halves that are kept, one of a kind.
    pub kept: Vec<(HalfKind, StoredHalf)>,
}

impl KnownHalves {
    /// The kept half of this kind.
    #[must_use]
    pub fn of(&self, kind: HalfKind) -> Option<&StoredHalf> {
        self.kept.iter().find(|(kept, _)| *kept == kind).map(|(_, half)| half)
    }
}

/// A half without the other one, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LonelyHalf {
    /// Which project.
    pub project: Project,
    /// Which half is here.
    pub half: HalfKind,
    /// CloudEvents `source` of its event.
    pub source: String,
    /// CloudEvents `id` of its event.
    pub event_id: String,
    /// Since when it's here.
    pub since: Timestamp,
    /// When its sender is told that the other one is missing; absent once that was told.
    pub waits_until: Option<Timestamp>,
    /// When that was told.
    pub missed_at: Option<Timestamp>,
}

/// How many halves are without the other one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LonelyHalves {
    /// How many; a thousand stands for that many or more.
    pub count: u64,
    /// Those that came first.
    pub halves: Vec<LonelyHalf>,
}

const KNOWN: &str = "
    SELECT now() AS now,
        EXISTS (SELECT FROM project_halves WHERE id = $3) OR EXISTS (SELECT FROM deployments WHERE id = $3)
            OR EXISTS (SELECT FROM ended_requests WHERE id = $3) AS duplicate,
        h.*
    FROM (VALUES (1)) one LEFT JOIN project_halves h ON h.project_id = $1 AND h.project_slug = $2";

impl Store {
    /// What is known of a project when its half with this id arrives.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn known_halves(&self, project: &Project, arriving: DeploymentId) -> Result<KnownHalves> {
        deadline(async {
            let client = self.client().await?;
            let rows = client.query(KNOWN, &[&project.id.0, &project.slug.as_str(), &arriving.0]).await?;
            let first = rows.first();
            let mut known = KnownHalves {
                now: first.map_or_else(Timestamp::now, |row| row.get("now")),
                is_duplicate: first.is_some_and(|row| row.get("duplicate")),
                kept: Vec::new(),
            };
            for row in rows.iter().filter(|row| row.get::<_, Option<&str>>("half").is_some()) {
                known.kept.push((kind(row)?, stored(row)));
            }
            Ok(known)
        })
        .await
    }

    /// The halves without the other one: their number, counted up to a thousand, and the first `limit` of them.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn lonely_halves(&self, limit: u32) -> Result<LonelyHalves> {
        deadline(async {
            let sql = "SELECT project_id, project_slug, half, source, event_id, received_at, waits_until, missed_at,
                           (SELECT count(*) FROM (SELECT FROM project_halves WHERE joined_as IS NULL LIMIT 1000) c) AS count
                       FROM project_halves WHERE joined_as IS NULL ORDER BY received_at LIMIT $1";
            let rows = self.client().await?.query(sql, &[&i64::from(limit)]).await?;
            let count = rows.first().map_or(0, |row| row.get::<_, i64>("count"));
            let halves = rows.iter().map(lonely).collect::<Result<_>>()?;
            Ok(LonelyHalves { count: u64::try_from(count).unwrap_or(0), halves })
        })
        .await
    }
}

fn kind(row: &Row) -> Result<HalfKind> {
    readable("project_halves", "half", row.get::<_, &str>("half").parse())
}

fn lonely(row: &Row) -> Result<LonelyHalf> {
    let slug = readable("project_halves", "project_slug", Slug::new(row.get::<_, String>("project_slug")))?;
    Ok(LonelyHalf {
        project: Project { id: ProjectId(row.get("project_id")), slug },
        half: kind(row)?,
        source: row.get("source"),
        event_id: row.get("event_id"),
        since: row.get("received_at"),
        waits_until: row.get("waits_until"),
        missed_at: row.get("missed_at"),
    })
}

/// The half of a whole row.
pub(in crate::store) fn stored(row: &Row) -> StoredHalf {
    let Json(headers) = row.get("headers");
    let incoming = Incoming {
        body: row.get("body"),
        content_type: row.get("content_type"),
        headers,
        exchange: row.get("exchange"),
        routing_key: row.get("routing_key"),
        user: row.get("amqp_user"),
    };
    let order = Order {
        sequence: row.get::<_, Option<i64>>("producer_sequence").and_then(|s| u64::try_from(s).ok()),
        time: row.get("event_time"),
        arrival: 0,
    };
    StoredHalf {
        id: DeploymentId(row.get("id")),
        read: read(&incoming).map(|request| placed(request, &order)),
        incoming,
        order,
        received_at: row.get("received_at"),
        joined_as: row.get::<_, Option<uuid::Uuid>>("joined_as").map(DeploymentId),
        place_left: row.get("place_left"),
    }
}

fn read(incoming: &Incoming) -> Result<Request<ProjectHalf>, Rejection> {
    match slipway_protocol::read(&incoming.body, &incoming.metadata())? {
        Message::Half(request) => Ok(*request),
        Message::Ready(_) | Message::Command(_) | Message::Cancel(_) | Message::Cordon(_) => Err(Rejection {
            code: slipway_protocol::ErrorCode::UnsupportedType,
            pointer: None,
            message: "the message isn't one half of a request any more".to_owned(),
            known: Box::default(),
        }),
    }
}

/// A half with the number and the time of its place.
#[must_use]
pub fn placed(mut request: Request<ProjectHalf>, place: &Order) -> Request<ProjectHalf> {
    request.event.time = Some(place.time);
    match &mut request.event.data {
        ProjectHalf::Engineering(half) => half.sequence = place.sequence,
        ProjectHalf::Resources(half) => half.sequence = place.sequence,
    }
    request
}
