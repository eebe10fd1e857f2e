//! A worker in the middle of something, with a database and a virtual host of its own.

use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use slipway_protocol::{Change, topology};
use slipway_worker::amqp;
use slipway_worker::process::Condition;
use slipway_worker::store::Store;
use tokio::time::Instant;

use super::fault::Fault::{self, QueueDeleted};
use crate::services::ledger::TestLedger;
use crate::services::proxy::Proxy;
use crate::services::test_worker::{ScriptedStages, TestWorker, WorkerOptions, report, request};
use crate::services::{Postgres, TestDatabase, url};

/// Within this a worker consumes again, once what it needs is usable; on a machine that has time for it.
const BACK: Duration = Duration::from_secs(10);
/// For what has no deadline of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Requests in a burst.
const BURST: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnderWay {
    Nothing,
    TakingIn,
    Publishing,
}

/// A worker with a database, a virtual host and a network of its own.
pub(super) struct FaultScene {
    pub(super) under_way: UnderWay,
    pub(super) database: TestDatabase,
    pub(super) store: Store,
    pub(super) proxy: Proxy,
    pub(super) worker: TestWorker,
    pub(super) ledger: TestLedger,
}

impl FaultScene {
    pub(super) async fn set(under_way: UnderWay, vhost: usize, broker_port: u16) -> Self {
        let (database, store) = breakable().await;
        let proxy = Proxy::start(broker_port).await;
        let ledger = TestLedger::open(url(broker_port, vhost)).await;
        let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
        let worker = TestWorker::start(store.clone(), &url(proxy.port(), vhost), pipeline, WorkerOptions::default());
        Self { under_way, database, store, proxy, worker, ledger }
    }

    pub(super) async fn publish(&mut self, count: usize) {
        let bodies = (0..count).map(|i| {
            request(|event| {
                let number = self.ledger.len() + i;
                event["data"]["project"]["slug"] = format!("p{number}").into();
            })
        });
        let bodies = bodies.collect();
        self.ledger.publish(bodies).await;
    }

    /// Until it can begin at once.
    pub(super) async fn prepare(&mut self) {
        let ready = tokio::time::timeout(allowed(PATIENCE), self.worker.readiness.ready()).await;
        assert!(ready.unwrap_or(false), "{:?}: {:?}", self.under_way, self.worker.readiness.report());
        if self.under_way == UnderWay::Publishing {
            // Another relay holds the lease until much waits, be it that the worker's own hasn't taken it yet.
            let take = "INSERT INTO relay_lease AS l (owner, fence, expires_at, renders, splits)
                            VALUES ('another', 1, now() + interval '1 hour', true, true)
                        ON CONFLICT (the_one) DO UPDATE
                            SET owner = excluded.owner, fence = l.fence + 1, expires_at = excluded.expires_at";
            self.database.sql.execute(take, &[]).await.unwrap();
            self.publish(BURST / 2).await;
            self.eventually("all has happened", async |scene| scene.open().await == 0).await;
        }
    }

    pub(super) async fn begin(&mut self) {
        match self.under_way {
            UnderWay::Nothing => {}
            UnderWay::TakingIn => {
                let before = self.taken_in().await;
                self.publish(BURST).await;
                self.eventually("some are taken in", async |scene| scene.taken_in().await > before + 2).await;
            }
            UnderWay::Publishing => {
                let waiting = self.store.backlog().await.unwrap().depth;
                assert!(waiting > 0, "another relay holds the lease");
                let free = "UPDATE relay_lease SET expires_at = now(); NOTIFY slipway_relay, 'free'";
                self.database.sql.batch_execute(free).await.unwrap();
                let is_less = async |scene: &Self| scene.store.backlog().await.unwrap().depth < waiting;
                self.eventually("some is told", is_less).await;
            }
        }
    }

    pub(super) async fn taken_in(&self) -> i64 {
        self.database.count("SELECT count(*) FROM deployments").await
    }

    /// Deployments that haven't ended.
    pub(super) async fn open(&self) -> i64 {
        let open = self.database.count("SELECT count(*) FROM deployments WHERE state IN ('pending', 'running')").await;
        open + i64::try_from(self.ledger.len()).unwrap() - self.taken_in().await
    }

    pub(super) async fn eventually(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + allowed(PATIENCE);
        while !holds(self).await {
            if Instant::now() > deadline {
                panic!("{:?}, never: {what}\n{}", self.under_way, self.found().await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What there is, for whoever wonders why something doesn't happen.
    async fn found(&self) -> String {
        const QUERIES: [&str; 6] = [
            "SELECT state, count(*) AS deployments FROM deployments GROUP BY state",
            "SELECT id, state, attempt, interruptions, run_at, owner FROM deployments
                WHERE state IN ('pending', 'running')",
            "SELECT project_slug, owner, expires_at FROM project_leases WHERE expires_at > now()",
            "SELECT owner, fence, expires_at, now() FROM relay_lease",
            "SELECT code, message, count(*) AS dead_letters FROM dead_letters GROUP BY code, message",
            "SELECT pid, state, wait_event, now() - xact_start AS since, left(query, 80) AS query FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()",
        ];
        let rows = QUERIES.map(|query| format!("SELECT to_jsonb(r)::text AS row FROM ({query}) r"));
        let rows = tokio::time::timeout(BACK, self.database.sql.query(&rows.join(" UNION ALL "), &[])).await;
        let rows = rows.map(|rows| rows.unwrap().iter().map(|row| row.get(0)).collect::<Vec<String>>());
        let link = self.ledger.connect().await;
        let queues = amqp::queues(&link).await;
        format!("{:?}\n{queues:?}\n{rows:#?}\n{} requests", self.worker.readiness.report(), self.ledger.len())
    }

    /// While the broker takes no messages: what it has is still consumed and carried out, and nothing is sent in vain.
    pub(super) async fn go_on_unheard(&self) {
        self.eventually("all is carried out in silence", async |scene| scene.open().await == 0).await;
        let report = self.worker.readiness.report();
        let consumes = report.conditions.iter().any(|c| c.name == Condition::BrokerConsumer && c.met);
        assert!(consumes && !report.ready, "{report:?}");
    }

    /// A request that is confirmed from now on is taken in by then.
    pub(super) async fn is_back(&mut self, usable: Instant, after: Fault) {
        if after == QueueDeleted {
            // With the queue went what was in it: its producers send it again. Without the queue they'd be parked.
            self.eventually("the queue is there again", async |scene| scene.is_consumed().await).await;
            assert!(
                usable.elapsed() < allowed(BACK),
                "{:?}: the queue was back after {:?}",
                self.under_way,
                usable.elapsed()
            );
            self.ledger.publish(self.ledger.bodies()).await;
        }
        self.publish(1).await;
        let confirmed = Instant::now();
        let all = i64::try_from(self.ledger.len()).unwrap();
        self.eventually("it consumes again", async |scene| scene.taken_in().await == all).await;
        let (took, since) = (confirmed.elapsed(), usable.elapsed());
        measured(format!("{after:?} / {:?}: taken in {took:?} after the confirm, {since:?} in all", self.under_way));
        assert!(took < allowed(BACK), "{after:?} / {:?}: back after {took:?}", self.under_way);
    }

    pub(super) async fn is_consumed(&self) -> bool {
        let link = self.ledger.connect().await;
        let queues = amqp::queues(&link).await.unwrap();
        link.close().await;
        queues.iter().any(|queue| queue.name == topology::DEPLOYMENTS_QUEUE && queue.consumers > 0)
    }

    pub(super) async fn balance(&mut self) {
        self.eventually("all ends", async |scene| scene.open().await == 0).await;
        self.eventually("all is told", async |scene| scene.store.backlog().await.unwrap().depth == 0).await;
        self.ledger.balance().await;
        let twice = "SELECT count(*) - count(DISTINCT deployment_id) FROM outbox WHERE type LIKE '%result%'";
        assert_eq!(self.database.count(twice).await, 0);
    }
}

/// This process's own PostgreSQL.
pub(super) fn postgres() -> MutexGuard<'static, Postgres> {
    static SERVER: OnceLock<Mutex<Postgres>> = OnceLock::new();
    SERVER.get_or_init(|| Mutex::new(Postgres::start(|_| Vec::new()))).lock().unwrap()
}

pub(super) async fn breakable() -> (TestDatabase, Store) {
    let port = tokio::task::spawn_blocking(|| postgres().port()).await.unwrap();
    TestDatabase::at(port).await.with_schema("w").await
}

/// What a limit comes to on a machine that has more to do than it can: as much longer as programs wait for a processor.
pub(super) fn allowed(limit: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let processors = std::thread::available_parallelism().unwrap().get();
    limit.mul_f64((load / f64::from(u32::try_from(processors).unwrap())).max(1.0))
}

/// For whoever looks at how long it takes.
pub(super) fn measured(text: String) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
