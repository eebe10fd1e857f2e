//! Dead letters as operators read them: which ones, how many, and one in full. How one is written is in
//! `new_dead_letter`, what is done with them in `actions` and `replays`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use slipway_protocol::DeploymentId;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::{id_range, number};
use crate::store::{Result, Store};

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterState {
    /// It waits for somebody.
    Open,
    /// It was sent again.
    Replayed,
    /// Somebody put it aside.
    Archived,
}

impl DeadLetterState {
    /// The name, as in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Archived => "archived",
        }
    }
}

/// A message that couldn't be carried out: as it came, why it failed, and what became of it since.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its id: the deployment's, or one derived from the body where there is none.
    pub id: Uuid,
    /// The deployment that failed.
    pub deployment: Option<DeploymentId>,
    /// The project's slug, where it could be read.
    pub project: Option<String>,
    /// The server's handle, as long as the deployment is known.
    pub server: Option<String>,
    /// The message as it came; `None` when it holds a secret in plain text.
    pub body: Option<Vec<u8>>,
    /// Property `content-type`.
    pub content_type: Option<String>,
    /// Its text headers.
    pub headers: BTreeMap<String, String>,
    /// `rejected`, `permanent`, `exhausted`, `interrupted`, or the broker's: `delivery-limit`, `expired`,
    /// `queue-length`, `rejected-by-consumer`, `unexplained`.
    pub reason: String,
    /// The stage, `intake` or `engine`.
    pub stage: String,
    /// The error code.
    pub code: String,
    /// The code's class.
    pub class: String,
    /// What happened, redacted.
    pub message: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// When its first attempt failed, or when it was refused, by the database's clock.
    pub first_failed_at: Timestamp,
    /// When it failed last, by the database's clock.
    pub last_failed_at: Timestamp,
    /// RabbitMQ's user who sent it, as the broker has checked; absent when the message didn't tell.
    pub amqp_user: Option<String>,
    /// The exchange it was published to.
    pub original_exchange: String,
    /// Its routing key then.
    pub original_routing_key: String,
    /// The worker that gave it up.
    pub worker: String,
    /// How many replays led to it.
    pub replay_count: u32,
    /// The replay that it was sent again with; for an edited one, the new event's id.
    pub replayed_as: Option<Uuid>,
    /// What became of it.
    pub state: DeadLetterState,
    /// What operators noted.
    pub note: Option<String>,
}

/// Which dead letters are meant; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// One of these; any, when there are none.
    pub ids: Vec<Uuid>,
    /// In this state; absent: in any, as with the conditions below.
    pub state: Option<DeadLetterState>,
    /// Of this project's slug.
    pub project: Option<String>,
    /// Of a deployment to this server.
    pub server: Option<String>,
    /// From this stage, `intake` or `engine`.
    pub stage: Option<String>,
    /// With this error code.
    pub code: Option<String>,
    /// With a code of this class.
    pub class: Option<String>,
    /// Failed last at this time or later.
    pub since: Option<Timestamp>,
    /// Failed last at this time or earlier.
    pub until: Option<Timestamp>,
    /// Behind this one, by when they failed last and by their ids: where a walk from the oldest to the latest goes on.
    pub after: Option<(Timestamp, Uuid)>,
    /// Before this one, where a list from the latest to the oldest goes on.
    pub before: Option<(Timestamp, Uuid)>,
}

/// The condition of a [`DeadLetterFilter`] on `dead_letters l`, with the parameters $1 to $13.
pub(in crate::store) const FILTER_CONDITION: &str =
    "(cardinality($1::uuid[]) = 0 OR l.id = ANY($1)) AND ($2::text IS NULL OR l.state = $2)
     AND ($3::text IS NULL OR l.project_slug = $3) AND ($4::text IS NULL OR l.stage = $4)
     AND ($5::text IS NULL OR l.code = $5) AND ($6::text IS NULL OR l.class = $6)
     AND ($7::timestamptz IS NULL OR l.last_failed_at >= $7) AND ($8::timestamptz IS NULL OR l.last_failed_at <= $8)
     AND ($9::timestamptz IS NULL OR (l.last_failed_at, l.id) > ($9, $10))
     AND ($11::text IS NULL OR $11 = (SELECT d.server FROM deployments d WHERE d.id = l.deployment_id))
     AND ($12::timestamptz IS NULL OR (l.last_failed_at, l.id) < ($12, $13))";

pub(in crate::store) type StatementParameter<'a> = &'a (dyn ToSql + Sync);

impl DeadLetterFilter {
    /// The parameters of [`FILTER_CONDITION`], and `more` from $14 on; `state` as the table has it.
    pub(in crate::store) fn parameters<'a>(
        &'a self,
        state: &'a Option<&str>,
        more: &[StatementParameter<'a>],
    ) -> Vec<StatementParameter<'a>> {
        let position = |at: &'a Option<(Timestamp, Uuid)>| -> [StatementParameter<'a>; 2] {
            match at {
                Some((failed_at, id)) => [failed_at, id],
                None => [&None::<Timestamp>, &None::<Uuid>],
            }
        };
        let Self { ids, project, stage, code, class, since, until, server, .. } = self;
        let named: [StatementParameter<'a>; 8] = [ids, state, project, stage, code, class, since, until];
        let behind = position(&self.after).into_iter().chain([server as StatementParameter<'a>]);
        named.into_iter().chain(behind).chain(position(&self.before)).chain(more.iter().copied()).collect()
    }

    pub(in crate::store) fn state(&self) -> Option<&'static str> {
        self.state.map(DeadLetterState::as_str)
    }
}

/// Dead letters that failed alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// The error code.
    pub code: String,
    /// The code's class.
    pub class: String,
    /// The stage, `intake` or `engine`.
    pub stage: String,
    /// The project; `None` when projects aren't told apart, and where it couldn't be read.
    pub project: Option<String>,
    /// How many dead letters the group has.
    pub count: u64,
    /// When the first of them failed last.
    pub oldest: Timestamp,
    /// When the last of them failed last.
    pub newest: Timestamp,
}

impl Store {
    /// Dead letters, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter, limit: u32) -> Result<Vec<DeadLetter>> {
        deadline(async {
            let sql = format!(
                "SELECT l.*, (SELECT server FROM deployments WHERE id = l.deployment_id) AS server
                 FROM dead_letters l WHERE {FILTER_CONDITION} ORDER BY l.last_failed_at DESC, l.id DESC LIMIT $14"
            );
            let (state, limit) = (filter.state(), i64::from(limit));
            let rows = self.filtered(&sql, &filter.parameters(&state, &[&limit])).await?;
            Ok(rows.iter().map(read).collect())
        })
        .await
    }

    /// The ids of dead letters, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letter_ids(&self, filter: &DeadLetterFilter, limit: u32) -> Result<Vec<Uuid>> {
        deadline(async {
            let sql = format!(
                "SELECT l.id FROM dead_letters l WHERE {FILTER_CONDITION} ORDER BY l.last_failed_at DESC, l.id DESC LIMIT $14"
            );
            let (state, limit) = (filter.state(), i64::from(limit));
            let rows = self.filtered(&sql, &filter.parameters(&state, &[&limit])).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
        .await
    }

    /// How many dead letters failed alike, the largest group first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letter_groups(&self, filter: &DeadLetterFilter, projects: bool) -> Result<Vec<DeadLetterGroup>> {
        deadline(async {
            let sql = format!(
                "SELECT code, class, stage, CASE WHEN $14 THEN project_slug END AS project, count(*) AS count,
                        min(last_failed_at) AS oldest, max(last_failed_at) AS newest
                 FROM dead_letters l WHERE {FILTER_CONDITION} GROUP BY 1, 2, 3, 4 ORDER BY count DESC, 1, 3, 4"
            );
            let state = filter.state();
            let rows = self.filtered(&sql, &filter.parameters(&state, &[&projects])).await?;
            let group = |row: &Row| DeadLetterGroup {
                code: row.get("code"),
                class: row.get("class"),
                stage: row.get("stage"),
                project: row.get("project"),
                count: u64::try_from(row.get::<_, i64>("count")).unwrap_or(0),
                oldest: row.get("oldest"),
                newest: row.get("newest"),
            };
            Ok(rows.iter().map(group).collect())
        })
        .await
    }

    /// The dead letter `id`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>> {
        let filter = DeadLetterFilter { ids: vec![id], ..DeadLetterFilter::default() };
        Ok(self.dead_letters(&filter, 1).await?.pop())
    }

    /// Ids that begin with `prefix`, as people type them: at most ten.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letters_like(&self, prefix: &str) -> Result<Vec<Uuid>> {
        deadline(async {
            let Some((first, last)) = id_range(prefix) else { return Ok(Vec::new()) };
            let sql = "SELECT id FROM dead_letters WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 10";
            Ok(self.client().await?.query(sql, &[&first, &last]).await?.iter().map(|row| row.get(0)).collect())
        })
        .await
    }
}

fn read(row: &Row) -> DeadLetter {
    let Json(headers) = row.get("headers");
    DeadLetter {
        id: row.get("id"),
        deployment: row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId),
        project: row.get("project_slug"),
        server: row.get("server"),
        body: row.get("body"),
        content_type: row.get("content_type"),
        headers,
        reason: row.get("reason"),
        stage: row.get("stage"),
        code: row.get("code"),
        class: row.get("class"),
        message: row.get("message"),
        attempts: number(row, "attempts"),
        first_failed_at: row.get("first_failed_at"),
        last_failed_at: row.get("last_failed_at"),
        amqp_user: row.get("amqp_user"),
        original_exchange: row.get("original_exchange"),
        original_routing_key: row.get("original_routing_key"),
        worker: row.get("worker"),
        replay_count: number(row, "replay_count"),
        replayed_as: row.get("replayed_as"),
        state: match row.get("state") {
            "replayed" => DeadLetterState::Replayed,
            "archived" => DeadLetterState::Archived,
            _ => DeadLetterState::Open,
        },
        note: row.get("note"),
    }
}
