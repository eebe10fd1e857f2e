//! Which dead letters can be replayed: the same condition serves those who ask and those who replay.

use jiff::Timestamp;
use slipway_protocol::DeploymentId;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::dead_letter::list::{DeadLetterFilter, FILTER_CONDITION};
use crate::store::deployment::order::{contends_with, newer_than, newest_first};
use crate::store::{Result, Store};

/// Whether a dead letter can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplayVerdict {
    /// Yes: it's open, and nothing newer is here.
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

impl ReplayVerdict {
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
pub struct PlannedReplay {
    /// The dead letter.
    pub id: Uuid,
    /// The project's slug; absent where it couldn't be read.
    pub project: Option<String>,
    /// Its stage: where a replay resumes, if it's one of the pipeline.
    pub stage: String,
    /// Its error code.
    pub code: String,
    /// When it failed last.
    pub failed_at: Timestamp,
    /// `open`, `replayed` or `archived`.
    pub state: String,
    /// Whether it can be sent again.
    pub verdict: ReplayVerdict,
    /// The newer deployment of its project.
    pub newer: Option<DeploymentId>,
}

/// Joins a dead letter `l` with its deployment `d` and with the newest deployment `n` that a replay of it would
/// contend with. A refused message has no place of its own, and is compared by its arrival.
pub(in crate::store) fn joined_with_newer() -> String {
    let newest_first = newest_first("n");
    let against = contends_with("n", "d.server", "d.action = 'deploy'");
    // Apart from each other, so that each reads a range of an index, and nothing of what is older.
    let newest = |rank: u8, which: &str| {
        format!(
            "(SELECT {rank} AS rank, n.id FROM deployments n
              WHERE {which} AND n.project_id = d.project_id AND (n.source, n.event_id) <> (d.source, d.event_id)
                AND {against} ORDER BY {newest_first} LIMIT 1)"
        )
    };
    let own = ["coalesce(d.producer_sequence, -1)", "coalesce(d.event_time, d.accepted_at)", "d.arrival"];
    let [by_number, by_time] = newer_than("n", own).map(|newer| format!("d.request IS NOT NULL AND {newer}"));
    let (by_number, by_time) = (newest(1, &by_number), newest(2, &by_time));
    let of_refused = newest(3, "d.request IS NULL AND n.arrival > d.arrival");
    format!(
        "dead_letters l LEFT JOIN deployments d ON d.id = l.deployment_id LEFT JOIN LATERAL (
             SELECT id FROM ({by_number} UNION ALL {by_time} UNION ALL {of_refused}) newer ORDER BY rank LIMIT 1) n ON true"
    )
}

/// A message whose own expiry has passed would be refused again. One that only waited for too long wouldn't: the
/// operator who replays it knows how old it is.
pub(in crate::store) const VERDICT_CASE: &str =
    "CASE WHEN l.state <> 'open' THEN 'not-open' WHEN l.body IS NULL THEN 'withheld'
         WHEN (d.request IS NULL AND l.code = 'expired-event')
           OR (d.request #>> '{data,expires_at}')::timestamptz <= now() THEN 'expired'
         WHEN n.id IS NOT NULL THEN 'superseded' ELSE 'ready' END";

impl Store {
    /// What a replay would do with each dead letter that is meant, in the order in which they would be sent; at most `limit`,
    /// and [`DeadLetterFilter::after`] goes on behind them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_replay(&self, filter: &DeadLetterFilter, limit: u32) -> Result<Vec<PlannedReplay>> {
        deadline(async {
            let joined_with_newer = joined_with_newer();
            let sql = format!(
                "WITH page AS MATERIALIZED (
                     SELECT l.id FROM dead_letters l WHERE {FILTER_CONDITION} ORDER BY l.last_failed_at, l.id LIMIT $14)
                 SELECT l.id, l.project_slug, l.stage, l.code, l.last_failed_at, l.state, {VERDICT_CASE} AS verdict, n.id AS newer
                 FROM {joined_with_newer} WHERE l.id = ANY(ARRAY(SELECT id FROM page)) ORDER BY l.last_failed_at, l.id"
            );
            let (state, limit) = (filter.state(), i64::from(limit));
            let rows = self.filtered(&sql, &filter.parameters(&state, &[&limit])).await?;
            let planned = |row: &Row| PlannedReplay {
                id: row.get("id"),
                project: row.get("project_slug"),
                stage: row.get("stage"),
                code: row.get("code"),
                failed_at: row.get("last_failed_at"),
                state: row.get("state"),
                verdict: ReplayVerdict::read(row),
                newer: row.get::<_, Option<Uuid>>("newer").map(DeploymentId),
            };
            Ok(rows.iter().map(planned).collect())
        })
        .await
    }
}
