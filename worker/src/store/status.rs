//! How things stand, in a few numbers.

use std::time::Duration;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::duration;
use crate::store::{Result, Store};

/// What waits and what runs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StatusCounts {
    /// Deployments that wait, those between two attempts included.
    pub pending: u64,
    /// Of those, how many wait for a server with room.
    pub without_server: u64,
    /// How long the oldest of those that are due has waited for a worker; zero when none is due.
    pub oldest_due: Duration,
    /// How long the oldest of those that have a server has waited since it was accepted, whenever its next attempt is due;
    /// those don't count for whose server a maintenance is under way.
    pub oldest_pending: Duration,
    /// Deployments that run.
    pub running: u64,
    /// Dead letters that nobody has dealt with.
    pub open_dead_letters: u64,
    /// Projects whose last request of the last week carried secrets in an old form, which any project could have used.
    pub with_unbound_secrets: u64,
    /// Slugs on servers that belong to a project.
    pub slugs: u64,
    /// Those that were handed over to a project that hasn't been deployed there with success since.
    pub handed_over: u64,
}

impl Store {
    /// What waits and what runs.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn counts(&self) -> Result<StatusCounts> {
        deadline(async {
            let sql = "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'running'),
                           coalesce(extract(epoch FROM now() - min(greatest(run_at, accepted_at))
                               FILTER (WHERE state = 'pending' AND run_at <= now() AND server IS NOT NULL)), 0)::float8,
                           (SELECT count(*) FROM dead_letters WHERE state = 'open'),
                           (SELECT count(*) FROM unbound_projects WHERE accepted_at > now() - interval '7 days'),
                           (SELECT count(*) FROM slug_owners),
                           (SELECT count(*) FROM slug_owners WHERE former <> '{}' AND NOT proven),
                           count(*) FILTER (WHERE state = 'pending' AND server IS NULL),
                           coalesce(extract(epoch FROM now() - min(accepted_at)
                               FILTER (WHERE state = 'pending' AND server NOT IN (
                                   SELECT w.server FROM maintenance_windows w
                                   WHERE w.starts_at <= now() AND w.ends_at > now()))), 0)::float8
                       FROM deployments WHERE state IN ('pending', 'running')";
            let row = self.client().await?.query_one(sql, &[]).await?;
            let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
            Ok(StatusCounts {
                pending: count(0),
                running: count(1),
                oldest_due: duration(row.get(2)),
                open_dead_letters: count(3),
                with_unbound_secrets: count(4),
                slugs: count(5),
                handed_over: count(6),
                without_server: count(7),
                oldest_pending: duration(row.get(8)),
            })
        })
        .await
    }
}
