//! A message that the AMQP client itself can't read: the connection breaks at it, wherever it's delivered. RabbitMQ
//! doesn't check, other producers can send it, and it must harm nobody else's deployment.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use slipway_protocol::topology;
use slipway_tests::bus::{Bus, Message};
use slipway_tests::stack::Stack;
use slipway_tests::world::eventually;

/// As many as are delivered together with the unreadable one.
const OTHERS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(180);

fn request(id: usize) -> Message {
    let event: Value = json!({
        "specversion": "1.0", "id": format!("e-{id}"), "source": "/orchestrator", "type": "slipway.project.ready.v1",
        "data": {
            "project": { "id": uuid::Uuid::new_v4(), "slug": format!("shop-{id}") },
            "repository": { "name": "acme/shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main" },
            "server": { "handle": "nowhere", "address": "127.0.0.1", "ssh_port": 1 },
            "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
            "modules": ["backend"],
        },
    });
    Message::structured(event.to_string())
}

/// Waits for that many messages in the queue.
async fn waiting(url: &str, queue: &str, count: u32) {
    let bus = Bus::connect(url).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let there = bus.waiting(queue).await.unwrap();
        if there == count {
            return;
        }
        assert!(there < count && Instant::now() < deadline, "{there} in {queue}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn check_all_taken_in(stack: &Stack) -> Result<()> {
    let list: Vec<Value> = serde_json::from_str(&stack.slipway(&["deployments", "list", "--json"])?)?;
    ensure!(list.len() == OTHERS, "only {} are taken in", list.len());
    Ok(())
}

#[test]
fn a_message_that_amqp_itself_cant_read_becomes_a_dead_letter_and_takes_no_other_with_it() {
    let mut stack = Stack::start(0).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/unreadable.py");
    let mut python = stack.world.command(&stack.world.cache().python().display().to_string());
    let published = python.arg(script).arg(stack.world.amqp_url()).output().unwrap();
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let url = stack.world.amqp_url();
    let others: Vec<Message> = (0..OTHERS).map(request).collect();
    let publish = async { Bus::connect(url).await?.publish(&others.iter().collect::<Vec<_>>()).await };
    stack.world.block_on(publish).unwrap().unwrap();

    stack.worker(&[]).unwrap();
    eventually("all others are taken in", PATIENCE, || check_all_taken_in(&stack)).unwrap();
    // The others' server can't be reached: each ends as the worker's dead letter, the unreadable one as the broker's.
    let all = u32::try_from(OTHERS).unwrap() + 1;
    stack.world.block_on(waiting(url, topology::DEAD_LETTERS_QUEUE, all)).unwrap();
    // The workers can't ingest that one either: the broker sets it aside, and what comes after it gets its turn.
    stack.world.block_on(waiting(url, topology::PARKED_QUEUE, 1)).unwrap();
    let stray = Message::structured("stray");
    let publish = async { Bus::connect(url).await?.publish_to(topology::DEAD_LETTER_EXCHANGE, &[&stray]).await };
    stack.world.block_on(publish).unwrap().unwrap();
    eventually("what came after it is ingested", PATIENCE, || {
        let listed = stack.slipway(&["dead-letters", "list", "--code", "unexplained-dead-letter", "--json"])?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        ensure!(listed.len() == 1, "{listed:?}");
        Ok(())
    })
    .unwrap();
    let log = stack.running(0).log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.contains("a dead letter can't be read"), "{log}");
    eventually("the worker is ready", PATIENCE, || {
        let answer = stack.world.get("http://127.0.1.1:9090/readyz")?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(())
    })
    .unwrap();
}
