//! The queue of dead letters is trimmed, however many came at once, by one worker at a time.

use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;
use slipway_protocol::topology;
use slipway_worker::amqp::{self, BrokerConnection, Publisher};
use slipway_worker::housekeeping::Housekeeping;
use slipway_worker::message::Outgoing;
use slipway_worker::process::Drain;
use slipway_worker::store::OldRows;

use super::keep;
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, migrated};
use crate::services::{TestDatabase, broker, vhost};

fn housekeeping(database: &TestDatabase, amqp: &SecretString, name: &str) -> Housekeeping {
    Housekeeping {
        store: database.store(name),
        broker: broker(amqp, name),
        retention: keep(),
        drain: Drain::new(Duration::from_secs(5)),
    }
}

async fn waiting(link: &BrokerConnection) -> u32 {
    amqp::queue(link, topology::DEAD_LETTERS_QUEUE).await.unwrap().unwrap().messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_old_messages_is_taken_off_to_its_end_and_holds_up_no_drain() {
    const FLOOD: u32 = 320;
    let ((database, _store), amqp) = (migrated("w").await, vhost());
    let link = broker(&amqp, "floods").connect("test").await.unwrap();
    amqp::declare(&link.channel().await.unwrap()).await.unwrap();
    let channels = (0..16).map(async |_| {
        let publisher = Publisher::open(&link).await.unwrap();
        for _ in 0..FLOOD / 16 {
            let headers = [("dlq-id", "x"), ("dlq-last-failed-at", "2020-01-01T00:00:00Z")];
            let message = Outgoing {
                routing_key: topology::DEAD_LETTERS_QUEUE.to_owned(),
                headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                ..Outgoing::default()
            };
            publisher.publish(&message).await.unwrap();
        }
    });
    join_all(channels).await;
    assert_eq!(waiting(&link).await, FLOOD);

    let (one, two) = (housekeeping(&database, &amqp, "one"), housekeeping(&database, &amqp, "two"));
    let minute = Duration::from_secs(60);
    let progress = async || {
        let chores = two.store.chores().await.unwrap();
        chores.into_iter().find(|chore| chore.name == "queue of dead letters")
    };
    assert!(one.store.take_chores(minute).await.unwrap());
    let drain = async {
        eventually("some are gone", async || progress().await.is_some_and(|queue| queue.changed > 0)).await;
        one.drain.begin();
    };
    tokio::join!(one.pass(), drain);
    let left = waiting(&link).await;
    assert!((1..FLOOD).contains(&left), "{left} are left for whoever goes on");
    assert!(progress().await.unwrap().under_way);

    assert!(two.store.take_chores(minute).await.unwrap(), "whoever drains gives them back");
    two.pass().await;
    assert_eq!(waiting(&link).await, 0);
    assert_eq!(progress().await.unwrap().last_changed, Some(FLOOD.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_prunes_at_a_time_and_the_queue_of_dead_letters_is_trimmed() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, crate::engine::changed(), WorkerOptions::default());
    let link = broker(&amqp, "looks").connect("test").await.unwrap();
    let waiting = async || waiting(&link).await;
    for text in ["old, one", "old, two", "young", "old, three"] {
        outside.publish(text.as_bytes()).await;
        outside.dead_letter().await;
    }
    // Whoever read them without acknowledging gives them back.
    drop(outside);
    eventually("all are in the queue", async || waiting().await == 4).await;
    database
        .sql
        .batch_execute("UPDATE dead_letters SET last_failed_at = now() - interval '20 days' WHERE convert_from(body, 'UTF8') LIKE 'old%'")
        .await
        .unwrap();
    let (one, two) = (housekeeping(&database, &amqp, "one"), housekeeping(&database, &amqp, "two"));
    let minute = Duration::from_secs(60);
    assert!(one.store.take_chores(minute).await.unwrap());
    assert!(!two.store.take_chores(minute).await.unwrap() && !two.store.keep_chores(minute).await.unwrap());
    one.pass().await;
    assert!(!two.store.take_chores(minute).await.unwrap(), "they aren't due");
    let told = store.chores().await.unwrap();
    assert!(
        told.iter().all(|chore| chore.problem.is_none() && !chore.under_way && chore.ended_at.is_some()),
        "{told:?}"
    );
    assert_eq!(told.len(), 3 + OldRows::ALL.len());
    // The young one is behind the old one now.
    eventually("the old ones ahead of it are gone", async || waiting().await == 2).await;
    database.sql.batch_execute("UPDATE chores SET due_at = now()").await.unwrap();
    assert!(two.store.take_chores(minute).await.unwrap());
    two.pass().await;
    eventually("and those behind it", async || waiting().await == 1).await;
    assert_eq!(database.count("SELECT count(*) FROM dead_letters WHERE state = 'open'").await, 4);
    worker.stop().await;
}
