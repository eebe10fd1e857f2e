//! What a command does once it's claimed, and what its result says.

use std::sync::{Arc, Mutex};

use serde_json::json;
use slipway_deploy::StageReport;
use slipway_protocol::{Action, Change, Exposed, Project, Serving, Stage};
use slipway_worker::store::{AttemptSummary, DeploymentEnd, StageEnd};

use super::{Shop, command, id_of};
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, migrated, report, request};
use crate::services::vhost;

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_their_own_stages_and_tell_what_they_are() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let works = Arc::new(Mutex::new(Vec::new()));
    let seen = works.clone();
    let pipeline = ScriptedStages::new(move |call| {
        seen.lock().unwrap().push((call.work.action, call.stage, call.work.remove_volumes));
        let started = (call.work.action, call.stage) == (Action::Start, Stage::Verify);
        let commit = Some(call.work.request.repository.commit);
        let serving = started.then_some(Serving { commit, proven: true });
        async { Ok(StageReport { serving, ..report(Change::Changed) }) }
    });
    let worker = TestWorker::start(store, &amqp, pipeline, WorkerOptions::default());
    let ready = request(|_| {});
    outside.publish(&ready).await;
    let deployed = outside.result().await;
    assert_eq!((&deployed["data"]["outcome"], deployed["data"].get("action")), (&"succeeded".into(), None));
    let project: Project = serde_json::from_value(deployed["data"]["project"].clone()).unwrap();
    for action in [Action::Stop, Action::Start, Action::Undeploy] {
        works.lock().unwrap().clear();
        let volumes = action == Action::Undeploy;
        let mut data = json!({ "correlation": { "task_id": 7 } });
        if volumes {
            data["remove_volumes"] = true.into();
        }
        let body = command(&project, action, data);
        outside.publish(&body).await;
        let mut kinds = Vec::new();
        let result = loop {
            let event = outside.event().await;
            let data = &event["data"];
            assert_eq!((&data["action"], &data["correlation"]["task_id"]), (&json!(action), &json!(7)), "{event}");
            assert_eq!(data["deployment_id"], id_of(&body).to_string());
            kinds.push(data["kind"].as_str().unwrap_or("result").to_owned());
            if event["type"] == "slipway.deployment.result.v1" {
                break event;
            }
        };
        assert_eq!((kinds.first().unwrap().as_str(), &result["data"]["outcome"]), ("accepted", &"succeeded".into()));
        let stages: Vec<_> = action.stages().iter().map(|stage| (action, *stage, volumes)).collect();
        assert_eq!(*works.lock().unwrap(), stages);
        assert_eq!(result["data"]["commit"], deployed["data"]["commit"]);
        let serves = (action == Action::Start).then(|| &deployed["data"]["serving"]);
        assert_eq!(result["data"].get("serving"), serves, "{action}");
    }
    // What can't be done is a dead letter, byte by byte, and a result.
    for (action, code) in [(Action::Start, "not-deployed"), (Action::Rollback, "not-deployed")] {
        let body = command(&project, action, json!({}));
        for _ in 0..2 {
            outside.publish(&body).await;
        }
        let result = outside.result().await;
        assert_eq!(result["data"]["failure"]["code"], code);
        assert_eq!(result["data"]["action"], json!(action));
        let letter = outside.dead_letter().await;
        assert_eq!((letter.body, letter.headers["dlq-error-code"].as_str()), (body, code));
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_names_the_commit_that_was_seen_and_not_the_one_deployed_last() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let pushed = "c".repeat(40);
    let seen = Arc::new(Mutex::new(Some(pushed.parse().unwrap())));
    let answers = seen.clone();
    let pipeline = ScriptedStages::new(move |call| {
        let serving = (call.stage == Stage::Verify && call.work.action == Action::Start)
            .then(|| Serving { commit: answers.lock().unwrap().clone(), proven: true });
        async { Ok(StageReport { serving, ..report(Change::Changed) }) }
    });
    let worker = TestWorker::start(store, &amqp, pipeline, WorkerOptions::default());
    outside.publish(&request(|_| {})).await;
    let deployed = outside.result().await;
    assert_eq!(deployed["data"]["serving"], json!({ "commit": deployed["data"]["commit"], "proven": true }));
    let project: Project = serde_json::from_value(deployed["data"]["project"].clone()).unwrap();
    for named in [json!({ "commit": pushed, "proven": true }), json!({ "proven": true })] {
        outside.publish(&command(&project, Action::Start, json!({}))).await;
        let result = outside.result().await;
        assert_eq!((&result["data"]["outcome"], &result["data"]["serving"]), (&"succeeded".into(), &named), "{result}");
        *seen.lock().unwrap() = None;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_github_secrets_of_a_repository_that_another_deployment_uses_are_shared() {
    let shop = Shop::new().await;
    let digests = [("DOTENV".to_owned(), "x".to_owned())].into();
    let deploy = async |server: &str| {
        shop.deploy('a', server).await;
        let claim = shop.claim().await;
        shop.store.stage_started(&claim.lease, Stage::Secrets, b"x").await.unwrap();
        let summary = slipway_protocol::StageSummary { stage: Stage::Secrets, change: Change::Changed, duration_ms: 1 };
        let saved = Some((shop.project.id, &digests));
        shop.store
            .stage_finished(
                &claim.lease,
                StageEnd { summary: &summary, facts: &serde_json::Map::new(), digests: saved },
                None,
            )
            .await
            .unwrap();
        shop.store
            .finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default())
            .await
            .unwrap();
    };
    deploy("one").await;
    let shared =
        async |server: &str| shop.store.shares_repository(shop.project.id, &server.parse().unwrap()).await.unwrap();
    assert!(!shared("one").await);
    deploy("two").await;
    assert!(shared("one").await, "GitHub holds the other server's");
    assert!(!shared("two").await, "nobody else's CI can deploy any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_names_what_is_reachable_and_where_else_the_project_may_run() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let found = json!([
        { "port": 5432, "service": "db", "answers": true, "asked_for": false },
        { "port": 8080, "service": "backend", "answers": true, "asked_for": true },
    ]);
    let told = found.clone();
    let pipeline = ScriptedStages::new(move |call| {
        let report = report(Change::Changed);
        let report = match call.stage {
            _ if call.work.action != Action::Deploy => report,
            // Too early for what has just been started: what verify sees counts.
            Stage::Firewall => {
                let mut early = told.clone();
                early[1]["answers"] = false.into();
                report.fact(Exposed::FACT, early)
            }
            Stage::Verify => report.fact(Exposed::FACT, told.clone()),
            _ => report,
        };
        async { Ok(report) }
    });
    let worker = TestWorker::start(store, &amqp, pipeline, WorkerOptions::default());
    let id = uuid::Uuid::new_v4();
    let on = |server: &str| {
        request(|event| {
            event["data"]["project"]["id"] = id.to_string().into();
            event["data"]["server"]["handle"] = server.into();
        })
    };
    outside.publish(&on("vps-old")).await;
    let first = outside.result().await;
    assert_eq!((&first["data"]["exposed"], first["data"].get("also_on")), (&found, None));
    outside.publish(&on("vps-new")).await;
    assert_eq!(outside.result().await["data"]["also_on"], json!(["vps-old"]));

    let project: Project = serde_json::from_value(first["data"]["project"].clone()).unwrap();
    outside.publish(&command(&project, Action::Undeploy, json!({ "server": "vps-old" }))).await;
    let gone = outside.result().await;
    assert_eq!((gone["data"].get("exposed"), gone["data"].get("also_on")), (None, None), "{gone}");
    outside.publish(&on("vps-new")).await;
    assert_eq!(outside.result().await["data"].get("also_on"), None);
    worker.stop().await;
}
