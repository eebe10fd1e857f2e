//! The workers' heartbeats, which are turns of the fleet: whoever gives a sign of life takes the next free turn, and
//! learns what is due in the meantime. So a fleet of any size asks as often as a single worker.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::{duration, seconds};
use crate::store::connection::wakeups::FLEET;
use crate::store::outbox::rows::OutboxBacklog;
use crate::store::{Result, Store};

/// A worker and its latest heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSeen {
    /// The worker's name, unique among all workers.
    pub name: String,
    /// The version that it announced with its latest heartbeat.
    pub version: String,
    /// When its row was made, with its first heartbeat; a row that outlives a crash keeps this time.
    pub started_at: Timestamp,
    /// How long it has been silent, by the database's clock.
    pub silent: Duration,
    /// For how much longer than it meant to be.
    pub overdue: Duration,
    /// How many deployments it runs; those of a dead one until others take them over.
    pub runs: u64,
}

/// What became of a worker that an operator wanted forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgetOutcome {
    /// Its row is gone.
    Forgotten,
    /// It gives signs of life.
    Alive,
    /// There is none of that name.
    Unknown,
}

/// What a worker learns when it takes its turn. Times are from now on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FleetTurn {
    /// When its next turn is.
    pub next: Duration,
    /// When the next deployment that waits is due.
    pub due_in: Option<Duration>,
    /// When the first lease of a running deployment expires, unless it's renewed.
    pub expires_in: Option<Duration>,
    /// When the next branch is to be looked at.
    pub look_in: Option<Duration>,
    /// When GitHub is to hear of a deployment.
    pub announce_in: Option<Duration>,
    /// When the next server is to be asked for its facts.
    pub ask_in: Option<Duration>,
    /// When the next half has waited for its other one for long enough.
    pub miss_in: Option<Duration>,
    /// Whether something is held at which the database failed.
    pub holds: bool,
    /// Whether a request waits for a server.
    pub places: bool,
    /// Whether a server can't be reached.
    pub unreachable: bool,
    /// What waits to be published.
    pub backlog: OutboxBacklog,
}

/// So long after its turn a worker that nothing was heard of is forgotten, once others have taken over what it ran.
pub(crate) const WORKER_RETENTION: Duration = Duration::from_secs(60);

/// Gives a turn away and tells what is due. A turn is no further away than one for each worker: those of workers that
/// are gone don't count. Who is gone for good, and has left nothing that runs, is forgotten: a name of no use would alarm
/// people, and whoever was only cut off comes back with its next turn.
const TAKE_TURN: &str = "
    WITH RECURSIVE alive AS (
        SELECT count(*) + 1 AS workers FROM workers
        WHERE name <> $1 AND greatest(seen_at, next_turn_at) > now() - $3 * interval '3 seconds'
    ), mine AS (
        -- Who asks before its turn keeps that: a fleet that asks at once would have all of its turns at once from then on.
        -- A turn further away is of another clock: that of a database which has failed over.
        SELECT next_turn_at AS at FROM workers WHERE name = $1 AND next_turn_at > now()
            AND next_turn_at <= now() + (SELECT workers FROM alive) * $3 * interval '1 second'
    ), turn AS (
        UPDATE fleet SET last_turn_at = CASE WHEN EXISTS (SELECT FROM mine) THEN last_turn_at
            ELSE least(greatest(last_turn_at, now()) + $3 * interval '1 second',
                       now() + (SELECT workers FROM alive) * $3 * interval '1 second') END
        RETURNING coalesce((SELECT at FROM mine), last_turn_at) AS at
    ), seen AS (
        INSERT INTO workers (name, version, next_turn_at) SELECT $1, $2, at FROM turn
        ON CONFLICT (name) DO UPDATE SET version = $2, seen_at = now(), next_turn_at = excluded.next_turn_at
        RETURNING next_turn_at
    ), forgotten AS (
        DELETE FROM workers w
        WHERE w.name <> $1 AND greatest(w.seen_at, w.next_turn_at) < now() - $5 * interval '1 second'
          AND NOT EXISTS (SELECT FROM deployments d WHERE d.state = 'running' AND d.owner = w.name)
        RETURNING w.name
    ), queue (server) AS (
        SELECT min(server) FROM deployments WHERE state = 'pending'
        UNION ALL
        SELECT (SELECT min(d.server) FROM deployments d WHERE d.state = 'pending' AND d.server > q.server)
        FROM queue q WHERE q.server IS NOT NULL
    ), due AS (
        SELECT min((SELECT run_at FROM deployments d WHERE d.state = 'pending' AND d.server = q.server
                    ORDER BY run_at LIMIT 1)) AS at
        FROM queue q
    ), expiring AS (
        SELECT min(coalesce(l.expires_at, now())) AS at FROM deployments d LEFT JOIN project_leases l
            ON l.project_slug = d.project_slug AND l.server = d.server AND l.fence = d.fence
        WHERE d.state = 'running'
    ), backlog AS (
        SELECT coalesce(sum(coalesce(events, 1)), 0)::bigint AS depth, min(created_at) AS since
        -- More are counted by nobody who has to say soon that he lives.
        FROM (SELECT events, created_at FROM outbox WHERE published_at IS NULL AND set_aside_at IS NULL
              AND position NOT IN (SELECT position FROM held_marks) ORDER BY position LIMIT 10000) first
    )
    SELECT extract(epoch FROM (SELECT next_turn_at FROM seen) - now())::float8,
        extract(epoch FROM (SELECT at FROM due) - now())::float8,
        extract(epoch FROM (SELECT at FROM expiring) - now())::float8,
        extract(epoch FROM (SELECT min(look_at) FROM watched_branches) - now())::float8,
        extract(epoch FROM (SELECT min(next_try_at) FROM github_deployments WHERE NOT done) - now())::float8,
        EXISTS (SELECT 1 FROM server_circuits WHERE open_until IS NOT NULL),
        (SELECT depth FROM backlog),
        coalesce(extract(epoch FROM now() - (SELECT since FROM backlog)), 0)::float8,
        (SELECT workers FROM alive),
        extract(epoch FROM (SELECT min(ask_at) FROM server_facts) - now())::float8,
        EXISTS (SELECT FROM deployments WHERE state = 'pending' AND server IS NULL),
        pg_notify($4, '')::text, (SELECT array_agg(name) FROM forgotten),
        extract(epoch FROM (SELECT min(waits_until) FROM project_halves WHERE waits_until IS NOT NULL) - now())::float8,
        EXISTS (SELECT FROM held_messages) OR EXISTS (SELECT FROM held_deployments) OR EXISTS (SELECT FROM held_marks)";

impl Store {
    /// Writes a heartbeat of this process, which is of version `version`, and gives it the next turn; turns are `period`
    /// apart.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_turn(&self, version: &str, period: Duration) -> Result<FleetTurn> {
        deadline(async {
            let client = self.vital_client().await?;
            let retention = seconds(WORKER_RETENTION);
            let row =
                client.query_one(TAKE_TURN, &[&self.name, &version, &seconds(period), &FLEET, &retention]).await?;
            for name in row.get::<_, Option<Vec<String>>>(12).unwrap_or_default() {
                tracing::warn!(worker.name = name, "a worker that fell silent is forgotten, since nothing of it runs");
            }
            let number = |column| usize::try_from(row.get::<_, i64>(column)).unwrap_or(0);
            let time = |column| row.get::<_, Option<f64>>(column).map(duration);
            self.set_workers(number(8));
            Ok(FleetTurn {
                next: duration(row.get(0)),
                due_in: time(1),
                expires_in: time(2),
                look_in: time(3),
                announce_in: time(4),
                ask_in: time(9),
                miss_in: time(13),
                holds: row.get(14),
                places: row.get(10),
                unreachable: row.get(5),
                backlog: OutboxBacklog {
                    depth: u64::try_from(number(6)).unwrap_or(0),
                    oldest: duration(row.get(7)),
                    set_aside: 0,
                },
            })
        })
        .await
    }

    /// Has this process do what a turn has told, once it's due; what is due later than in `horizon` is told again.
    pub async fn follow_turn(&self, turn: FleetTurn, horizon: Duration) {
        let end = Instant::now() + horizon;
        let at = |time: Option<Duration>| async move {
            match time.map(|time| Instant::now() + time).filter(|time| *time <= end) {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        let heard = &self.heard;
        let expired = turn.expires_in.or(turn.unreachable.then_some(Duration::ZERO));
        tokio::join!(
            async {
                at(turn.due_in).await;
                heard.deployments.notify_one()
            },
            async {
                let mut expired = expired;
                loop {
                    at(expired).await;
                    heard.expired.notify_one();
                    // Whoever died may have had others, claimed or renewed a moment later.
                    expired = self.next_expiry().await.ok().flatten();
                }
            },
            async {
                at(turn.look_in).await;
                heard.pushes.notify_one()
            },
            async {
                at(turn.announce_in).await;
                heard.announcements.notify_one()
            },
            async {
                at(turn.ask_in).await;
                heard.questions.notify_one()
            },
            async {
                at(turn.miss_in).await;
                heard.halves.notify_one()
            },
            async {
                at(turn.holds.then_some(Duration::ZERO)).await;
                heard.held.notify_one()
            },
            async {
                // New facts, an end, an operator: whatever has made room since.
                at(turn.places.then_some(Duration::ZERO)).await;
                heard.placements.notify_one()
            },
        );
    }

    /// When the first lease of a running deployment expires that hasn't yet, unless it's renewed.
    async fn next_expiry(&self) -> Result<Option<Duration>> {
        deadline(async {
            let sql =
                "SELECT extract(epoch FROM min(l.expires_at) - now())::float8 FROM deployments d JOIN project_leases l
                           ON l.project_slug = d.project_slug AND l.server = d.server AND l.fence = d.fence
                       WHERE d.state = 'running' AND l.expires_at > now()";
            Ok(self.vital_client().await?.query_one(sql, &[]).await?.get::<_, Option<f64>>(0).map(duration))
        })
        .await
    }

    /// Removes the heartbeat of this process, which stops.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_heartbeat(&self) -> Result<()> {
        deadline(async {
            self.client().await?.execute("DELETE FROM workers WHERE name = $1", &[&self.name]).await?;
            Ok(())
        })
        .await
    }

    /// Removes the worker `name`, if it has been overdue for longer than `silent`; the record tells how long it was silent.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_worker(&self, name: &str, silent: Duration, operator: &Operator) -> Result<ForgetOutcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let sql = "SELECT extract(epoch FROM now() - greatest(seen_at, next_turn_at))::float8,
                           extract(epoch FROM now() - seen_at)::float8 FROM workers WHERE name = $1 FOR UPDATE";
            let Some(row) = tx.query_opt(sql, &[&name]).await? else { return Ok(ForgetOutcome::Unknown) };
            if duration(row.get(0)) < silent {
                return Ok(ForgetOutcome::Alive);
            }
            tx.execute("DELETE FROM workers WHERE name = $1", &[&name]).await?;
            let details = json!({ "silent_s": row.get::<_, f64>(1).round() });
            record(&tx, OperatorAction::ForgetWorker, name, operator, &details).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(ForgetOutcome::Forgotten)
        })
        .await
    }

    /// The workers, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn workers(&self) -> Result<Vec<WorkerSeen>> {
        deadline(async {
            let sql = "SELECT name, version, started_at, extract(epoch FROM now() - seen_at)::float8,
                           extract(epoch FROM now() - greatest(seen_at, next_turn_at))::float8,
                           (SELECT count(*) FROM deployments d WHERE d.state = 'running' AND d.owner = w.name)
                       FROM workers w ORDER BY name";
            let rows = self.client().await?.query(sql, &[]).await?;
            let worker = |row: &tokio_postgres::Row| WorkerSeen {
                name: row.get(0),
                version: row.get(1),
                started_at: row.get(2),
                silent: duration(row.get(3)),
                overdue: duration(row.get(4)),
                runs: u64::try_from(row.get::<_, i64>(5)).unwrap_or(0),
            };
            Ok(rows.iter().map(worker).collect())
        })
        .await
    }
}
