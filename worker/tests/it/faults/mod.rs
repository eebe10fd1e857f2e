//! Every fault of broker, network and database, while three workers are at it: one idle, one taking requests in, one
//! publishing events. Afterwards each of them consumes again within ten seconds, and the books balance.

mod fault;
mod scene;
mod world;

use std::sync::Arc;
use std::time::Duration;

use self::fault::Fault::{self, *};
use self::scene::{FaultScene, PATIENCE, UnderWay, allowed, breakable, measured, postgres};
use self::world::FaultWorld;
use crate::services::ledger::TestLedger;
use crate::services::test_worker::{ScriptedStages, TestWorker, WorkerOptions, report, request};
use crate::services::{Postgres, Rabbit, vhost};
use futures_util::future::join_all;
use slipway_protocol::Change;
use slipway_worker::process::Condition;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Within this it says that it isn't ready: five seconds of silence, and then a look at it.
const NOTICED: Duration = Duration::from_secs(12);
/// Each fault with what a worker says of it as long as it lasts; nothing when it's over at once.
type FaultRow = (Fault, &'static [Condition]);
const REFUSALS: &[FaultRow] =
    &[(LoginRefused, &[Condition::BrokerConsumer]), (QueueDeleted, &[]), (ConnectionsClosed, &[]), (AckOverdue, &[])];
const SILENCES: &[FaultRow] = &[
    (BrokerTerminated, &[Condition::BrokerConsumer, Condition::BrokerPublisher]),
    (BrokerKilled, &[Condition::BrokerConsumer, Condition::BrokerPublisher]),
    (BrokerFrozen, &[Condition::BrokerConsumer, Condition::BrokerPublisher]),
    (NetworkCut, &[Condition::BrokerConsumer, Condition::BrokerPublisher]),
    (ConnectionsForgotten, &[]),
];
const SHORTAGES: &[FaultRow] = &[
    (MemoryAlarm, &[Condition::BrokerPublisher]),
    (DiskAlarm, &[Condition::BrokerPublisher]),
    (DatabaseFrozen, &[Condition::Database]),
    (DatabaseRestarted, &[]),
];

async fn go_through(faults: &[FaultRow]) {
    // Shown when it fails.
    let logged = tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr);
    logged.with_env_filter("warn,lapin=off").init();
    // An acknowledgement is overdue after three seconds rather than after half an hour.
    let start = || Rabbit::with(|_| "consumer_timeout = 3000\n".to_owned());
    let rabbit = tokio::task::spawn_blocking(start).await.unwrap();
    let port = rabbit.port();
    let world = FaultWorld { rabbit: Arc::new(tokio::sync::Mutex::new(rabbit)) };
    let under_way = [UnderWay::Nothing, UnderWay::TakingIn, UnderWay::Publishing];
    let scenes = under_way.into_iter().enumerate().map(|(vhost, under_way)| FaultScene::set(under_way, vhost, port));
    let mut scenes = join_all(scenes).await;
    for (fault, said) in faults {
        join_all(scenes.iter_mut().map(FaultScene::prepare)).await;
        join_all(scenes.iter_mut().map(FaultScene::begin)).await;
        let struck = Instant::now();
        world.strike(*fault, &mut scenes).await;
        for (condition, scene) in said.iter().flat_map(|condition| scenes.iter().map(move |scene| (condition, scene))) {
            let noticed = scene.worker.readiness.until(*condition, false);
            let noticed = tokio::time::timeout_at(struck + allowed(NOTICED), noticed).await;
            assert!(noticed.is_ok(), "{fault:?} / {:?}: {:?}", scene.under_way, scene.worker.readiness.report());
            measured(format!("{fault:?}: {condition:?} noticed within {:?}", struck.elapsed()));
        }
        // Nobody waited for a message that isn't confirmed, or for the few heartbeats of who publishes.
        if matches!(fault, BrokerFrozen | NetworkCut) {
            let said: Vec<_> = scenes.iter().map(|scene| scene.worker.readiness.report()).collect();
            assert!(said.iter().any(|report| format!("{report:?}").contains("a sign of life")), "{fault:?}: {said:?}");
        }
        if matches!(fault, MemoryAlarm | DiskAlarm) {
            join_all(scenes.iter().map(FaultScene::go_on_unheard)).await;
        }
        world.heal(*fault, &mut scenes).await;
        let usable = Instant::now();
        join_all(scenes.iter_mut().map(|scene| scene.is_back(usable, *fault))).await;
        join_all(scenes.iter_mut().map(FaultScene::balance)).await;
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
    let pipeline = ScriptedStages::new(move |call| {
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
    let mut ledger = TestLedger::open(amqp.clone()).await;
    let options = WorkerOptions { lease: Duration::from_secs(5), ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), options);
    ledger.publish(vec![request(|_| {})]).await;
    reached.notified().await;
    let freeze = |act: fn(&mut Postgres)| tokio::task::spawn_blocking(move || act(&mut postgres()));
    freeze(Postgres::freeze).await.unwrap();
    let is_stopped = tokio::time::timeout(PATIENCE, stopped.notified()).await;
    freeze(Postgres::thaw).await.unwrap();
    is_stopped.unwrap();
    ledger.balance().await;
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
