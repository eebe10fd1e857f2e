//! What the runner does with an attempt that doesn't simply run to its end: cancelled, overdue, resumed, refused by the
//! server. A real PostgreSQL and a real RabbitMQ, with a scripted pipeline.

#![expect(clippy::unwrap_used, reason = "tests")]

mod services;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use services::rig::{Options, Outside, Scripted, Worker, eventually, migrated, report, request};
use services::vhost;
use slipway_deploy::retry::Deadlines;
use slipway_deploy::{Settled, StageError};
use slipway_protocol::names::HostKey;
use slipway_protocol::{Change, DeploymentId, ErrorCode, Outcome, Stage};
use slipway_worker::store::{ServerRecord, State};
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);

fn id_of(body: &[u8]) -> DeploymentId {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None)
}

/// A pipeline that waits in stage `stage` for its cancellation.
fn stuck_in(stage: Stage, reached: &Arc<Notify>) -> Scripted {
    let reached = reached.clone();
    Scripted::new(move |call| {
        let reached = reached.clone();
        async move {
            if call.stage == stage {
                reached.notify_one();
                call.cancel.cancelled().await;
                return Err(StageError::new(ErrorCode::DeadlineExceeded, "the command was cancelled"));
            }
            Ok(report(Change::Changed))
        }
    })
}

/// A pipeline whose first attempt waits in stage compose, whatever comes, until it's told to go on; deployments of
/// commit `unfit` fail in preflight.
fn held_in_compose(reached: &Arc<Notify>, proceed: &Arc<Notify>, unfit: char) -> Scripted {
    let (reached, proceed) = (reached.clone(), proceed.clone());
    Scripted::new(move |call| {
        let (reached, proceed) = (reached.clone(), proceed.clone());
        async move {
            if call.attempt == 1 && call.stage == Stage::Compose {
                reached.notify_one();
                proceed.notified().await;
            }
            if call.stage == Stage::Preflight && call.work.request.repository.commit.as_str().starts_with(unfit) {
                return Err(StageError::new(ErrorCode::DockerMissing, "there is no docker"));
            }
            Ok(report(Change::Changed))
        }
    })
}

/// Requests of one project, for commits that are told by a letter.
fn project() -> impl Fn(char, &str) -> Vec<u8> {
    let id = uuid::Uuid::new_v4().to_string();
    move |commit, server| {
        request(|e| {
            e["data"]["project"]["id"] = id.clone().into();
            e["data"]["repository"]["commit"] = commit.to_string().repeat(40).into();
            e["data"]["server"]["handle"] = server.into();
            e["data"].as_object_mut().unwrap().remove("sequence");
        })
    }
}

fn put_back() -> Settled {
    Settled::PutBack { commit: "c0ffee".to_owned(), stable: true, services: Vec::new(), serving: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_running_command_at_once_and_what_it_touched_is_put_back() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let pipeline = stuck_in(Stage::Compose, &reached).settling(put_back());
    // Renewals are minutes apart: it's the notification that brings the wish.
    let options = Options { lease: 600 * SECOND, ..Options::default() };
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), options);
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    // From another process, as operators do.
    let began = Instant::now();
    assert_eq!(database.store("operator").cancel(id_of(&body)).await.unwrap(), Some(State::Running));
    let result = outside.result().await;
    assert_eq!(result["data"]["outcome"], "cancelled", "{result}");
    assert!(began.elapsed() < 20 * SECOND, "{:?}", began.elapsed());
    assert_eq!(*pipeline.settled.lock().unwrap(), [(1, false)]);
    let running = "SELECT count(*) FROM stage_journal WHERE outcome IS NULL";
    assert_eq!(database.count(running).await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_between_two_attempts_puts_back_before_it_ends() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let failing = Scripted::new(|call| async move {
        match call.stage {
            Stage::Compose => Err(StageError {
                retry_after: Some(600 * SECOND),
                ..StageError::new(ErrorCode::RegistryUnavailable, "the registry answers 503")
            }),
            _ => Ok(report(Change::Changed)),
        }
    });
    let pipeline = failing.settling(put_back());
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    eventually("it waits for its second attempt", || async {
        store.deployment(id_of(&body)).await.unwrap().is_some_and(|d| d.state == State::Pending && d.attempt == 1)
    })
    .await;
    assert_eq!(*pipeline.settled.lock().unwrap(), [], "nothing is put back between attempts");
    assert_eq!(store.cancel(id_of(&body)).await.unwrap(), Some(State::Running));
    assert_eq!(outside.result().await["data"]["outcome"], "cancelled");
    assert_eq!(*pipeline.settled.lock().unwrap(), [(2, false)]);
    let stages = pipeline.calls.lock().unwrap().iter().filter(|(attempt, _)| *attempt == 2).count();
    assert_eq!(stages, 0, "the second attempt does nothing else");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_for_good_is_settled_once_and_says_what_serves() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let failing = Scripted::new(|call| async move {
        match (call.stage, call.work.request.project.slug.as_str()) {
            (Stage::Preflight, "unfit") => Err(StageError::new(ErrorCode::DockerMissing, "there is no docker")),
            (Stage::Compose, _) => Err(StageError::new(ErrorCode::PullFailed, "the pull broke off")),
            _ => Ok(report(Change::Changed)),
        }
    });
    let pipeline = failing.settling(put_back());
    let worker = Worker::start(store, &amqp, pipeline.clone(), Options::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let failure = &result["data"]["failure"];
    assert_eq!((&failure["code"], &result["data"]["attempts"]), (&"pull-failed".into(), &3.into()), "{result}");
    let message = "the pull broke off; commit c0ffee, which served before, was put back and is stable";
    assert_eq!(failure["message"], message);
    assert_eq!(*pipeline.settled.lock().unwrap(), [(3, true)]);
    // Where no stage began that touches anything, the server isn't even asked.
    outside.publish(&request(|e| e["data"]["project"]["slug"] = "unfit".into())).await;
    assert_eq!(outside.result().await["data"]["failure"]["message"], "there is no docker");
    assert_eq!(pipeline.settled.lock().unwrap().len(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_superseded_deployment_touched_is_put_back_when_the_newer_one_fails_before_it_touches_anything() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let pipeline = held_in_compose(&reached, &proceed, 'b').settling(put_back());
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let of = project();
    outside.publish(&of('a', "one")).await;
    reached.notified().await;
    let newer = of('b', "one");
    outside.publish(&newer).await;
    eventually("the newer one waits", || async { store.deployment(id_of(&newer)).await.unwrap().is_some() }).await;
    proceed.notify_one();
    assert_eq!(outside.result().await["data"]["outcome"], "superseded");
    let failure = outside.result().await["data"]["failure"].clone();
    let message = "there is no docker; commit c0ffee, which served before, was put back and is stable";
    assert_eq!(failure["message"], message);
    assert_eq!(*pipeline.settled.lock().unwrap(), [(2, true)]);
    // From then on there is nothing left to be put back.
    outside.publish(&of('b', "one")).await;
    assert_eq!(outside.result().await["data"]["failure"]["message"], "there is no docker");
    assert_eq!(pipeline.settled.lock().unwrap().len(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_newer_request_is_cancelled_the_running_deployment_goes_on() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let pipeline = held_in_compose(&reached, &proceed, 'x');
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let of = project();
    outside.publish(&of('a', "one")).await;
    reached.notified().await;
    let newer = of('b', "one");
    outside.publish(&newer).await;
    eventually("the newer one waits", || async { store.deployment(id_of(&newer)).await.unwrap().is_some() }).await;
    assert_eq!(store.cancel(id_of(&newer)).await.unwrap(), Some(State::Pending));
    proceed.notify_one();
    let outcomes = [outside.result().await, outside.result().await].map(|result| result["data"]["outcome"].clone());
    assert_eq!(outcomes, ["cancelled", "succeeded"]);
    assert_eq!((pipeline.attempts(), pipeline.settled.lock().unwrap().len()), (1, 0));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_gives_way_to_one_on_another_server_puts_back_first() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let pipeline = held_in_compose(&reached, &proceed, 'x').settling(put_back());
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let of = project();
    outside.publish(&of('a', "one")).await;
    reached.notified().await;
    outside.publish(&of('b', "two")).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    proceed.notify_one();
    assert_eq!(outside.result().await["data"]["outcome"], "superseded");
    assert_eq!(*pipeline.settled.lock().unwrap(), [(1, false)]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sees_to_an_unproven_release_by_itself_and_leaves_nothing_to_be_put_back() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let pipeline = held_in_compose(&reached, &proceed, 'x').settling(put_back());
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    let body = project()('a', "one");
    outside.publish(&body).await;
    reached.notified().await;
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let stop = serde_json::json!({
        "specversion": "1.0", "id": "1", "source": "/orchestrator", "type": "slipway.project.stop.v1",
        "data": { "project": event["data"]["project"] },
    })
    .to_string()
    .into_bytes();
    outside.publish(&stop).await;
    eventually("the command waits", || async { store.deployment(id_of(&stop)).await.unwrap().is_some() }).await;
    proceed.notify_one();
    assert_eq!(outside.result().await["data"]["outcome"], "superseded");
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    assert!(pipeline.settled.lock().unwrap().is_empty());
    assert_eq!(pipeline.calls.lock().unwrap().last(), Some(&(2, Stage::Compose)));
    assert_eq!(database.count("SELECT count(*) FROM project_leases WHERE unsettled").await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_too_often_puts_back_before_it_fails() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let worker = Worker::start(store.clone(), &amqp, stuck_in(Stage::Compose, &reached), Options::default());
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    worker.kill().await;
    // As after ten more of that kind.
    let died = "UPDATE deployments SET interruptions = 10; UPDATE project_leases SET expires_at = now();
                UPDATE relay_lease SET expires_at = now()";
    database.sql.batch_execute(died).await.unwrap();
    assert!(store.reap(10).await.unwrap().is_some());
    let pipeline = stuck_in(Stage::Compose, &reached).settling(put_back());
    let worker = Worker::start(store, &amqp, pipeline.clone(), Options::default());
    let failure = outside.result().await["data"]["failure"].clone();
    assert_eq!(failure["code"], "interrupted-too-often", "{failure}");
    assert!(failure["message"].as_str().unwrap().ends_with("was put back and is stable"), "{failure}");
    assert_eq!((pipeline.calls.lock().unwrap().len(), pipeline.settled.lock().unwrap().clone()), (0, vec![(1, true)]));
    assert_eq!(outside.dead_letter().await.headers["dlq-reason"], "interrupted");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_once_the_lease_is_lost_while_something_is_put_back() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let outside = Outside::new(&amqp).await;
    let (reached, settling) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let begun = settling.clone();
    let pipeline = stuck_in(Stage::Compose, &reached).settling_with(move |cancel| {
        let begun = begun.clone();
        async move {
            begun.notify_one();
            cancel.cancelled().await;
            Settled::Unknown(StageError::new(ErrorCode::DeadlineExceeded, "the command was cancelled"))
        }
    });
    let options = Options { lease: 600 * SECOND, drain: 60 * SECOND, ..Options::default() };
    let worker = Worker::start(store.clone(), &amqp, pipeline, options);
    let body = request(|_| {});
    outside.publish(&body).await;
    reached.notified().await;
    store.cancel(id_of(&body)).await.unwrap();
    settling.notified().await;
    // Nobody has taken it over yet; the next renewal, for which the second wish is the occasion, shows it.
    database.sql.execute("UPDATE project_leases SET expires_at = now()", &[]).await.unwrap();
    store.cancel(id_of(&body)).await.unwrap();
    worker.stop().await;
    assert_eq!(store.deployment(id_of(&body)).await.unwrap().unwrap().state, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_waited_for_until_what_served_is_back() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let failing = Scripted::new(|call| async move {
        match call.stage {
            Stage::Compose => Err(StageError::new(ErrorCode::DockerMissing, "docker is gone")),
            _ => Ok(report(Change::Changed)),
        }
    });
    let tries = AtomicU32::new(0);
    let pipeline = failing.settling_with(move |_| {
        let away = tries.fetch_add(1, Ordering::SeqCst) < 2;
        let error = StageError::new(ErrorCode::ServerConnectionLost, "sshd closed the connection");
        std::future::ready(if away { Settled::Unknown(error) } else { put_back() })
    });
    let worker = Worker::start(store, &amqp, pipeline.clone(), Options::default());
    outside.publish(&request(|_| {})).await;
    let message = outside.result().await["data"]["failure"]["message"].clone();
    assert_eq!(message, "docker is gone; commit c0ffee, which served before, was put back and is stable");
    assert_eq!(*pipeline.settled.lock().unwrap(), [(1, true); 3]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shows_another_key_than_the_one_that_was_just_pinned_is_left_at_once() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let key = |name: &str| HostKey::new(format!("ssh-ed25519 {name}")).unwrap();
    let pinning = store.clone();
    let pipeline = Scripted::new(move |call| {
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
                };
                assert!(pinning.learn_host_key(&server, &key("pinned")).await.unwrap());
                call.reporter.host_key_learned(&key("another"));
                call.cancel.cancelled().await;
            }
            Ok(report(Change::Changed))
        }
    });
    let worker = Worker::start(store, &amqp, pipeline.clone(), Options::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let failure = &result["data"]["failure"];
    assert_eq!((&failure["code"], &result["data"]["attempts"]), (&"host-key-mismatch".into(), &1.into()), "{result}");
    assert_eq!(pipeline.calls.lock().unwrap().last(), Some(&(1, Stage::Clone)));
    assert_eq!(*pipeline.settled.lock().unwrap(), [], "nothing more is done there");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_ends_holds_up_no_drain() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let outside = Outside::new(&amqp).await;
    let failing_once = Scripted::new(|call| async move {
        match (call.stage, call.attempt) {
            (Stage::Compose, 1) => Err(StageError::new(ErrorCode::RegistryUnavailable, "it's away for a moment")),
            _ => Ok(report(Change::Changed).fact("proof", "ab12")),
        }
    });
    let pipeline = failing_once.never_resuming();
    let options = Options { drain: Duration::from_millis(50), ..Options::default() };
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), options);
    let body = request(|_| {});
    outside.publish(&body).await;
    eventually("the second attempt asks what is proven", || async { !pipeline.offered.lock().unwrap().is_empty() })
        .await;
    tokio::time::timeout(60 * SECOND, worker.stop()).await.unwrap();
    let deployment = store.deployment(id_of(&body)).await.unwrap().unwrap();
    assert_eq!((deployment.state, deployment.interruptions), (State::Pending, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_attempt_skips_what_is_proven_and_the_deployment_has_still_changed_something() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let failing_once = Scripted::new(|call| async move {
        match (call.stage, call.attempt) {
            (Stage::Verify, 1) => Err(StageError::new(ErrorCode::ServerUnreachable, "it's away for a moment")),
            (Stage::Clone | Stage::Env, 1) => Ok(report(Change::Changed).fact("proof", "ab12")),
            _ => Ok(report(Change::Unchanged)),
        }
    });
    let pipeline = failing_once.proving(&[Stage::Clone, Stage::Env]);
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
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
async fn a_stage_that_takes_too_long_is_ended_and_so_is_a_deployment() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let reached = Arc::new(Notify::new());
    let pipeline = stuck_in(Stage::Clone, &reached);
    let deadlines = Deadlines { stage: Duration::from_millis(50), ..Deadlines::DEFAULT };
    let options = Options { deadlines, ..Options::default() };
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), options);
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    let failure = &result["data"]["failure"];
    assert_eq!((&failure["code"], &failure["stage"]), (&"deadline-exceeded".into(), &"clone".into()), "{result}");
    assert_eq!(result["data"]["attempts"], 3);
    worker.stop().await;

    let pipeline = stuck_in(Stage::Clone, &reached);
    let deadlines = Deadlines { deployment: SECOND, ..Deadlines::DEFAULT };
    let worker = Worker::start(store, &amqp, pipeline.clone(), Options { deadlines, ..Options::default() });
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    assert_eq!(result["data"]["failure"]["code"], "deployment-overdue", "{result}");
    assert_eq!((&result["data"]["attempts"], pipeline.attempts()), (&1.into(), 1));
    assert_eq!(*pipeline.settled.lock().unwrap(), [(1, true)]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waited_for_too_long_is_not_begun() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let pipeline = Scripted::new(|_| async { Ok(report(Change::Changed)) });
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
    outside.publish(&request(|e| e["time"] = "2020-01-01T00:00:00Z".into())).await;
    let result = outside.result().await;
    assert_eq!(
        (&result["data"]["outcome"], &result["data"]["failure"]["code"]),
        (&"failed".into(), &"expired-event".into())
    );
    assert_eq!(pipeline.calls.lock().unwrap().len(), 0);
    assert_eq!(outside.dead_letter().await.headers["dlq-error-code"], "expired-event");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_fence_is_a_lost_lease_only_if_the_database_says_so() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let refused = || StageError::new(ErrorCode::StaleFence, "claim 9 has acted on the project");
    let pipeline = Scripted::new(move |call| async move {
        assert!(call.work.hold.is_sure() && call.work.hold.fence() > 1_700_000_000, "epoch seconds at least");
        if call.stage == Stage::Clone { Err(refused()) } else { Ok(report(Change::Unchanged)) }
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline, Options::default());
    outside.publish(&request(|_| {})).await;
    let result = outside.result().await;
    // Nobody else holds the lease: somebody has to hear that this server has another master.
    assert_eq!(result["data"]["failure"]["code"], "stale-fence", "{result}");
    assert_eq!(result["data"]["attempts"], 3);
    worker.stop().await;

    let (reached, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (r, p) = (reached.clone(), proceed.clone());
    let pipeline = Scripted::new(move |call| {
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
    let worker = Worker::start(store.clone(), &amqp, pipeline.clone(), Options::default());
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
