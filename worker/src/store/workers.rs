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
use crate::store::turn::TAKE_TURN;
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
