//! Every fault of broker, network and database, while three workers are at it: one idle, one taking requests in, one
//! publishing events. Afterwards each of them consumes again within ten seconds, and the books balance.

#![expect(clippy::unwrap_used, reason = "tests")]

mod services;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::QueueDeleteOptions;
use services::book::Book;
use services::proxy::Proxy;
use services::rig::{Options, Scripted, Worker, report, request};
use services::{Database, Postgres, Rabbit, url, vhost};
use slipway_protocol::{Change, topology};
use slipway_worker::amqp;
use slipway_worker::readiness::Condition;
use slipway_worker::store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Within this a worker consumes again, once what it needs is usable; on a machine that has time for it.
const BACK: Duration = Duration::from_secs(10);
/// Within this it says that it isn't ready: five seconds of silence, and then a look at it.
const NOTICED: Duration = Duration::from_secs(12);
/// For what has no deadline of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests in a burst.
const BURST: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// An operator deletes the queue; the broker cancels its consumers.
    QueueDeleted,
    /// An operator closes every connection.
    ConnectionsClosed,
    /// The broker closes the consumer's channel, since an acknowledgement is overdue.
    AckOverdue,
    /// The broker is shut down, and started again.
    BrokerTerminated,
    /// The broker dies, and is started again.
    BrokerKilled,
    /// The broker freezes: everything stays open, and nothing answers.
    BrokerFrozen,
    /// A firewall forgets the connections: nothing comes through them any more, and nobody says so.
    ConnectionsForgotten,
    /// No packet comes through for a while.
    NetworkCut,
    /// The broker is out of memory and takes no messages.
    MemoryAlarm,
    /// The broker is out of disk space and takes no messages.
    DiskAlarm,
    /// The broker refuses the login for a while.
    LoginRefused,
    /// The database freezes.
    DatabaseFrozen,
    /// The database is restarted.
    DatabaseRestarted,
}

use Fault::*;

/// Each fault with what a worker says of it as long as it lasts; nothing when it's over at once.
const REFUSALS: &[(Fault, Option<Condition>)] = &[
    (LoginRefused, Some(Condition::BrokerConsumer)),
    (QueueDeleted, None),
    (ConnectionsClosed, None),
    (AckOverdue, None),
];
const SILENCES: &[(Fault, Option<Condition>)] = &[
    (BrokerTerminated, Some(Condition::BrokerConsumer)),
    (BrokerKilled, Some(Condition::BrokerConsumer)),
    (BrokerFrozen, Some(Condition::BrokerConsumer)),
    (NetworkCut, Some(Condition::BrokerConsumer)),
    (ConnectionsForgotten, None),
];
const SHORTAGES: &[(Fault, Option<Condition>)] = &[
    (MemoryAlarm, Some(Condition::BrokerPublisher)),
    (DiskAlarm, Some(Condition::BrokerPublisher)),
    (DatabaseFrozen, Some(Condition::Database)),
    (DatabaseRestarted, None),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    TakingIn,
    Publishing,
}

/// A worker with a database, a virtual host and a network of its own.
struct Scene {
    under_way: UnderWay,
    database: Database,
    store: Store,
    proxy: Proxy,
    worker: Worker,
    book: Book,
}

impl Scene {
    async fn set(under_way: UnderWay, vhost: usize, broker_port: u16) -> Self {
        let (database, store) = breakable().await;
        let proxy = Proxy::start(broker_port).await;
        let book = Book::open(url(broker_port, vhost)).await;
        let pipeline = Scripted::new(|_| async { Ok(report(Change::Changed)) });
        let worker = Worker::start(store.clone(), &url(proxy.port(), vhost), pipeline, Options::default());
        Self { under_way, database, store, proxy, worker, book }
    }

    async fn publish(&mut self, count: usize) {
        let bodies = (0..count).map(|i| {
            request(|event| {
                let number = self.book.len() + i;
                event["data"]["project"]["slug"] = format!("p{number}").into();
            })
        });
        let bodies = bodies.collect();
        self.book.publish(bodies).await;
    }

    /// Until it can begin at once.
    async fn prepare(&mut self) {
        let ready = tokio::time::timeout(allowed(PATIENCE), self.worker.readiness.ready()).await;
        assert!(ready.unwrap_or(false), "{:?}: {:?}", self.under_way, self.worker.readiness.report());
        if self.under_way == UnderWay::Publishing {
            // Another relay holds the lease until much waits.
            let take = "UPDATE relay_lease SET fence = fence + 1, expires_at = now() + interval '1 hour'";
            self.database.sql.execute(take, &[]).await.unwrap();
            self.publish(BURST / 2).await;
            self.eventually("all has happened", async |scene| scene.open().await == 0).await;
        }
    }

    async fn begin(&mut self) {
        match self.under_way {
            UnderWay::Nothing => {}
            UnderWay::TakingIn => {
                let before = self.taken_in().await;
                self.publish(BURST).await;
                self.eventually("some are taken in", async |scene| scene.taken_in().await > before + 2).await;
            }
            UnderWay::Publishing => {
                let waiting = self.store.backlog().await.unwrap().depth;
                self.database.sql.execute("UPDATE relay_lease SET expires_at = now()", &[]).await.unwrap();
                let is_less = async |scene: &Self| scene.store.backlog().await.unwrap().depth < waiting;
                self.eventually("some is told", is_less).await;
            }
        }
    }

    async fn taken_in(&self) -> i64 {
        self.database.count("SELECT count(*) FROM deployments").await
    }

    /// Deployments that haven't ended.
    async fn open(&self) -> i64 {
        let open = self.database.count("SELECT count(*) FROM deployments WHERE state IN ('pending', 'running')").await;
        open + i64::try_from(self.book.len()).unwrap() - self.taken_in().await
    }

    async fn eventually(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + allowed(PATIENCE);
        while !holds(self).await {
            assert!(Instant::now() < deadline, "{:?}, never: {what}", self.under_way);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// While the broker takes no messages: what it has is still consumed and carried out, and nothing is sent in vain.
    async fn go_on_unheard(&self) {
        self.eventually("all is carried out in silence", async |scene| scene.open().await == 0).await;
        let report = self.worker.readiness.report();
        let consumes = report.conditions.iter().any(|c| c.name == Condition::BrokerConsumer && c.met);
        assert!(consumes && !report.ready, "{report:?}");
    }

    /// A request that is confirmed from now on is taken in by then.
    async fn is_back(&mut self, usable: Instant, after: Fault) {
        if after == QueueDeleted {
            // With the queue went what was in it: its producers send it again. Without the queue they'd be parked.
            self.eventually("the queue is there again", async |scene| scene.is_consumed().await).await;
            assert!(
                usable.elapsed() < allowed(BACK),
                "{:?}: the queue was back after {:?}",
                self.under_way,
                usable.elapsed()
            );
            self.book.publish(self.book.bodies()).await;
        }
        self.publish(1).await;
        let confirmed = Instant::now();
        let all = i64::try_from(self.book.len()).unwrap();
        self.eventually("it consumes again", async |scene| scene.taken_in().await == all).await;
        let (took, since) = (confirmed.elapsed(), usable.elapsed());
        measured(format!("{after:?} / {:?}: taken in {took:?} after the confirm, {since:?} in all", self.under_way));
        assert!(took < allowed(BACK), "{after:?} / {:?}: back after {took:?}", self.under_way);
    }

    async fn is_consumed(&self) -> bool {
        let link = self.book.connect().await;
        let queues = amqp::queues(&link).await.unwrap();
        link.close().await;
        queues.iter().any(|queue| queue.name == topology::DEPLOYMENTS_QUEUE && queue.consumers > 0)
    }

    async fn balance(&mut self) {
        self.eventually("all ends", async |scene| scene.open().await == 0).await;
        self.eventually("all is told", async |scene| scene.store.backlog().await.unwrap().depth == 0).await;
        self.book.balance().await;
        let twice = "SELECT count(*) - count(DISTINCT deployment_id) FROM outbox WHERE type LIKE '%result%'";
        assert_eq!(self.database.count(twice).await, 0);
    }
}

/// This process's own PostgreSQL.
fn postgres() -> MutexGuard<'static, Postgres> {
    static SERVER: OnceLock<Mutex<Postgres>> = OnceLock::new();
    SERVER.get_or_init(|| Mutex::new(Postgres::start(|_| Vec::new()))).lock().unwrap()
}

async fn breakable() -> (Database, Store) {
    let port = tokio::task::spawn_blocking(|| postgres().port()).await.unwrap();
    Database::at(port).await.with_schema("w").await
}

/// What a limit comes to on a machine that has more to do than it can: as much longer as programs wait for a processor.
fn allowed(limit: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let processors = std::thread::available_parallelism().unwrap().get();
    limit.mul_f64((load / f64::from(u32::try_from(processors).unwrap())).max(1.0))
}

/// For whoever looks at how long it takes.
fn measured(text: String) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The broker, and what can be done to it and to everything else.
#[derive(Clone)]
struct World {
    rabbit: Arc<tokio::sync::Mutex<Rabbit>>,
}

impl World {
    async fn rabbit(&self, act: impl FnOnce(&mut Rabbit) + Send + 'static) {
        let mut rabbit = self.rabbit.clone().lock_owned().await;
        tokio::task::spawn_blocking(move || act(&mut rabbit)).await.unwrap();
    }

    async fn control(&self, arguments: &'static [&'static str]) {
        self.rabbit(|rabbit| rabbit.control(arguments)).await;
    }

    async fn postgres(&self, act: impl FnOnce(&mut Postgres) + Send + 'static) {
        tokio::task::spawn_blocking(move || act(&mut postgres())).await.unwrap();
    }

    async fn strike(&self, fault: Fault, scenes: &mut [Scene]) {
        match fault {
            QueueDeleted => {
                for scene in scenes {
                    let link = scene.book.connect().await;
                    let options = QueueDeleteOptions::default();
                    let channel = link.channel().await.unwrap();
                    channel.queue_delete(topology::DEPLOYMENTS_QUEUE.into(), options).await.unwrap();
                    link.close().await;
                }
            }
            ConnectionsClosed => self.control(&["close_all_connections", "--global", "by the operator"]).await,
            AckOverdue => join_all(scenes.iter_mut().map(overdue)).await.into_iter().collect(),
            BrokerTerminated => self.rabbit(Rabbit::terminate).await,
            BrokerKilled => self.rabbit(Rabbit::stop).await,
            BrokerFrozen => self.rabbit(Rabbit::freeze).await,
            ConnectionsForgotten => scenes.iter().for_each(|scene| scene.proxy.forget()),
            NetworkCut => scenes.iter().for_each(|scene| scene.proxy.cut()),
            MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.000001"]).await,
            DiskAlarm => self.control(&["set_disk_free_limit", "900000GB"]).await,
            LoginRefused => {
                self.control(&["change_password", "slipway", "another"]).await;
                self.control(&["close_all_connections", "--global", "new password"]).await;
            }
            DatabaseFrozen => self.postgres(Postgres::freeze).await,
            DatabaseRestarted => self.postgres(Postgres::stop).await,
        }
    }

    async fn heal(&self, fault: Fault, scenes: &mut [Scene]) {
        match fault {
            BrokerTerminated | BrokerKilled => self.rabbit(Rabbit::restart).await,
            BrokerFrozen => self.rabbit(Rabbit::thaw).await,
            NetworkCut => scenes.iter().for_each(|scene| scene.proxy.mend()),
            MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.4"]).await,
            DiskAlarm => self.control(&["set_disk_free_limit", "50MB"]).await,
            LoginRefused => self.control(&["change_password", "slipway", "slipway"]).await,
            DatabaseFrozen => self.postgres(Postgres::thaw).await,
            DatabaseRestarted => {
                self.postgres(Postgres::restart).await;
                for scene in scenes {
                    scene.database.sql = scene.database.another().await;
                }
            }
            QueueDeleted | ConnectionsClosed | AckOverdue | ConnectionsForgotten => {}
        }
    }
}

/// Keeps a commit waiting until the broker has taken the consumer's channel away.
async fn overdue(scene: &mut Scene) {
    let mut sql = scene.database.another().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE deployments IN SHARE MODE").await.unwrap();
    if scene.under_way == UnderWay::TakingIn {
        // What came before may have been taken in already.
        scene.publish(1).await;
        scene.eventually("the broker closes the channel", async |scene| !scene.is_consumed().await).await;
    }
    lock.rollback().await.unwrap();
}

async fn go_through(faults: &[(Fault, Option<Condition>)]) {
    // An acknowledgement is overdue after three seconds rather than after half an hour.
    let start = || Rabbit::with(|_| "consumer_timeout = 3000\n".to_owned());
    let rabbit = tokio::task::spawn_blocking(start).await.unwrap();
    let port = rabbit.port();
    let world = World { rabbit: Arc::new(tokio::sync::Mutex::new(rabbit)) };
    let under_way = [UnderWay::Nothing, UnderWay::TakingIn, UnderWay::Publishing];
    let scenes = under_way.into_iter().enumerate().map(|(vhost, under_way)| Scene::set(under_way, vhost, port));
    let mut scenes = join_all(scenes).await;
    for (fault, said) in faults {
        join_all(scenes.iter_mut().map(Scene::prepare)).await;
        join_all(scenes.iter_mut().map(Scene::begin)).await;
        let struck = Instant::now();
        world.strike(*fault, &mut scenes).await;
        if let Some(condition) = said {
            for scene in &scenes {
                let noticed =
                    tokio::time::timeout(allowed(NOTICED), scene.worker.readiness.until(*condition, false)).await;
                assert!(noticed.is_ok(), "{fault:?} / {:?}: {:?}", scene.under_way, scene.worker.readiness.report());
            }
            measured(format!("{fault:?}: noticed within {:?}", struck.elapsed()));
        }
        if matches!(fault, MemoryAlarm | DiskAlarm) {
            join_all(scenes.iter().map(Scene::go_on_unheard)).await;
        }
        world.heal(*fault, &mut scenes).await;
        let usable = Instant::now();
        join_all(scenes.iter_mut().map(|scene| scene.is_back(usable, *fault))).await;
        join_all(scenes.iter_mut().map(Scene::balance)).await;
    }
    for scene in scenes {
        scene.worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_stops_while_the_database_is_frozen_and_is_made_again_afterwards() {
    let (_database, store) = breakable().await;
    let amqp = vhost();
    let (reached, stopped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (r, s) = (reached.clone(), stopped.clone());
    let pipeline = Scripted::new(move |call| {
        let (reached, stopped) = (r.clone(), s.clone());
        async move {
            if call.attempt == 1 {
                reached.notify_one();
                call.cancel.cancelled().await;
                stopped.notify_one();
            }
            Ok(report(Change::Changed))
        }
    });
    let mut book = Book::open(amqp.clone()).await;
    let options = Options { lease: Duration::from_secs(5), ..Options::default() };
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), options);
    book.publish(vec![request(|_| {})]).await;
    reached.notified().await;
    let freeze = |act: fn(&mut Postgres)| tokio::task::spawn_blocking(move || act(&mut postgres()));
    freeze(Postgres::freeze).await.unwrap();
    let is_stopped = tokio::time::timeout(PATIENCE, stopped.notified()).await;
    freeze(Postgres::thaw).await.unwrap();
    is_stopped.unwrap();
    book.balance().await;
    assert_eq!(pipeline.attempts(), 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_broker_refuses_or_hangs_up_work_goes_on_and_the_books_balance() {
    go_through(REFUSALS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_broker_falls_silent_work_goes_on_and_the_books_balance() {
    go_through(SILENCES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_memory_disk_or_database_give_out_work_goes_on_and_the_books_balance() {
    go_through(SHORTAGES).await;
}
