//! The contract's edges: attributes of events in the types that AMQP has for them, and numbers that no type of ours holds.

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use slipway_protocol::{Change, topology};

use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, migrated, report, request};
use crate::services::{broker, vhost};

/// The headers of an event in binary mode, whose time stands in `time`.
fn binary_headers(event: &Value, time: AMQPValue) -> FieldTable {
    let mut headers = FieldTable::default();
    for name in ["specversion", "source", "type", "id"] {
        let text = event[name].as_str().unwrap_or_default();
        headers.insert(format!("cloudEvents_{name}").into(), AMQPValue::LongString(text.into()));
    }
    headers.insert("cloudEvents_time".into(), time);
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_as_amqp_or_a_count_has_it_is_read_and_an_old_event_is_not_deployed() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let done = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &amqp, done, WorkerOptions::default());
    let link = broker(&amqp, "outside").connect("test").await.unwrap();
    let channel = link.channel().await.unwrap();
    let now = jiff::Timestamp::now().as_second();
    let old = now - 10 * 86_400;
    let unsigned = |seconds: i64| u64::try_from(seconds).unwrap();
    for (time, code) in [
        (AMQPValue::Timestamp(unsigned(old)), Some("expired-event")),
        (AMQPValue::LongLongInt(old), Some("expired-event")),
        (AMQPValue::LongLongInt(old * 1000), Some("expired-event")),
        (AMQPValue::LongInt(i32::try_from(old).unwrap()), Some("expired-event")),
        (AMQPValue::LongString(old.to_string().into()), Some("expired-event")),
        (AMQPValue::Timestamp(u64::MAX), Some("invalid-field")),
        (AMQPValue::LongLongInt(-1), Some("expired-event")),
        (AMQPValue::Boolean(true), Some("invalid-field")),
        (AMQPValue::Timestamp(unsigned(now)), None),
        (AMQPValue::LongLongInt(now * 1000), None),
    ] {
        let body = request(|event| {
            event["data"].as_object_mut().unwrap().remove("sequence");
        });
        let event: Value = serde_json::from_slice(&body).unwrap();
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_headers(binary_headers(&event, time.clone()));
        let (exchange, key) = (topology::REQUESTS, "slipway.project.ready.v1");
        let data = event["data"].to_string();
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange.into(), key.into(), options, data.as_bytes(), properties).await.unwrap();
        let result = outside.result().await;
        assert_eq!(result["data"]["failure"]["code"].as_str(), code, "{time:?}: {result:#}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_a_correlation_come_back_as_they_were_sent() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let done = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &amqp, done, WorkerOptions::default());
    let numbers = "[12345678901234567890123,-9007199254740993,18446744073709551616,0.1000,3.141592653589793238462643]";
    let body = request(|event| event["data"]["correlation"] = serde_json::json!({ "numbers": "here" }));
    let body = String::from_utf8(body).unwrap().replace("\"here\"", numbers);
    outside.publish(body.as_bytes()).await;
    loop {
        let event = outside.event().await;
        assert_eq!(event["data"]["correlation"]["numbers"].to_string(), numbers);
        if event["type"] == "slipway.deployment.result.v1" {
            assert_eq!(event["data"]["outcome"], "succeeded");
            break;
        }
    }
    let stored = store.deployments(&Default::default(), 1).await.unwrap().remove(0).result.unwrap();
    assert_eq!(stored.correlation["numbers"].to_string(), numbers, "in the database too");
    // What no database keeps is refused before anything of it is read.
    outside.publish(body.replace("0.1000", "1e-99999").as_bytes()).await;
    assert_eq!(outside.dead_letter().await.headers["dlq-error-code"], "invalid-field");
    worker.stop().await;
}
