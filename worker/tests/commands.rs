//! Commands and cancel events on a real PostgreSQL: what they mean, what gives way to what, what is refused; and with
//! the engine on a real RabbitMQ, how they are told.

#![expect(clippy::unwrap_used, reason = "tests")]

mod services;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use services::rig::{Options, Outside, Scripted, Worker, incoming, migrated, report, request};
use services::{Database, vhost};
use slipway_protocol::{
    Action, Change, DeploymentId, ErrorCode, Exposed, Failure, Message, Outcome, Project, Stage, read,
};
use slipway_worker::store::{Accepted, Boundary, Claim, DeadLetterFilter, End, StageEnd, State, Store, Verdict};

const LONG: Duration = Duration::from_secs(60);
/// How many versions are offered.
const VERSIONS: u32 = 3;

/// A project with its own id, and requests about it.
struct Shop {
    store: Store,
    project: Project,
    _database: Database,
}

impl Shop {
    async fn new() -> Self {
        let (database, store) = Database::migrated("w").await;
        let project = json!({ "id": uuid::Uuid::new_v4(), "slug": "corner-shop" });
        Self { store, project: serde_json::from_value(project).unwrap(), _database: database }
    }

    /// A request to deploy `commit` on `server`.
    fn ready(&self, commit: char, server: &str) -> Vec<u8> {
        request(|e| {
            e["data"]["project"] = json!(self.project);
            e["data"]["repository"]["commit"] = commit.to_string().repeat(40).into();
            e["data"]["server"]["handle"] = server.into();
            e["data"].as_object_mut().unwrap().remove("sequence");
            e.as_object_mut().unwrap().remove("time");
        })
    }

    fn command(&self, action: Action, data: Value) -> Vec<u8> {
        command(&self.project, action, data)
    }

    async fn deploy(&self, commit: char, server: &str) -> DeploymentId {
        let body = self.ready(commit, server);
        assert_eq!(self.take_in(&body).await, Ok(Accepted::New));
        id_of(&body)
    }

    /// Takes any request in, as the intake does.
    async fn take_in(&self, body: &[u8]) -> Result<Accepted, Failure> {
        let incoming = incoming(body);
        match read(body, &incoming.metadata()).unwrap() {
            Message::Ready(request) => Ok(self.store.accept(&request, &incoming).await.unwrap()),
            Message::Command(request) => self.store.command(&request, &incoming, VERSIONS).await.unwrap(),
            Message::Cancel(_) => panic!("no request about a project"),
        }
    }

    async fn claim(&self) -> Claim {
        self.store.claim(LONG).await.unwrap().expect("something is due")
    }

    /// Carries out what is due, with something to do.
    async fn carry_out(&self) -> DeploymentId {
        let claim = self.claim().await;
        self.end(&claim).await;
        claim.lease.deployment
    }

    async fn end(&self, claim: &Claim) {
        let stage = claim.action.stages()[0];
        self.store.stage_started(&claim.lease, stage, b"x").await.unwrap();
        let summary = slipway_protocol::StageSummary { stage, change: Change::Changed, duration_ms: 1 };
        self.store.stage_finished(&claim.lease, &summary, &serde_json::Map::new(), None).await.unwrap();
        self.store.finish(&claim.lease, &End::Succeeded { url: None }, &StageEnd::default()).await.unwrap();
    }

    /// Deploys one version after the other.
    async fn history(&self, commits: &str) -> Vec<DeploymentId> {
        let mut made = Vec::new();
        for commit in commits.chars() {
            self.deploy(commit, "one").await;
            made.push(self.carry_out().await);
        }
        made
    }

    async fn state(&self, id: DeploymentId) -> State {
        self.store.deployment(id).await.unwrap().unwrap().state
    }
}

fn command(project: &Project, action: Action, mut data: Value) -> Vec<u8> {
    data["project"] = json!(project);
    json!({
        "specversion": "1.0",
        "id": uuid::Uuid::new_v4(),
        "source": "/orchestrator",
        "type": format!("slipway.project.{action}.v1"),
        "data": data,
    })
    .to_string()
    .into_bytes()
}

fn cancel(data: Value) -> Vec<u8> {
    json!({
        "specversion": "1.0",
        "id": uuid::Uuid::new_v4(),
        "source": "/orchestrator",
        "type": "slipway.deployment.cancel.v1",
        "data": data,
    })
    .to_string()
    .into_bytes()
}

fn id_of(body: &[u8]) -> DeploymentId {
    let event: Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None)
}

const COMMANDS: [Action; 4] = [Action::Stop, Action::Start, Action::Rollback, Action::Undeploy];
const SUPERSEDED: State = State::Ended(Outcome::Superseded);

#[tokio::test(flavor = "multi_thread")]
async fn of_every_pair_of_requests_the_newer_one_wins_whether_the_older_one_waits_or_runs() {
    let requests = [Action::Deploy, Action::Stop, Action::Start, Action::Rollback, Action::Undeploy];
    for older in requests {
        for newer in requests {
            let ask = async |shop: &Shop, action: Action, commit: char| {
                let body = match action {
                    Action::Deploy => shop.ready(commit, "one"),
                    action => shop.command(action, json!({})),
                };
                assert_eq!(shop.take_in(&body).await, Ok(Accepted::New), "{older} {newer}");
                id_of(&body)
            };
            // The older one waits.
            let shop = Shop::new().await;
            shop.history("ab").await;
            let first = ask(&shop, older, 'c').await;
            let second = ask(&shop, newer, 'd').await;
            assert_eq!(shop.state(first).await, SUPERSEDED, "{older} waits, {newer} comes");
            let result = shop.store.deployment(first).await.unwrap().unwrap().result.unwrap();
            assert_eq!((result.superseded_by, result.action), (Some(second), older));

            // The older one runs.
            let running = shop.claim().await;
            assert_eq!(running.lease.deployment, second);
            let third = ask(&shop, older, 'e').await;
            let boundary = shop.store.stage_started(&running.lease, running.action.stages()[0], b"x").await.unwrap();
            // Only what makes the project whole, or takes it off for good, leaves an undeployment unfinished.
            let goes_on = newer == Action::Undeploy && matches!(older, Action::Stop | Action::Start);
            let expected = if goes_on { Boundary::GoOn } else { Boundary::Superseded(third) };
            assert_eq!(boundary, expected, "{newer} runs, {older} comes");
            assert_eq!(shop.state(third).await, State::Pending);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undeployment_that_waits_for_its_next_attempt_goes_on_before_what_came_later() {
    let shop = Shop::new().await;
    shop.history("a").await;
    let undeploy = shop.command(Action::Undeploy, json!({}));
    assert_eq!(shop.take_in(&undeploy).await, Ok(Accepted::New));
    let again = async |delay: Duration| {
        let claim = shop.claim().await;
        assert_eq!(claim.lease.deployment, id_of(&undeploy));
        shop.store.stage_started(&claim.lease, Stage::Secrets, b"x").await.unwrap();
        let failure = Failure::new(ErrorCode::GithubUnavailable, Some(Stage::Secrets), "it's away for a moment");
        shop.store.retry(&claim.lease, failure, delay).await.unwrap();
    };
    again(Duration::ZERO).await;
    again(LONG).await;
    for action in [Action::Stop, Action::Start] {
        assert_eq!(shop.take_in(&shop.command(action, json!({}))).await, Ok(Accepted::New));
        assert_eq!(shop.state(id_of(&undeploy)).await, State::Pending, "{action}");
        assert_eq!(shop.store.claim(LONG).await.unwrap(), None, "{action} waits");
    }
    // What makes the project whole again needn't wait.
    let deployed = shop.deploy('b', "one").await;
    assert_eq!(shop.state(id_of(&undeploy)).await, SUPERSEDED);
    assert_eq!(shop.carry_out().await, deployed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_request_is_superseded_at_once_whatever_it_asks_for() {
    let shop = Shop::new().await;
    let numbered = |body: Vec<u8>, sequence: u64| {
        let mut event: Value = serde_json::from_slice(&body).unwrap();
        event["data"]["sequence"] = sequence.into();
        event.to_string().into_bytes()
    };
    shop.take_in(&numbered(shop.ready('a', "one"), 1)).await.unwrap();
    shop.carry_out().await;
    let stop = numbered(shop.command(Action::Stop, json!({})), 9);
    shop.take_in(&stop).await.unwrap();
    let superseded = Ok(Accepted::Superseded(id_of(&stop)));
    assert_eq!(shop.take_in(&numbered(shop.ready('b', "one"), 8)).await, superseded);
    shop.carry_out().await;
    for action in COMMANDS.into_iter().filter(|action| *action != Action::Rollback) {
        let stale = numbered(shop.command(action, json!({})), 7);
        assert_eq!(shop.take_in(&stale).await, superseded, "{action}");
        assert_eq!(shop.take_in(&stale).await, Ok(Accepted::Duplicate), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_leaves_the_projects_deployments_on_other_servers_alone() {
    let shop = Shop::new().await;
    shop.history("a").await;
    let moved = shop.deploy('b', "two").await;
    let stop = shop.command(Action::Stop, json!({ "server": "one" }));
    assert_eq!(shop.take_in(&stop).await, Ok(Accepted::New));
    assert_eq!(shop.state(moved).await, State::Pending);
    let moved_again = shop.deploy('b', "three").await;
    assert_eq!((shop.state(moved).await, shop.state(id_of(&stop)).await), (SUPERSEDED, State::Pending));
    assert_eq!(shop.state(moved_again).await, State::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_acts_with_the_version_that_it_means() {
    let shop = Shop::new().await;
    let made = shop.history("abc").await;
    // What failed isn't what is there.
    shop.deploy('f', "one").await;
    let failing = shop.claim().await;
    let failure = Failure::new(ErrorCode::CrashLoop, Some(Stage::Compose), "it keeps exiting");
    let failed = End::Failed { failure, missing_secret: None, reason: "permanent" };
    shop.store.finish(&failing.lease, &failed, &StageEnd::default()).await.unwrap();

    let commit = |letter: char| json!({ "to": { "commit": letter.to_string().repeat(40) } });
    let rows = [
        (Action::Stop, json!({ "reason": "tests" }), made[2]),
        (Action::Start, json!({ "server": "one" }), made[2]),
        (Action::Undeploy, json!({ "remove_volumes": true }), made[2]),
        (Action::Rollback, json!({}), made[1]),
        (Action::Rollback, commit('a'), made[0]),
        (Action::Rollback, json!({ "to": { "deployment": made[0] } }), made[0]),
    ];
    for (action, data, version) in rows {
        let body = shop.command(action, data.clone());
        assert_eq!(shop.take_in(&body).await, Ok(Accepted::New), "{action} {data}");
        let claim = shop.claim().await;
        let of = shop.store.deployment(version).await.unwrap().unwrap();
        assert_eq!(claim.lease.deployment, id_of(&body));
        assert_eq!((claim.action, claim.remove_volumes), (action, data["remove_volumes"] == true));
        assert_eq!(Some(claim.event.data.repository.commit.to_string()), of.commit, "{action} {data}");
        let stored = shop.store.deployment(id_of(&body)).await.unwrap().unwrap();
        assert_eq!((stored.acts_on, stored.reason.as_deref()), (Some(version), data["reason"].as_str()));
        shop.store.cancel(id_of(&body)).await.unwrap();
        shop.store.finish(&claim.lease, &End::Cancelled, &StageEnd::default()).await.unwrap();
    }
    // Back, and forth again; the same commit once more is no other version.
    shop.take_in(&shop.command(Action::Rollback, json!({}))).await.unwrap();
    shop.carry_out().await;
    let forth = shop.command(Action::Rollback, json!({}));
    shop.take_in(&forth).await.unwrap();
    assert_eq!(shop.claim().await.event.data.repository.commit.as_str(), "c".repeat(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_while_a_version_is_being_deployed_goes_back_from_that_one() {
    let shop = Shop::new().await;
    let made = shop.history("ab").await;
    let deploying = shop.deploy('c', "one").await;
    let body = shop.command(Action::Rollback, json!({}));
    shop.take_in(&body).await.unwrap();
    assert_eq!(shop.state(deploying).await, SUPERSEDED);
    assert_eq!(shop.store.deployment(id_of(&body)).await.unwrap().unwrap().acts_on, Some(made[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_meant_is_refused_with_its_code_and_writes_nothing() {
    let shop = Shop::new().await;
    let refused = async |body: Vec<u8>| shop.take_in(&body).await.unwrap_err().code;
    for action in COMMANDS {
        assert_eq!(refused(shop.command(action, json!({}))).await, ErrorCode::UnknownProject, "{action}");
    }
    shop.history("abcde").await;
    for action in COMMANDS {
        let elsewhere = shop.command(action, json!({ "server": "elsewhere" }));
        assert_eq!(refused(elsewhere).await, ErrorCode::UnknownProject, "{action}");
        let mut renamed = shop.project.clone();
        renamed.slug = "corner-shop-2".parse().unwrap();
        assert_eq!(refused(command(&renamed, action, json!({}))).await, ErrorCode::UnknownProject, "{action}");
    }
    let to = |to: Value| shop.command(Action::Rollback, json!({ "to": to }));
    let commit = |letter: &str| json!({ "commit": letter.repeat(40) });
    assert_eq!(refused(to(commit("f"))).await, ErrorCode::UnknownVersion);
    assert_eq!(refused(to(commit("b"))).await, ErrorCode::UnknownVersion, "only the last three are offered");
    assert_eq!(refused(to(json!({ "deployment": uuid::Uuid::new_v4() }))).await, ErrorCode::UnknownVersion);

    // On two servers it must be said which.
    shop.deploy('e', "two").await;
    shop.carry_out().await;
    for action in COMMANDS {
        assert_eq!(refused(shop.command(action, json!({}))).await, ErrorCode::AmbiguousServer, "{action}");
    }
    let on = |action, server: &str| shop.command(action, json!({ "server": server }));
    assert_eq!(refused(on(Action::Rollback, "two")).await, ErrorCode::UnknownVersion, "there is one version only");

    // Once it's undeployed, only undeploying again has a meaning, for its volumes' sake.
    shop.take_in(&on(Action::Undeploy, "one")).await.unwrap();
    shop.carry_out().await;
    assert_eq!(shop.take_in(&shop.command(Action::Stop, json!({}))).await, Ok(Accepted::New), "it's on one only");
    shop.carry_out().await;
    for action in [Action::Stop, Action::Start, Action::Rollback] {
        assert_eq!(refused(on(action, "one")).await, ErrorCode::NotDeployed, "{action}");
    }
    assert_eq!(shop.take_in(&on(Action::Undeploy, "one")).await, Ok(Accepted::New));
    shop.carry_out().await;
    let server = "one".parse().unwrap();
    assert!(shop.store.versions(&shop.project, &server, 10).await.unwrap().is_empty());
    shop.history("a").await;
    assert_eq!(shop.store.versions(&shop.project, &server, 10).await.unwrap().len(), 1);
    assert_eq!(shop.take_in(&on(Action::Stop, "one")).await, Ok(Accepted::New));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_a_command_means_what_its_original_meant() {
    let shop = Shop::new().await;
    shop.history("ab").await;
    let rollback = shop.command(Action::Rollback, json!({}));
    shop.take_in(&rollback).await.unwrap();
    shop.carry_out().await;
    let undeploy = shop.command(Action::Undeploy, json!({}));
    shop.take_in(&undeploy).await.unwrap();
    shop.carry_out().await;
    for body in [&rollback, &undeploy] {
        assert_eq!(shop.take_in(body).await, Ok(Accepted::Duplicate), "though it would be refused by now");
    }
    assert_eq!(shop.store.claim(LONG).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_their_own_stages_and_tell_what_they_are() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let works = Arc::new(Mutex::new(Vec::new()));
    let seen = works.clone();
    let pipeline = Scripted::new(move |call| {
        seen.lock().unwrap().push((call.work.action, call.stage, call.work.remove_volumes));
        async { Ok(report(Change::Changed)) }
    });
    let worker = Worker::start(store, &amqp, pipeline, Options::default());
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
async fn a_cancel_event_ends_what_waits_is_remembered_and_may_overtake_its_request() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let held = Arc::new(tokio::sync::Notify::new());
    let hold = held.clone();
    let pipeline = Scripted::new(move |call| {
        let hold = hold.clone();
        async move {
            if call.stage == Stage::Clone {
                hold.notified().await;
            }
            Ok(report(Change::Changed))
        }
    });
    let worker = Worker::start(store.clone(), &amqp, pipeline, Options::default());

    // Running: it ends as cancelled. The wish is named by the event that asked for the deployment.
    let running = request(|_| {});
    outside.publish(&running).await;
    while outside.event().await["data"]["stage"] != "clone" {}
    let event: Value = serde_json::from_slice(&running).unwrap();
    let by_request = json!({ "source": event["source"], "id": event["id"] });
    let wish = cancel(json!({ "request": by_request, "reason": "the wrong branch" }));
    for _ in 0..3 {
        outside.publish(&wish).await;
    }
    services::rig::eventually("the wish is heeded", || async {
        store.deployment(id_of(&running)).await.unwrap().is_some_and(|d| d.cancel_requested)
    })
    .await;
    held.notify_one();
    assert_eq!(outside.result().await["data"]["outcome"], "cancelled");
    let wishes = store.cancellations(id_of(&running)).await.unwrap();
    assert_eq!(wishes.len(), 1, "its duplicates are recognised: {wishes:?}");
    assert_eq!((wishes[0].found, wishes[0].reason.as_deref()), (Some(State::Running), Some("the wrong branch")));
    assert_eq!(wishes[0].source, "/orchestrator");

    // Ended: accepted, remembered, without effect.
    outside.publish(&cancel(json!({ "deployment_id": id_of(&running) }))).await;
    services::rig::eventually("the second wish is remembered", || async {
        store.cancellations(id_of(&running)).await.unwrap().len() == 2
    })
    .await;
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 0);

    // Unknown: refused and told; and yet the request that comes behind it ends at once.
    let late = request(|_| {});
    let early = cancel(json!({ "deployment_id": id_of(&late), "correlation": { "task_id": 9 } }));
    for _ in 0..2 {
        outside.publish(&early).await;
    }
    let result = outside.result().await;
    let data = &result["data"];
    assert_eq!((&data["failure"]["code"], &data["action"]), (&"unknown-deployment".into(), &"cancel".into()));
    assert_eq!((&data["deployment_id"], &data["correlation"]["task_id"]), (&json!(id_of(&early)), &json!(9)));
    assert_eq!(outside.dead_letter().await.body, early);
    outside.publish(&late).await;
    let result = outside.result().await;
    assert_eq!(
        (&result["data"]["deployment_id"], &result["data"]["outcome"]),
        (&json!(id_of(&late)), &"cancelled".into())
    );
    assert_eq!(database.count("SELECT count(*) FROM dead_letters").await, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_takes_nobodys_place() {
    let shop = Shop::new().await;
    let waiting = shop.deploy('a', "one").await;
    let called_off = shop.ready('b', "one");
    assert_eq!(shop.store.cancel(id_of(&called_off)).await.unwrap(), None);
    assert_eq!(shop.take_in(&called_off).await, Ok(Accepted::Cancelled));
    assert_eq!(shop.state(waiting).await, State::Pending);
    assert_eq!(shop.store.cancel(waiting).await.unwrap(), Some(State::Pending));
    assert_eq!(shop.store.cancel(waiting).await.unwrap(), Some(State::Ended(Outcome::Cancelled)));
    assert_eq!(shop.store.cancellations(waiting).await.unwrap().len(), 2);
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
        shop.store.stage_finished(&claim.lease, &summary, &serde_json::Map::new(), saved).await.unwrap();
        shop.store.finish(&claim.lease, &End::Succeeded { url: None }, &StageEnd::default()).await.unwrap();
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
async fn a_dead_letter_of_a_command_stands_behind_what_came_later_for_its_own_server() {
    let shop = Shop::new().await;
    for server in ["one", "two"] {
        shop.deploy('a', server).await;
        shop.carry_out().await;
    }
    let stop = shop.command(Action::Stop, json!({ "server": "one" }));
    shop.take_in(&stop).await.unwrap();
    let claim = shop.claim().await;
    let failure = Failure::new(ErrorCode::CrashLoop, Some(Stage::Compose), "it exits");
    let end = End::Failed { failure, missing_secret: None, reason: "permanent" };
    shop.store.finish(&claim.lease, &end, &StageEnd::default()).await.unwrap();
    let verdict = async || {
        let only = DeadLetterFilter { ids: vec![id_of(&stop).0], ..DeadLetterFilter::default() };
        shop.store.plan_replay(&only, 1).await.unwrap()[0].verdict
    };
    shop.deploy('b', "two").await;
    shop.carry_out().await;
    assert_eq!(verdict().await, Verdict::Ready, "a deployment to another server stands in no command's way");
    shop.take_in(&shop.command(Action::Start, json!({ "server": "one" }))).await.unwrap();
    assert_eq!(verdict().await, Verdict::Superseded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_names_what_is_reachable_and_where_else_the_project_may_run() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = Outside::new(&amqp).await;
    let found = json!([
        { "port": 5432, "service": "db", "answers": true, "asked_for": false },
        { "port": 8080, "service": "backend", "answers": true, "asked_for": true },
    ]);
    let told = found.clone();
    let pipeline = Scripted::new(move |call| {
        let firewall = call.stage == Stage::Firewall && call.work.action == Action::Deploy;
        let report = report(Change::Changed);
        let report = if firewall { report.fact(Exposed::FACT, told.clone()) } else { report };
        async { Ok(report) }
    });
    let worker = Worker::start(store, &amqp, pipeline, Options::default());
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
