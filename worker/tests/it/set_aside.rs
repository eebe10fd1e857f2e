//! What the broker can't take: it's put aside, everything else goes out, and an operator sends it again or drops it.

use secrecy::SecretString;
use slipway_protocol::{Change, Stage, topology};
use slipway_worker::store::{Operator, Store};

use crate::services::TestDatabase;
use crate::services::rabbit::{Rabbit, url};
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report, request,
};

/// As a worker of an older version has written it: with a header that no frame has room for.
async fn dead_letter_with(header_bytes: usize, database: &TestDatabase) -> i64 {
    let insert = format!(
        "INSERT INTO outbox (message_id, type, exchange, routing_key, headers, body, must_route)
         VALUES ('m', '', '{}', 'k', jsonb_build_object('dlq-error-message', repeat('x', {header_bytes})), 'body', true)
         RETURNING position",
        topology::DEAD_LETTER_EXCHANGE
    );
    database.sql.query_one(&insert, &[]).await.unwrap().get(0)
}

async fn aside(store: &Store) -> Vec<(i64, String)> {
    let messages = store.set_aside_messages(10).await.unwrap();
    messages.into_iter().map(|message| (message.position, message.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_cannot_take_is_put_aside_and_everything_else_goes_out() {
    let start = || Rabbit::with(|_| "max_message_size = 32768\n".to_owned());
    let rabbit = tokio::task::spawn_blocking(start).await.unwrap();
    let amqp: SecretString = url(rabbit.port(), 0);
    let (database, store) = migrated("w").await;
    let mut outside = TestClient::new(&amqp).await;
    let letter = dead_letter_with(200_000, &database).await;
    // Its lines are one event, which is larger than this broker allows.
    let pipeline = ScriptedStages::new(|call| async move {
        if call.stage == Stage::Compose {
            (0..10).for_each(|_| call.reporter.line(Stage::Compose, &"y".repeat(4000)));
        }
        Ok(report(Change::Changed))
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    for _ in 0..2 {
        outside.publish(&request(|_| {})).await;
    }
    for _ in 0..2 {
        assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    }
    eventually("nothing waits", || async { store.backlog().await.unwrap().depth == 0 }).await;
    let found = aside(&store).await;
    assert_eq!((found.len(), store.backlog().await.unwrap().set_aside), (3, 3), "{found:?}");
    assert_eq!(found[0].0, letter);
    assert!(found[0].1.contains("131072"), "{found:?}");
    assert!(found[1].1.contains("larger than configured max size"), "{found:?}");
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE breaks > 0 AND published_at IS NOT NULL").await, 0);

    // Repaired, it goes out; what isn't, is put aside anew.
    assert!(store.resend_set_aside(found[1].0, &Operator::new("ada", None)).await.unwrap());
    let mend = "UPDATE outbox SET headers = '{\"dlq-error-message\": \"short\"}' WHERE sequence IS NULL";
    database.sql.execute(mend, &[]).await.unwrap();
    assert!(store.resend_set_aside(letter, &Operator::new("ada", None)).await.unwrap());
    assert_eq!(outside.dead_letter().await.headers["dlq-error-message"], "short");
    eventually("two are aside", || async { aside(&store).await.len() == 2 }).await;
    let operator = Operator::new("ada", Some("nobody reads those lines"));
    for (position, _) in aside(&store).await {
        assert!(store.drop_set_aside(position, &operator).await.unwrap());
        assert!(!store.drop_set_aside(position, &operator).await.unwrap(), "it's gone already");
    }
    assert_eq!(store.backlog().await.unwrap().set_aside, 0);
    let dropped = "SELECT count(*) FROM outbox WHERE set_aside_because LIKE '%dropped by ada: nobody reads%'";
    assert_eq!(database.count(dropped).await, 2);
    worker.stop().await;
}
