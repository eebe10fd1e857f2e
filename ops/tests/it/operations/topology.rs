//! RabbitMQ: declaring, comparing, publishing.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use slipway_protocol::topology;
use slipway_worker::amqp;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_reported_then_declared_and_a_second_time_is_harmless() {
    let (amqp, (database, _store)) = (vhost(), TestDatabase::migrated("w").await);
    let operator = || operator(Some(&database), Some(&amqp));
    snapshot("topology-missing", &run(operator(), &["topology", "check"]).await);
    let mut submit = operator();
    submit.write_stdin(sample());
    snapshot("submit-without-exchange", &run(submit, &["submit", "-"]).await);
    snapshot("topology-apply", &run(operator(), &["topology", "apply"]).await);
    snapshot("topology-apply-again", &run(operator(), &["topology", "apply"]).await);
    snapshot("topology-complete", &run(operator(), &["topology", "check"]).await);
    assert_eq!(json_of(operator(), &["topology", "check"]).await, json!({ "problems": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_explained_and_left_alone() {
    let amqp = vhost();
    let link = broker(&amqp, "test").connect("test").await.unwrap();
    let channel = link.channel().await.unwrap();
    amqp::declare(&channel).await.unwrap();
    let queue = topology::DEPLOYMENTS_QUEUE;
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();

    let operator = || operator(None, Some(&amqp));
    snapshot("topology-differs", &run(operator(), &["topology", "check"]).await);
    snapshot("topology-apply-refused", &run(operator(), &["topology", "apply"]).await);
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_event_reaches_the_queue_byte_for_byte() {
    let (amqp, (database, _store)) = (vhost(), TestDatabase::migrated("w").await);
    let link = broker(&amqp, "test").connect("test").await.unwrap();
    amqp::declare(&link.channel().await.unwrap()).await.unwrap();
    let mut submit = operator(Some(&database), Some(&amqp));
    submit.write_stdin(sample());
    snapshot("submit", &run(submit, &["submit", "-"]).await);

    let mut queue = amqp::consume(&link, topology::DEPLOYMENTS_QUEUE, 1).await.unwrap();
    let delivered = tokio::time::timeout(Duration::from_secs(20), queue.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(delivered.incoming.body, sample());
    assert_eq!(delivered.incoming.routing_key, "slipway.project.ready.v1");
    assert_eq!(delivered.incoming.content_type.as_deref(), Some("application/cloudevents+json"));
    assert!(delivered.incoming.headers.contains_key("traceparent"), "{:?}", delivered.incoming.headers);
}
