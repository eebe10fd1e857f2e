//! `slipway status`, for people and for monitoring.

use super::*;
use slipway_protocol::topology::PARKED_QUEUE;
use slipway_worker::amqp;
use slipway_worker::message::Outgoing;

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_who_works_and_what_waits_and_exits_with_1_when_something_is_wrong() {
    let (database, store) = TestDatabase::migrated("w").await;
    let amqp = vhost();
    let operator = || operator(Some(&database), Some(&amqp));
    let nothing = json_of(operator(), &["status"]).await;
    assert_eq!(nothing["ok"], false);
    assert!(nothing["problems"][0].as_str().unwrap().contains("no worker"), "{nothing}");
    assert!(nothing["problems"].to_string().contains("slipway topology apply"), "{nothing}");

    let worker = TestWorker::start(
        store.clone(),
        &amqp,
        ScriptedStages::new(|_| async { Ok(report(Change::Changed)) }),
        WorkerOptions::default(),
    );
    assert!(worker.readiness.ready().await);
    let well = json_of(operator(), &["status"]).await;
    assert_eq!((&well["ok"], &well["workers"][0]["name"]), (&json!(true), &json!("w")), "{well}");
    assert_eq!(well["queues"][0], json!({ "name": "slipway.deployments", "messages": 0, "consumers": 1 }));
    snapshot("status-well", &run(operator(), &["status"]).await);

    // A result that nobody is bound for waits, a request under a key that isn't its type is parked, and a worker that
    // dies is missed.
    let outside = broker(&amqp, "outside").connect("test").await.unwrap();
    let publisher = amqp::Publisher::open(&outside).await.unwrap();
    let published = crate::services::test_worker::outgoing(&request(|_| {}), &[]);
    publisher.publish(&published).await.unwrap();
    publisher.publish(&Outgoing { routing_key: "project.ready".to_owned(), ..published }).await.unwrap();
    crate::services::test_worker::eventually("the result waits", || async {
        let ended = database.count("SELECT count(*) FROM deployments WHERE state = 'succeeded'").await == 1;
        ended && store.backlog().await.unwrap().depth == 1
    })
    .await;
    worker.kill().await;
    crate::services::test_worker::eventually(
        "the broker sees that its consumer is gone, and counts what is parked",
        || async {
            let queues = amqp::queues(&outside).await.unwrap();
            let parked = queues.iter().find(|queue| queue.name == PARKED_QUEUE).unwrap();
            parked.messages == 1 && queues.iter().all(|queue| queue.consumers == 0)
        },
    )
    .await;
    crate::services::test_worker::eventually("what it had under way in the database is over", || async {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
                        AND pid <> pg_backend_pid()";
        database.count(busy).await == 0
    })
    .await;
    database.sql.execute("UPDATE outbox SET created_at = now() - interval '1 hour'", &[]).await.unwrap();
    database
        .sql
        .execute(
            "UPDATE workers SET seen_at = now() - interval '90 seconds', next_turn_at = now() - interval '88 seconds'",
            &[],
        )
        .await
        .unwrap();
    snapshot("status-ill", &run(operator(), &["status"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_without_rabbitmq_tells_the_rest_and_which_addresses_were_tried() {
    let (database, _store) = TestDatabase::migrated("w").await;
    let nobody: SecretString = "amqp://me:hunter2@127.0.0.1:1,amqp://me:hunter2@127.0.0.1:2/v".to_owned().into();
    let shown = run(operator(Some(&database), Some(&nobody)), &["status"]).await;
    assert!(shown.starts_with("exit: 4\n") && shown.contains("deployments pending"), "{shown}");
    assert!(shown.contains("amqp://127.0.0.1:1:") && shown.contains("amqp://127.0.0.1:2/v:"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_cannot_take_needs_a_look_and_is_resent_or_dropped_by_number() {
    let (database, store) = TestDatabase::migrated("w").await;
    let nobody: SecretString = "amqp://me:hunter2@127.0.0.1:1".to_owned().into();
    let operator = || operator(Some(&database), Some(&nobody));
    let insert = "INSERT INTO outbox (message_id, type, exchange, routing_key, body, must_route, breaks, set_aside_at,
                      set_aside_because)
                  VALUES ('m', 'result', 'slipway.events', 'result.shop.failed', 'body', true, 3, now(), 'too large')
                  RETURNING position";
    let mut numbers = Vec::new();
    for _ in 0..2 {
        numbers.push(database.sql.query_one(insert, &[]).await.unwrap().get::<_, i64>(0).to_string());
    }
    let status = json_of(operator(), &["status"]).await;
    assert_eq!((&status["outbox"]["set_aside"], &status["outbox"]["depth"]), (&json!(2), &json!(0)), "{status}");
    assert!(status["problems"].to_string().contains("slipway outbox list"), "{status}");
    snapshot("outbox-list", &run(operator(), &["outbox", "list"]).await);
    let listed = json_of(operator(), &["outbox", "list"]).await;
    assert_eq!((&listed[0]["why"], &listed[0]["body_bytes"]), (&json!("too large"), &json!(4)), "{listed}");

    assert!(run(operator(), &["outbox", "resend", &numbers[0]]).await.starts_with("exit: 0\n"));
    assert_eq!(store.backlog().await.unwrap().depth, 1);
    let unexplained = run(operator(), &["outbox", "drop", &numbers[1]]).await;
    assert!(unexplained.starts_with("exit: 2\n") && unexplained.contains("--why"), "{unexplained}");
    let drop = ["outbox", "drop", &numbers[1], "--why", "nobody needs it"];
    assert!(run(operator(), &drop).await.starts_with("exit: 0\n"));
    let again = run(operator(), &drop).await;
    assert!(again.starts_with("exit: 2\n") && again.contains("slipway outbox list"), "{again}");
    assert_eq!(json_of(operator(), &["outbox", "list"]).await, json!([]));
}
