//! What an attempt believes of a server: its key, its fence, and what an earlier attempt did there.

use std::sync::Arc;

use slipway_deploy::StageError;
use slipway_protocol::names::HostKey;
use slipway_protocol::{Change, ErrorCode, Outcome, Stage};
use slipway_worker::store::{ServerRecord, State};
use tokio::sync::Notify;

use super::id_of;
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, migrated, report, request};
use crate::services::vhost;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shows_another_key_than_the_one_just_pinned_is_left_at_once() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let key = |name: &str| HostKey::new(format!("ssh-ed25519 {name}")).unwrap();
    let pinning = store.clone();
    let pipeline = ScriptedStages::new(move |call| {
        let pinning = pinning.clone();
        async move {
            if call.stage == Stage::Clone {
                // Two workers at once, and somebody between one of them and the server.
                let target = &call.work.target;
                let server = ServerRecord {
                    handle: target.handle.clone(),
                    address: target.address.clone(),
                    ssh_port: target.ssh_port,
                    ssh_user: target.ssh_user.clone(),
                    host_key: None,
                    trust_on_first_use: true,
                    ssh_key_enc: None,
                    notes: None,
                    front_door: None,
                };
                assert!(pinning.pin_host_key(&server, &key("pinned"), None).await.unwrap());
                call.reporter.host_key_learned(&key("another"));
                call.cancel.cancelled().await;
            }
            Ok(report(Change::Changed))
        }
    });
    let worker = TestWorker::start(store, &amqp, pipeline.clone(), WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let failure = &result["data"]["failure"];
    assert_eq!((&failure["code"], &result["data"]["attempts"]), (&"host-key-mismatch".into(), &1.into()), "{result}");
    assert_eq!(pipeline.calls.lock().unwrap().last(), Some(&(1, Stage::Clone)));
    assert_eq!(*pipeline.settled.lock().unwrap(), [], "nothing more is done there");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_attempt_skips_what_is_proven_and_the_deployment_still_has_changed() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let failing_once = ScriptedStages::new(|call| async move {
        match (call.stage, call.attempt) {
            (Stage::Verify, 1) => Err(StageError::new(ErrorCode::ServerUnreachable, "it's away for a moment")),
            (Stage::Clone | Stage::Env, 1) => Ok(report(Change::Changed).fact("proof", "ab12")),
            _ => Ok(report(Change::Unchanged)),
        }
    });
    let pipeline = failing_once.proving(&[Stage::Clone, Stage::Env]);
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    let result = outside.result().await;
    assert_eq!(result["data"]["outcome"], "succeeded", "attempt 1 changed something: {result}");
    assert_eq!(result["data"]["stages"].as_array().unwrap().len(), 7, "the resumed ones are told as well");
    let calls = pipeline.calls.lock().unwrap().clone();
    let second: Vec<Stage> = calls.into_iter().filter(|(attempt, _)| *attempt == 2).map(|(_, stage)| stage).collect();
    assert_eq!(second, [Stage::Preflight, Stage::Compose, Stage::Firewall, Stage::Verify, Stage::Secrets]);
    let offered = pipeline.offered.lock().unwrap().clone();
    let [(2, offered)] = offered.as_slice() else { panic!("asked once, and not in the first attempt: {offered:?}") };
    assert!(offered.contains(&Stage::Clone) && offered.contains(&Stage::Compose) && !offered.contains(&Stage::Verify));
    let journal = store.journal(id_of(&body)).await.unwrap();
    let resumed: Vec<_> = journal
        .iter()
        .filter(|entry| entry.facts.as_ref().is_some_and(|f| f.get("resumed") == Some(&true.into())))
        .map(|entry| (entry.stage.as_str(), entry.outcome.as_deref(), entry.change.as_deref()))
        .collect();
    assert_eq!(resumed, [("clone", Some("done"), Some("unchanged")), ("env", Some("done"), Some("unchanged"))]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_fence_is_a_lost_lease_only_if_the_database_says_so() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let refused = || StageError::new(ErrorCode::StaleFence, "claim 9 has acted on the project");
    let pipeline = ScriptedStages::new(move |call| async move {
        assert!(call.work.lease.is_sure() && call.work.lease.fence() > 1_700_000_000, "epoch seconds at least");
        if call.stage == Stage::Clone { Err(refused()) } else { Ok(report(Change::Unchanged)) }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    // Nobody else holds the lease: somebody has to hear that this server has another master.
    assert_eq!(result["data"]["failure"]["code"], "stale-fence", "{result}");
    assert_eq!(result["data"]["attempts"], 3);
    worker.stop().await;

    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (r, p) = (reached.clone(), proceed.clone());
    let pipeline = ScriptedStages::new(move |call| {
        let (reached, proceed) = (r.clone(), p.clone());
        async move {
            if call.attempt == 1 && call.stage == Stage::Clone {
                reached.notify_one();
                proceed.notified().await;
                return Err(refused());
            }
            Ok(report(Change::Unchanged))
        }
    });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline.clone(), WorkerOptions::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    let taken = "UPDATE project_leases SET fence = fence + 1, expires_at = now()";
    database.sql.execute(taken, &[]).await.unwrap();
    proceed.notify_one();
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    let deployment = store.deployment(id_of(&body)).await.unwrap().unwrap();
    assert_eq!(
        (deployment.state, deployment.attempt, deployment.interruptions),
        (State::Ended(Outcome::Succeeded), 1, 1)
    );
    let failed = "SELECT count(*) FROM stage_journal WHERE outcome = 'failed' AND deployment_id = (SELECT id FROM deployments ORDER BY arrival DESC LIMIT 1)";
    assert_eq!(database.count(failed).await, 0, "who lost the lease writes nothing");
    worker.stop().await;
}
