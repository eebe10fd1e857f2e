//! Where a project lives it stays, with its ports; and a port that turns out to be a stranger's is left.

use slipway_protocol::{Action, ErrorCode, Failure, PlacementReason, Stage};
use slipway_worker::store::RetryOutcome;

use super::*;

/// The project of a body, for another request of it.
fn again(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["data"]["project"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_stays_where_it_lives_with_its_ports_until_it_is_taken_off() {
    let (database, store) = TestDatabase::migrated("w").await;
    add_server(&database, &store, "vps-1", &facts(4096)).await;
    let body = unplaced(|_| {});
    let first = accept(&store, &body).await;
    place(&store, &limits()).await;
    assert_eq!(
        (server_of(&store, first).await.as_deref(), ports_of(&store, first).await),
        (Some("vps-1"), vec![20_001, 20_000])
    );
    let claim = succeed(&store).await;
    assert_eq!(claim.event.data.server.unwrap().handle.as_str(), "vps-1");

    // A better server, and ports that are in use: by the project itself.
    add_server(&database, &store, "vps-2", &facts(8000)).await;
    let busy = ServerMeasurement { ports: [20_000, 20_001].into(), ..facts(100) };
    tell(&store, "vps-1", &busy).await;
    let second = accept(&store, &unplaced(|event| event["data"]["project"] = again(&body))).await;
    place(&store, &limits()).await;
    assert_eq!(server_of(&store, second).await.as_deref(), Some("vps-1"));
    assert_eq!(ports_of(&store, second).await, [20_001, 20_000]);
    let placement = store.deployment(second).await.unwrap().unwrap().placement.unwrap();
    assert_eq!(placement.reason, PlacementReason::LivesThere);
    assert_eq!(database.count("SELECT sum(ram_mb)::bigint FROM reservations WHERE succeeded_at IS NULL").await, 0);
    succeed(&store).await;

    // Another project gets neither that server, which is full, nor, beside it, the ports.
    tell(&store, "vps-1", &facts(8192)).await;
    database.sql.execute("DELETE FROM servers WHERE handle = 'vps-2'", &[]).await.unwrap();
    let other = accept(&store, &unplaced(|_| {})).await;
    place(&store, &limits()).await;
    assert_eq!(ports_of(&store, other).await, [20_003, 20_002], "those of what serves aren't free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_request_of_a_project_that_is_being_deployed_goes_to_the_same_place() {
    let (database, store) = TestDatabase::migrated("w").await;
    add_server(&database, &store, "vps-1", &facts(2048)).await;
    let body = unplaced(|_| {});
    let first = accept(&store, &body).await;
    place(&store, &limits()).await;
    let claim = store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(claim.lease.deployment, first);
    add_server(&database, &store, "vps-2", &facts(8192)).await;
    let second = accept(&store, &unplaced(|event| event["data"]["project"] = again(&body))).await;
    place(&store, &limits()).await;
    assert_eq!(server_of(&store, second).await.as_deref(), Some("vps-1"));
    assert_eq!(ports_of(&store, second).await, ports_of(&store, first).await);
    store.finish_superseded(&claim.lease, &Default::default()).await.unwrap().unwrap();
    assert_eq!(database.count("SELECT count(*) FROM reserved_ports").await, 2, "they are the newer one's");
    succeed(&store).await;
    assert_eq!(database.count("SELECT count(*) FROM reserved_ports").await, 0);
}

fn occupied() -> Failure {
    Failure::new(ErrorCode::PortOccupied, Some(Stage::Preflight), "port 20000 is held by process nginx (pid 7)")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_a_stranger_holds_is_left_and_the_next_one_tried_some_times() {
    let (database, store) = TestDatabase::migrated("w").await;
    add_server(&database, &store, "vps-1", &facts(4096)).await;
    let given = unplaced(|event| event["data"]["allocations"][0]["host_port"] = 15432.into());
    let id = accept(&store, &given).await;
    place(&store, &limits()).await;
    for left in 0..PlacementLimits::MAX_PORTS_LEFT {
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!((claim.action, claim.attempt), (Action::Deploy, 1), "none of them counts");
        let port = 20_000 + u16::try_from(left).unwrap();
        assert_eq!(ports_of(&store, id).await, [15432, port]);
        let taken = [slipway_protocol::names::Port::new(port).unwrap()].into();
        let outcome = store.leave_ports(&claim.lease, &taken, occupied(), &limits()).await.unwrap();
        assert!(matches!(outcome, Some(RetryOutcome::At(_))), "{outcome:?}");
        let free = format!("SELECT count(*) FROM reserved_ports WHERE port = {port}");
        assert_eq!(database.count(&free).await, 0);
    }
    let claim = store.claim(LONG).await.unwrap().unwrap();
    let taken = [slipway_protocol::names::Port::new(20_008).unwrap()].into();
    assert_eq!(store.leave_ports(&claim.lease, &taken, occupied(), &limits()).await.unwrap(), None, "it's enough");
    let given = [slipway_protocol::names::Port::new(15432).unwrap()].into();
    assert_eq!(store.leave_ports(&claim.lease, &given, occupied(), &limits()).await.unwrap(), None, "it was asked for");
    end(&store, &claim, DeploymentEnd::Succeeded { url: None }).await;
    let placement = store.deployment(id).await.unwrap().unwrap().result.unwrap().placement.unwrap();
    assert_eq!(placement.left_ports.len(), PlacementLimits::MAX_PORTS_LEFT);
    assert_eq!(placement.ports[&"backend".parse().unwrap()].get(), 20_008);
    // The next project doesn't try them either.
    let other = accept(&store, &unplaced(|_| {})).await;
    place(&store, &limits()).await;
    assert_eq!(ports_of(&store, other).await, [20_010, 20_009]);
}
