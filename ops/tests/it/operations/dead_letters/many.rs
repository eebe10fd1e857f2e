//! Many replays: at once of one dead letter, and of ten thousand.

use std::time::{Duration, Instant};

use serde_json::Value;
use slipway_protocol::ErrorCode;

use super::{Night, operator};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_replays_of_one_letter_at_once_one_sends_it() {
    let night = Night::new().await;
    let letter = night.failed("shop", ErrorCode::PortOccupied, |_| {}).await;
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut command = operator(Some(&night.database), None);
        command.args(["dead-letters", "replay", &letter.to_string(), "--json"]);
        runs.spawn_blocking(move || command.output().unwrap());
    }
    let (mut replayed, mut refused) = (0, 0);
    while let Some(output) = runs.join_next().await {
        let output = output.unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        replayed += said["replayed"].as_array().unwrap().len();
        refused += usize::from(said["errors"][0].as_str().is_some_and(|e| e.contains("isn't open any more")));
    }
    assert_eq!((replayed, refused), (1, 7));
    assert_eq!((night.sent().await.len(), night.records().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_replays_need_neither_patience_nor_memory_and_can_be_interrupted() {
    const LETTERS: i64 = 10_000;
    let night = Night::new().await;
    let template = night.failed("shop", ErrorCode::RegistryUnavailable, |_| {}).await;
    // 200 MB of bodies: they would be seen in the memory of whoever took them all.
    let copies = format!(
        "WITH d AS (INSERT INTO deployments (id, source, event_id, project_id, project_slug, server, request, state)
             SELECT gen_random_uuid(), source, 'e-' || i, gen_random_uuid(), 'shop-' || i, server, request, state
             FROM deployments, generate_series(1, {LETTERS} - 1) i WHERE id = '{template}' RETURNING id, project_slug)
         INSERT INTO dead_letters (id, deployment_id, project_slug, body, content_type, headers, reason, stage, code,
             class, message, attempts, original_exchange, original_routing_key, worker)
         SELECT d.id, d.id, d.project_slug, l.body || decode(repeat('20', 20000), 'hex'), content_type, headers, reason,
             stage, code, class, message, attempts, original_exchange, original_routing_key, worker
         FROM d, dead_letters l WHERE l.id = '{template}'"
    );
    night.database.sql.batch_execute(&copies).await.unwrap();
    // No more are looked at beforehand than somebody would read, and it says so.
    let plan = night.json("replay --code registry-unavailable --dry-run").await;
    assert_eq!((&plan["would_replay"], &plan["more"]), (&5000.into(), &true.into()));
    assert_eq!(plan["dead_letters"].as_array().unwrap().len(), 5000);
    let said = night.says("replay --code registry-unavailable --dry-run").await;
    assert!(said.contains("and more than 4950 more\nat least 5000 would be sent again\n"), "{said}");
    let said = night.says("replay --code registry-unavailable --limit 70 --dry-run").await;
    assert!(said.contains("and more than 4950 more\n70 would be sent again\n"), "{said}");
    // An interrupted one: the rest is sent by giving the same command again.
    let first = night.json("replay --code registry-unavailable --limit 1200 --rate 2000/s --yes").await;
    assert_eq!(first["replayed"].as_array().unwrap().len(), 1200);
    assert_eq!(night.open().await, LETTERS - 1200);

    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.args(["dead-letters", "replay", "--code", "registry-unavailable", "--yes"]);
    command.env("SLIPWAY_DATABASE_URL", secrecy::ExposeSecret::expose_secret(&night.database.url));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let (begun, mut child) = (Instant::now(), command.spawn().unwrap());
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let exit = loop {
        let line = std::fs::read_to_string(&status).unwrap_or_default();
        let seen = line.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(seen.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(exit) => break exit,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let took = begun.elapsed();
    assert!(exit.success() && peak > 0);
    assert!(peak < 100 * 1024 && took < Duration::from_secs(60), "{peak} kB, {took:?}");
    assert_eq!(night.open().await, 0);
    assert_eq!(night.database.count("SELECT count(*) FROM outbox WHERE exchange = 'slipway.requests'").await, LETTERS);
    assert_eq!(
        night.database.count("SELECT count(DISTINCT message_id) FROM outbox WHERE exchange = 'slipway.requests'").await,
        LETTERS
    );
    assert_eq!(night.records().await, LETTERS);
    assert_eq!(
        night.database.count("SELECT count(*) FROM outbox WHERE headers ->> 'slipway-replay-id' = message_id").await,
        LETTERS
    );
}
