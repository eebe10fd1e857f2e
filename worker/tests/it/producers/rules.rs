//! Which source may ask for what, and who proves to be it.

use lapin::BasicProperties;
use secrecy::SecretString;
use serde_json::{Value, json};
use slipway_protocol::{Action, CONTENT_TYPE, Change, DeploymentId};
use slipway_worker::scheduler::{Pattern, SourceScope};
use slipway_worker::store::{DeadLetterFilter, Replay};

use super::{ANOTHER, ada, enlist, for_server};
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, migrated, outgoing, report};
use crate::services::{broker, vhost};

fn scope(source: &str, user: Option<&str>, projects: &str, actions: &[Action]) -> SourceScope {
    let pattern = |text: &str| Pattern::new(text).unwrap();
    SourceScope {
        source: pattern(source),
        user: user.map(str::to_owned),
        projects: pattern(projects),
        repositories: pattern("*"),
        servers: pattern("vps-*"),
        actions: actions.to_vec(),
    }
}

/// A command about the request's project.
fn command(of: &[u8], source: &str, action: &str, data: Value) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(of).unwrap();
    let project = event["data"]["project"].clone();
    event["type"] = format!("slipway.{action}.v1").into();
    event["source"] = source.into();
    event["id"] = uuid::Uuid::new_v4().to_string().into();
    event["time"] = jiff::Timestamp::now().to_string().into();
    event["data"] = data;
    if action.starts_with("project") {
        event["data"]["project"] = project;
    }
    serde_json::to_vec(&event).unwrap()
}

fn id_of(body: &[u8]) -> DeploymentId {
    let event: Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None)
}

/// Publishes as a producer that proves who it is.
async fn publish_as(user: &str, amqp: &SecretString, body: &[u8]) {
    let link = broker(amqp, "producer").connect("test").await.unwrap();
    let channel = link.channel().await.unwrap();
    let properties = BasicProperties::default().with_content_type(CONTENT_TYPE.into()).with_user_id(user.into());
    let event: Value = serde_json::from_slice(body).unwrap();
    let key = event["type"].as_str().unwrap();
    let publish =
        channel.basic_publish("slipway.requests".into(), key.into(), Default::default(), body, properties).await;
    publish.unwrap().await.unwrap();
    link.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_may_do_what_the_rules_say_and_only_as_the_user_it_must_be() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    enlist(&store).await;
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    let from = |source: &str, slug: &str| {
        for_server(|event| {
            event["source"] = source.into();
            event["data"]["project"]["slug"] = slug.into();
        })
    };
    let shop = from("/a", "shop-1");
    outside.publish(&shop).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded", "no rule, no limit");

    let anothers = |source: &str, slug: &str| {
        let mut event: Value = serde_json::from_slice(&from(source, slug)).unwrap();
        event["data"]["project"]["id"] = ANOTHER.into();
        serde_json::to_vec(&event).unwrap()
    };
    outside.publish(&anothers("/b", "bakery-1")).await;
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");

    let all = [Action::Deploy, Action::Stop, Action::Cancel];
    let rule = store.allow_source(&scope("/a", None, "shop-*", &all), &ada("it's theirs")).await.unwrap();
    store.allow_source(&scope("/proven", Some("slipway"), "*", &[]), &ada("it proves itself")).await.unwrap();
    let taken = |source: &str| {
        let mut event: Value = serde_json::from_slice(&from(source, "shop-1")).unwrap();
        event["data"]["project"]["id"] = uuid::Uuid::new_v4().to_string().into();
        serde_json::to_vec(&event).unwrap()
    };
    let code = |result: &Value| result["data"]["failure"]["code"].as_str().unwrap_or("none").to_owned();
    let unknown = DeploymentId::of("/b", "to-come", None);
    let cases = [
        (from("/a", "shop-1"), "none"),
        (from("/a", "bakery"), "source-not-allowed"),
        (from("/b", "shop-1"), "source-not-allowed"),
        // Whose a slug is, is told to those alone who may ask for it.
        (taken("/b"), "source-not-allowed"),
        (taken("/a"), "slug-taken"),
        // The id of a project of others opens nothing under a slug of one's own.
        (anothers("/a", "shop-2"), "source-not-allowed"),
        (from("/a", "shop-3"), "none"),
        (command(&shop, "/a", "project.stop", json!({})), "none"),
        (command(&shop, "/a", "project.undeploy", json!({})), "source-not-allowed"),
        (command(&shop, "/b", "project.stop", json!({})), "source-not-allowed"),
        (command(&shop, "/b", "deployment.cancel", json!({ "deployment_id": id_of(&shop) })), "source-not-allowed"),
        (command(&shop, "/a", "deployment.cancel", json!({ "deployment_id": unknown })), "source-not-allowed"),
        // What hasn't come yet may be cancelled by whom it will come from.
        (
            command(&shop, "/a", "deployment.cancel", json!({ "request": { "source": "/a", "id": "to-come" } })),
            "unknown-deployment",
        ),
    ];
    for (body, expected) in &cases {
        outside.publish(body).await;
        let result = outside.result().await;
        assert_eq!(code(&result), *expected, "{}", String::from_utf8_lossy(body));
    }
    // Neither does it from a repository of one's own, whatever the slug.
    let mut theirs = scope("/c", None, "*", &[]);
    theirs.repositories = Pattern::new("evil/*").unwrap();
    let theirs = store.allow_source(&theirs, &ada("their repositories")).await.unwrap();
    for slug in ["shop-1", "shop-4"] {
        let mut event: Value = serde_json::from_slice(&from("/c", slug)).unwrap();
        event["data"]["repository"]["name"] = "evil/shop".into();
        outside.publish(&serde_json::to_vec(&event).unwrap()).await;
        assert_eq!(code(&outside.result().await), "source-not-allowed", "{slug}");
    }
    assert!(store.revoke_source(theirs, &ada("no more of theirs")).await.unwrap());
    assert_eq!(database.count("SELECT count(*) FROM slug_owners").await, 3, "who is refused claims nothing");
    let cancellations = "SELECT count(*) FROM cancellations WHERE source = '/b'";
    assert_eq!(database.count(cancellations).await, 0, "who may not cancel leaves nothing behind");

    // Nobody else takes the id of a source that has to prove who it is, whatever is wrong with his message.
    let proven = from("/proven", "bakery");
    let mut broken: Value = serde_json::from_slice(&proven).unwrap();
    broken["data"]["modules"] = json!([]);
    for impostors in [proven.clone(), serde_json::to_vec(&broken).unwrap()] {
        outside.publish(&impostors).await;
        let letter = loop {
            let letter = outside.dead_letter().await;
            if letter.body == impostors {
                break letter;
            }
        };
        assert!(!letter.headers.contains_key("dlq-deployment-id"), "{:?}", letter.headers);
    }
    publish_as("slipway", &amqp, &proven).await;
    let result = outside.result().await;
    assert_eq!((code(&result).as_str(), result["data"]["outcome"].as_str()), ("none", Some("succeeded")));
    let user = "SELECT count(*) FROM deployments WHERE amqp_user = 'slipway' AND source = '/proven'";
    assert_eq!(database.count(user).await, 1);

    assert!(store.revoke_source(rule, &ada("no more")).await.unwrap());
    assert!(!store.revoke_source(rule, &ada("again")).await.unwrap());
    let recorded = "SELECT count(*) FROM operator_audit WHERE subject = 'rule ' || $N || ' of /a' AND why = 'no more'
                    AND action = 'sources revoke' AND details ->> 'projects' = 'shop-*'";
    assert_eq!(database.count(&recorded.replace("$N", &rule.to_string())).await, 1);
    outside.publish(&from("/a", "shop-1")).await;
    assert_eq!(code(&outside.result().await), "source-not-allowed");
    assert_eq!((store.source_rules(false).await.unwrap().len(), store.source_rules(true).await.unwrap().len()), (1, 3));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_its_senders_and_a_message_that_only_says_so_is_not() {
    let ((_database, store), amqp) = (migrated("w").await, vhost());
    enlist(&store).await;
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    store.allow_source(&scope("/proven", Some("slipway"), "*", &[]), &ada("it proves itself")).await.unwrap();
    let refused = for_server(|event| {
        event["source"] = "/proven".into();
        event["data"]["server"]["handle"] = "elsewhere".into();
    });
    publish_as("slipway", &amqp, &refused).await;
    assert_eq!(outside.result().await["data"]["failure"]["code"], "source-not-allowed");
    outside.dead_letter().await;
    let mut wide = scope("/proven", Some("slipway"), "*", &[]);
    wide.servers = Pattern::new("*").unwrap();
    store.allow_source(&wide, &ada("everywhere")).await.unwrap();
    let sent = store
        .replay_dead_letters(&DeadLetterFilter::default(), Replay::default(), &ada("it may now"), 10)
        .await
        .unwrap();
    let replayed = outside.result().await;
    assert_eq!(replayed["data"]["deployment_id"], json!(sent[0].deployment), "{replayed}");
    assert_eq!(replayed["data"]["failure"]["code"], "unknown-server", "it's let in, by its own sender's right");

    let forged = for_server(|event| event["source"] = "/proven".into());
    let replay = sent[0].replay.to_string();
    let headers = [("slipway-replay-id", replay.as_str())];
    outside.publisher.publish(&outgoing(&forged, &headers)).await.unwrap();
    let letter = loop {
        let letter = outside.dead_letter().await;
        if letter.body == forged {
            break letter;
        }
    };
    assert_eq!(letter.headers["dlq-error-code"], "source-not-allowed");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_an_edited_request_lets_no_other_message_act_as_its_sender() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    enlist(&store).await;
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, WorkerOptions::default());
    store.allow_source(&scope("/proven", Some("slipway"), "*", &[]), &ada("it proves itself")).await.unwrap();
    let refused = for_server(|event| {
        event["source"] = "/proven".into();
        event["data"]["server"]["handle"] = "elsewhere".into();
    });
    publish_as("slipway", &amqp, &refused).await;
    let letter = outside.dead_letter().await;
    outside.result().await;
    let mut edited: Value = serde_json::from_slice(&refused).unwrap();
    edited["id"] = uuid::Uuid::new_v4().to_string().into();
    edited["data"]["server"]["handle"] = "vps-1".into();
    let body = serde_json::to_vec(&edited).unwrap();
    let request = slipway_protocol::decode(&body, &Default::default()).unwrap();
    let id = letter.headers["dlq-deployment-id"].parse().unwrap();
    assert!(store.replay_edited(id, &request, body, false, &ada("the server was wrong")).await.unwrap());
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded", "it's let in, by its own sender's right");

    let (own, foreign) = (edited["id"].clone(), uuid::Uuid::new_v4().to_string().into());
    for id in [foreign, own] {
        let cancel = json!({ "deployment_id": id_of(&serde_json::to_vec(&edited).unwrap()) });
        let mut cancel: Value =
            serde_json::from_slice(&command(&refused, "/proven", "deployment.cancel", cancel)).unwrap();
        cancel["id"] = id;
        outside.publish(&serde_json::to_vec(&cancel).unwrap()).await;
        assert_eq!(outside.dead_letter().await.headers["dlq-error-code"], "source-not-allowed");
    }
    assert_eq!(database.count("SELECT count(*) FROM cancellations").await, 0);
    worker.stop().await;
}
