//! Many requests at once over few servers: no server is overfilled, no port is given away twice, and nothing stays set aside.

use slipway_protocol::{ErrorCode, Failure, Stage};
use slipway_worker::scheduler::Limits;
use slipway_worker::store::ClaimOptions;

use super::*;

const SERVERS: u32 = 10;
const REQUESTS: u32 = 200;

fn failed() -> DeploymentEnd {
    let failure = Failure::new(ErrorCode::StartFailed, Some(Stage::Compose), "x");
    DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" }
}

/// What must hold at any moment: of each server's memory and disk no more is set aside than there is.
async fn assert_room(database: &TestDatabase) {
    let overfilled = "SELECT count(*) FROM server_facts f JOIN (
                          SELECT server, sum(ram_mb) AS ram, sum(disk_mb) AS disk FROM reservations GROUP BY server) r USING (server)
                      WHERE r.ram + 128 > f.free_ram_mb OR r.disk + 2048 > f.free_disk_mb";
    assert_eq!(database.count(overfilled).await, 0);
    let doubled = "SELECT count(*) FROM (
                       SELECT d.server, a ->> 'host_port' FROM deployments d,
                           jsonb_array_elements(d.request #> '{data,allocations}') a
                       WHERE d.state IN ('pending', 'running', 'succeeded') AND d.server IS NOT NULL
                       GROUP BY 1, 2 HAVING count(DISTINCT d.project_id) > 1) twice";
    assert_eq!(database.count(doubled).await, 0, "a port belongs to two projects");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_requests_at_once_overfill_no_server_and_share_no_port() {
    let (database, store) = TestDatabase::migrated("w").await;
    // 512 MiB each: 7 find room on a server with 4096 MiB, and 15 on one with 8192.
    for number in 0..SERVERS {
        add_server(&database, &store, &format!("vps-{number}"), &facts(if number % 2 == 0 { 4096 } else { 8192 }))
            .await;
    }
    let (mut coming, mut placing) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    let (done, is_done) = tokio::sync::watch::channel(false);
    for number in 0..4 {
        let (store, mut is_done) = (database.store(&format!("w{number}")), is_done.clone());
        // Four workers give servers to whatever waits, while it comes and once more when all have come.
        placing.spawn(async move {
            while !*is_done.borrow_and_update() {
                place(&store, &limits()).await;
            }
            place(&store, &limits()).await;
        });
    }
    for number in 0..REQUESTS {
        let store = database.store(&format!("i{}", number % 4));
        coming.spawn(async move { accept(&store, &unplaced(|_| {})).await });
    }
    while let Some(came) = coming.join_next().await {
        came.unwrap();
    }
    done.send_replace(true);
    while let Some(placed) = placing.join_next().await {
        placed.unwrap();
    }
    assert_room(&database).await;
    let placed = "SELECT count(*) FROM deployments WHERE server IS NOT NULL";
    assert_eq!(database.count(placed).await, 5 * 7 + 5 * 15, "as many as there is room for");
    let spread = "SELECT count(*) FROM (SELECT server FROM reservations GROUP BY server) s";
    assert_eq!(database.count(spread).await, i64::from(SERVERS));

    // Every third fails; the room of those goes to who waits, whose servers haven't been asked meanwhile.
    let options =
        ClaimOptions { limits: Limits { per_server: 1000, per_registry: 1000, ..Limits::default() }, ..LONG.into() };
    let mut number = 0;
    while let Some(claim) = store.claim(options.clone()).await.unwrap() {
        number += 1;
        end(&store, &claim, if number % 3 == 0 { failed() } else { DeploymentEnd::Succeeded { url: None } }).await;
        if number % 20 == 0 {
            place(&store, &limits()).await;
            assert_room(&database).await;
        }
    }
    assert!(number > 130, "only {number} got room");
    // Who waits on ends, and then nothing is set aside any more.
    let none = PlacementLimits { wait: Duration::ZERO, ..limits() };
    place(&store, &none).await;
    while let Some(claim) = store.claim(options.clone()).await.unwrap() {
        end(&store, &claim, failed()).await;
    }
    assert_eq!(database.count("SELECT count(*) FROM deployments WHERE state IN ('pending', 'running')").await, 0);
    assert_eq!(database.count("SELECT count(*) FROM reserved_ports").await, 0);
    assert_eq!(database.count("SELECT count(*) FROM reservations WHERE succeeded_at IS NULL").await, 0);
    for number in 0..SERVERS {
        tell(&store, &format!("vps-{number}"), &facts(1024)).await;
    }
    assert_eq!(database.count("SELECT count(*) FROM reservations").await, 0, "what succeeded is among what was seen");
    let results =
        "SELECT count(*) FROM deployments WHERE result -> 'placement' IS NULL OR result ->> 'outcome' IS NULL";
    assert_eq!(database.count(results).await, 0, "each result tells how it was placed");
}
