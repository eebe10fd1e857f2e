//! Servers and registries, filled to their limits and not above.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{LONG, accept, claimed_by_eight, succeed, terms};
use crate::services::test_worker::migrated;

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_is_exceeded_by_eight_workers_that_claim_at_once() {
    let (database, store) = migrated("w").await;
    for server in 0..6 {
        for _ in 0..4 {
            accept(&store, &format!("vps-{server}")).await;
        }
    }
    let terms = terms(2, 5, "registry.example");
    let held: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let workers = (0..8).map(|i| {
        let (store, terms, held) = (database.store(&format!("w{i}")), terms.clone(), held.clone());
        tokio::spawn(async move {
            while store.deployments(&Default::default(), 24).await.unwrap().iter().any(|d| !d.state.is_terminal()) {
                let Some(claim) = store.claim(terms.clone()).await.unwrap() else { continue };
                let server = claim.lease.server.to_string();
                {
                    let mut held = held.lock().unwrap();
                    *held.entry(server.clone()).or_default() += 1;
                    assert!(held.values().all(|n| *n <= 2) && held.values().sum::<u32>() <= 5, "{held:?}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                *held.lock().unwrap().get_mut(&server).unwrap() -= 1;
                succeed(&store, &claim.lease).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_and_servers_are_filled_to_their_limits_and_a_lost_lease_makes_room() {
    let (database, store) = migrated("w").await;
    for i in 0..20 {
        accept(&store, &format!("vps-{}", i % 5)).await;
    }
    assert_eq!(claimed_by_eight(&database, &terms(2, 3, "a.example")).await.len(), 3);
    // Another registry has room of its own, and what is left of the servers'.
    assert_eq!(claimed_by_eight(&database, &terms(2, 99, "b.example")).await.len(), 7);
    assert_eq!(claimed_by_eight(&database, &terms(3, 3, "a.example")).await.len(), 0);
    database.sql.execute("UPDATE project_leases SET expires_at = now() WHERE server = 'vps-0'", &[]).await.unwrap();
    assert_eq!(claimed_by_eight(&database, &terms(2, 99, "c.example")).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_registry_holds_up_nothing_that_pulls_no_images() {
    let (database, store) = migrated("w").await;
    let terms = terms(9, 1, "a.example");
    let deploys = accept(&store, "vps-1").await;
    assert_eq!(claimed_by_eight(&database, &terms).await[0].lease.deployment, deploys);
    let (waits, stops, cancelled) =
        (accept(&store, "vps-1").await, accept(&store, "vps-1").await, accept(&store, "vps-2").await);
    let act = format!(
        "UPDATE deployments SET action = 'stop' WHERE id = '{stops}';
         UPDATE deployments SET cancel_requested_at = now() WHERE id = '{cancelled}'"
    );
    database.sql.batch_execute(&act).await.unwrap();
    let claimed = async || {
        let claims = claimed_by_eight(&database, &terms).await;
        claims.iter().map(|claim| claim.lease.deployment).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(claimed().await, [stops, cancelled].into());
    let over = format!("UPDATE deployments SET state = 'cancelled' WHERE id IN ('{deploys}', '{cancelled}')");
    database.sql.batch_execute(&over).await.unwrap();
    assert_eq!(claimed().await, [waits].into(), "what only stops takes no room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_of_a_full_server_does_not_hold_up_others() {
    let (_database, store) = migrated("w").await;
    for _ in 0..30 {
        accept(&store, "vps-full").await;
    }
    let late = accept(&store, "vps-free").await;
    let later = accept(&store, "vps-free").await;
    let mut order = Vec::new();
    while let Some(claim) = store.claim(LONG).await.unwrap() {
        order.push(claim.lease);
    }
    let servers: Vec<&str> = order.iter().map(|lease| lease.server.as_str()).collect();
    assert_eq!(servers, ["vps-full", "vps-full", "vps-free", "vps-free"]);
    assert_eq!([order[2].deployment, order[3].deployment], [late, later]);
}
