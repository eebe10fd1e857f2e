//! Webhooks that were taken. One says where to look, and nothing else: what it tells may be old, or sent again.

use std::time::Duration;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::seconds;
use crate::store::connection::wakeups;
use crate::store::{Result, Store};

/// How long a delivery is recognised when it's sent again; GitHub does that for three days.
pub const DELIVERY_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Looks at one branch are so far apart at least, however many webhooks come.
const LOOK_SPACING: Duration = Duration::from_secs(2);

/// A webhook whose signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDelivery<'a> {
    /// GitHub's id of the delivery. It isn't signed: it tells duplicates apart, and nothing is decided by it.
    pub id: &'a str,
    /// The signature over its content, by which it's recognised under another id.
    pub signature: &'a str,
    /// The event's name, which isn't signed either.
    pub event: &'a str,
    /// What happened, where the event says so.
    pub action: Option<&'a str>,
    /// The repository that it's about, `owner/name`.
    pub repository: Option<&'a str>,
    /// The branch that it's about; without it, all of the repository.
    pub branch: Option<&'a str>,
}

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It was taken before; nothing was done.
    Duplicate,
    /// So many branches are looked at because of it.
    Marked(u64),
}

impl Store {
    /// Stores a delivery and has the branches that it's about looked at soon.
    ///
    /// # Errors
    /// When the database fails; then nothing was written, and GitHub should see that.
    pub async fn take_delivery(&self, delivery: &WebhookDelivery<'_>) -> Result<DeliveryOutcome> {
        deadline(async {
            // One statement, so that both happen or neither. Rows are locked in one order.
            let sql = "WITH mine AS (
                           SELECT project_id FROM watched_branches
                           WHERE lower(repository) = lower($4) AND ($5::text IS NULL OR branch = $5)
                             AND NOT EXISTS (SELECT FROM webhook_deliveries WHERE id = $1 OR signature = $8)
                           ORDER BY project_id FOR UPDATE),
                       taken AS (
                           INSERT INTO webhook_deliveries (id, signature, event, action, repository, outcome)
                           SELECT $1, $8, $2, $3, $4, 'marked ' || count(*) FROM mine
                           ON CONFLICT DO NOTHING RETURNING id),
                       marked AS (
                           UPDATE watched_branches w SET marks = marks + 1, look_at = CASE WHEN looking THEN look_at
                               ELSE least(look_at, greatest(now(), looked_at + $6 * interval '1 second')) END
                           FROM mine, taken WHERE w.project_id = mine.project_id RETURNING w.project_id)
                       SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM marked), pg_notify($7, '')";
            let row = self
                .client()
                .await?
                .query_one(
                    sql,
                    &[
                        &delivery.id,
                        &delivery.event,
                        &delivery.action,
                        &delivery.repository,
                        &delivery.branch,
                        &seconds(LOOK_SPACING),
                        &wakeups::PUSHES,
                        &delivery.signature,
                    ],
                )
                .await?;
            if row.get::<_, i64>(0) == 0 {
                return Ok(DeliveryOutcome::Duplicate);
            }
            Ok(DeliveryOutcome::Marked(u64::try_from(row.get::<_, i64>(1)).unwrap_or(0)))
        })
        .await
    }
}
