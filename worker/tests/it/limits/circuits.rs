//! Servers that can't be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use slipway_deploy::StageError;
use slipway_protocol::{Change, DeploymentId, ErrorCode, Failure, Outcome, Stage};
use slipway_worker::scheduler::{Circuit, CircuitState, FAILURES_TO_OPEN, Limits, MAX_WAITS};
use slipway_worker::store::{Lease, NextAttempt, State, Store};

use super::{LONG, accept, body, claimed_by_eight, succeed, terms};
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, migrated, report,
};
use crate::services::{TestDatabase, vhost};

/// The first stage of an attempt finds nobody there; gives how long the circuit is open.
async fn no_contact(store: &Store, lease: &Lease) -> Option<Duration> {
    store.stage_started(lease, Stage::Preflight, b"").await.unwrap();
    let failure = Failure::new(ErrorCode::ServerUnreachable, Some(Stage::Preflight), "connection refused");
    let open = store.stage_failed(lease, Stage::Preflight, &failure, LONG, false).await.unwrap();
    let repeated = store.stage_failed(lease, Stage::Preflight, &failure, LONG, false).await.unwrap();
    assert_eq!(open.is_some(), repeated.is_some(), "a call that is repeated counts once");
    match open {
        Some(open) => store.wait_for_server(lease, failure, open).await.unwrap(),
        None => store.retry(lease, failure, Duration::ZERO).await.unwrap(),
    };
    open
}

async fn circuit(store: &Store, server: &str) -> Option<(Circuit, CircuitState)> {
    store.circuits().await.unwrap().get(&server.parse().unwrap()).copied()
}

/// Lets the cool-down of every circuit pass.
async fn cool_down(database: &TestDatabase) {
    database.sql.execute("UPDATE server_circuits SET open_until = now()", &[]).await.unwrap();
}

/// Opens the circuit of `server` by the attempts of one deployment.
async fn open_circuit(store: &Store, server: &str) -> DeploymentId {
    let id = accept(store, server).await;
    for failure in 1..=FAILURES_TO_OPEN {
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!(claim.lease.deployment, id);
        assert_eq!(no_contact(store, &claim.lease).await.is_some(), failure == FAILURES_TO_OPEN);
    }
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_is_probed_by_one_attempt_at_a_time_until_it_answers() {
    let (database, store) = migrated("w").await;
    for _ in 0..3 {
        accept(&store, "vps-dead").await;
    }
    for _ in 0..FAILURES_TO_OPEN {
        let claim = store.claim(LONG).await.unwrap().unwrap();
        no_contact(&store, &claim.lease).await;
    }
    let (opened, gate) = circuit(&store, "vps-dead").await.unwrap();
    assert!(opened.failures == FAILURES_TO_OPEN && matches!(gate, CircuitState::Open(_)), "{opened:?}");
    let other = accept(&store, "vps-well").await;
    let claims = claimed_by_eight(&database, &terms(2, 99, "")).await;
    assert_eq!(claims.iter().map(|c| c.lease.deployment).collect::<Vec<_>>(), [other], "others go on");

    cool_down(&database).await;
    let probes = claimed_by_eight(&database, &terms(2, 99, "")).await;
    assert_eq!(probes.len(), 1);
    // Its worker dies: the next one probes.
    database.sql.execute("UPDATE project_leases SET expires_at = now()", &[]).await.unwrap();
    while store.reap(10).await.unwrap().is_some() {}
    let probes: Vec<_> = claimed_by_eight(&database, &terms(1, 99, "")).await;
    let probes: Vec<_> = probes.iter().filter(|c| c.lease.server.as_str() == "vps-dead").collect();
    assert_eq!(probes.len(), 1);
    no_contact(&store, &probes[0].lease).await;
    let (longer, gate) = circuit(&store, "vps-dead").await.unwrap();
    assert!(longer.failures == FAILURES_TO_OPEN + 1 && matches!(gate, CircuitState::Open(_)), "{longer:?}");
    assert_eq!(longer.since, opened.since);

    cool_down(&database).await;
    let probe = claimed_by_eight(&database, &terms(2, 99, "")).await.remove(0);
    store.stage_started(&probe.lease, Stage::Preflight, b"").await.unwrap();
    let unfit = Failure::new(ErrorCode::PortOccupied, Some(Stage::Preflight), "somebody else's");
    store.stage_failed(&probe.lease, Stage::Preflight, &unfit, LONG, false).await.unwrap();
    assert!(circuit(&store, "vps-dead").await.is_some(), "it failed for a reason of its own, before it connected");
    store.stage_failed(&probe.lease, Stage::Preflight, &unfit, LONG, true).await.unwrap();
    assert_eq!(circuit(&store, "vps-dead").await, None, "a server that is unfit is there all the same");
    assert_eq!(claimed_by_eight(&database, &terms(2, 99, "")).await.len(), 1, "up to the limit, with the probe");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_rate_limit_costs_no_attempt_and_is_not_over_at_once() {
    let (database, store) = migrated("w").await;
    let id = accept(&store, "vps-well").await;
    for waits in 1..=2 {
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!((claim.attempt, claim.waits), (1, waits - 1));
        let failure = Failure::new(ErrorCode::RegistryRateLimited, Some(Stage::Compose), "no more pulls");
        let next = NextAttempt::Uncounted(Duration::from_secs(600));
        store.schedule_attempt(&claim.lease, failure, next).await.unwrap();
        let deployment = store.deployment(id).await.unwrap().unwrap();
        assert_eq!((deployment.state, deployment.attempt), (State::Pending, 0));
        assert!(store.claim(LONG).await.unwrap().is_none(), "not before the pause has passed");
        database.sql.execute("UPDATE deployments SET run_at = now()", &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_dead_server_costs_no_attempt_and_others_take_their_turn() {
    let (database, store) = migrated("w").await;
    let first = open_circuit(&store, "vps-dead").await;
    let second = accept(&store, "vps-dead").await;
    for probe in [first, second, first] {
        cool_down(&database).await;
        let claim = store.claim(LONG).await.unwrap().unwrap();
        assert_eq!(claim.lease.deployment, probe, "a probe that failed goes behind the others");
        assert!(no_contact(&store, &claim.lease).await.is_some());
    }
    // Two failures before the circuit opened were attempts, all others were not.
    let deployment = store.deployment(first).await.unwrap().unwrap();
    assert_eq!((deployment.state, deployment.attempt), (State::Pending, FAILURES_TO_OPEN - 1));
    let scheduled = store.events(first, 0).await.unwrap();
    let scheduled = &scheduled.last().unwrap().event["data"];
    assert_eq!((&scheduled["kind"], &scheduled["attempt"]), (&"attempt_scheduled".into(), &FAILURES_TO_OPEN.into()));
    let waits = database.count("SELECT sum(waits) FROM deployments").await;
    assert!((1..i64::from(MAX_WAITS)).contains(&waits));
    // Somebody corrects the inventory.
    let record = slipway_worker::store::ServerRecord {
        handle: "vps-dead".parse().unwrap(),
        address: "203.0.113.11".parse().unwrap(),
        ssh_port: slipway_protocol::names::Port::new(22).unwrap(),
        ssh_user: "root".parse().unwrap(),
        host_key: None,
        trust_on_first_use: false,
        ssh_key_enc: None,
        notes: None,
        front_door: None,
    };
    store.put_server(&record, &slipway_worker::store::Operator::new("ada", None)).await.unwrap();
    assert_eq!(claimed_by_eight(&database, &terms(2, 99, "")).await.len(), 2, "what was known is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_waited_for_too_long_is_given_up_once_a_probe_has_failed_again() {
    let (database, store) = migrated("w").await;
    let tried = open_circuit(&store, "vps-dead").await;
    let untried = accept(&store, "vps-dead").await;
    let well = accept(&store, "vps-well").await;
    let limits = Limits::default();
    assert_eq!(store.give_up_unreachable(&limits).await.unwrap(), None);
    database.sql.execute("UPDATE deployments SET accepted_at = now() - interval '61 min'", &[]).await.unwrap();
    let fresh = accept(&store, "vps-dead").await;
    assert_eq!(store.give_up_unreachable(&limits).await.unwrap(), None, "the outage is short");
    database.sql.execute("UPDATE server_circuits SET since = now() - interval '61 min'", &[]).await.unwrap();
    assert_eq!(store.give_up_unreachable(&limits).await.unwrap(), Some(tried));
    assert_eq!(store.give_up_unreachable(&limits).await.unwrap(), Some(untried));
    assert_eq!(
        store.give_up_unreachable(&limits).await.unwrap(),
        None,
        "{fresh} has waited for a moment, {well} needn't"
    );
    for (id, attempts, stage) in [(tried, FAILURES_TO_OPEN - 1, "preflight"), (untried, 0, "engine")] {
        let deployment = store.deployment(id).await.unwrap().unwrap();
        assert_eq!(deployment.state, State::Ended(Outcome::Failed));
        let failure = deployment.result.unwrap().failure.unwrap();
        assert_eq!(failure.code, ErrorCode::ServerUnreachable);
        assert!(failure.message.starts_with("the server couldn't be reached for 3600 s or longer"), "{failure:?}");
        let letter = store.dead_letter(id.0).await.unwrap().unwrap();
        assert_eq!((letter.reason.as_str(), letter.stage.as_str(), letter.attempts), ("exhausted", stage, attempts));
    }
    database.sql.execute("UPDATE deployments SET accepted_at = now() - interval '61 min'", &[]).await.unwrap();
    cool_down(&database).await;
    assert_eq!(store.give_up_unreachable(&limits).await.unwrap(), None, "somebody probes first");
}

/// The median time of 30 claims, all on `server`.
async fn median_claim(store: &Store, server: &str) -> Duration {
    let mut took = Vec::new();
    for _ in 0..30 {
        let begun = Instant::now();
        let claim = store.claim(LONG).await.unwrap().unwrap();
        took.push(begun.elapsed());
        assert_eq!(claim.lease.server.as_str(), server);
        succeed(store, &claim.lease).await;
    }
    took.sort();
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_stays_quick_behind_ten_thousand_deployments_of_dead_servers() {
    let (database, store) = migrated("w").await;
    accept(&store, "vps-first").await;
    let row = "source, event_id, project_id, repository, commit_sha, request, body, state";
    let insert = |server: &str, count: u32| {
        format!(
            "INSERT INTO deployments (id, server, project_slug, run_at, {row})
             SELECT gen_random_uuid(), {server}, 'p' || i, now() - ({count} + 60 - i) * interval '1 s', {row}
             FROM deployments, generate_series(1, {count}) i WHERE server = 'vps-first' ORDER BY i;"
        )
    };
    database.sql.batch_execute(&insert("'vps-few'", 30)).await.unwrap();
    let alone = median_claim(&store, "vps-few").await;
    let dead = "INSERT INTO server_circuits
                SELECT 'vps-' || i, 3, now(), now() + interval '1 h' FROM generate_series(0, 198) i";
    database.sql.batch_execute(&(insert("'vps-' || i % 200", 10_000) + dead)).await.unwrap();
    let behind = median_claim(&store, "vps-199").await;
    // Both are slow on a busy machine; looking at each row that waits would cost many times as much.
    assert!(behind < alone * 4 + Duration::from_millis(200), "{alone:?} alone, {behind:?} behind ten thousand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_connections_is_skipped_while_others_go_on_and_is_back_soon() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let up = Arc::new(AtomicBool::new(false));
    let is_up = up.clone();
    let pipeline = ScriptedStages::new(move |call| {
        let dead = call.work.target.handle.as_str() == "vps-dead" && !is_up.load(Ordering::SeqCst);
        async move {
            match dead {
                true => Err(StageError::new(ErrorCode::ServerUnreachable, "connection refused")),
                false => Ok(report(Change::Changed)),
            }
        }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
    for _ in 0..3 {
        outside.publish(&body("vps-dead")).await;
    }
    eventually("the circuit is open", || async {
        matches!(circuit(&store, "vps-dead").await, Some((_, CircuitState::Open(_))))
    })
    .await;
    let on_dead =
        async || database.count("SELECT sum(attempt + waits) FROM deployments WHERE server = 'vps-dead'").await;
    database.sql.execute("UPDATE server_circuits SET open_until = now() + interval '1 h'", &[]).await.unwrap();
    eventually("nothing runs", || async {
        database.count("SELECT count(*) FROM deployments WHERE state = 'running'").await == 0
    })
    .await;
    // Once more: what ran meanwhile has opened it anew, for a shorter time.
    database.sql.execute("UPDATE server_circuits SET open_until = now() + interval '1 h'", &[]).await.unwrap();
    let tried = on_dead().await;
    assert!(tried >= i64::from(FAILURES_TO_OPEN), "{tried}");
    for _ in 0..4 {
        outside.publish(&body("vps-well")).await;
        let result = outside.result().await;
        assert_eq!((&result["data"]["server"], &result["data"]["outcome"]), (&"vps-well".into(), &"succeeded".into()));
    }
    assert_eq!(on_dead().await, tried, "nobody tries while it's open");
    cool_down(&database).await;
    eventually("a probe has failed", || async {
        matches!(circuit(&store, "vps-dead").await, Some((c, CircuitState::Open(_))) if c.failures > FAILURES_TO_OPEN)
    })
    .await;
    assert!(on_dead().await > tried);

    up.store(true, Ordering::SeqCst);
    cool_down(&database).await;
    for _ in 0..3 {
        let result = outside.result().await;
        assert_eq!((&result["data"]["server"], &result["data"]["outcome"]), (&"vps-dead".into(), &"succeeded".into()));
    }
    assert_eq!(circuit(&store, "vps-dead").await, None);
    worker.stop().await;
}
