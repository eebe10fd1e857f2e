//! Cordons and maintenance windows: who gets new projects, and what waits.

use slipway_protocol::{Message, read};
use slipway_worker::store::Operator;

use super::*;
use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, outgoing, report,
};
use crate::services::vhost;

fn operator() -> Operator {
    Operator::new("ada", Some("a new disk"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_server_gets_no_new_project_and_goes_on_with_its_own() {
    let (database, store) = TestDatabase::migrated("w").await;
    let server = "vps-1".parse().unwrap();
    add_server(&database, &store, "vps-1", &facts(4096)).await;
    let body = unplaced(|_| {});
    let project = serde_json::from_slice::<Value>(&body).unwrap()["data"]["project"].clone();
    accept(&store, &body).await;
    place(&store, &limits()).await;
    succeed(&store).await;
    assert_eq!(store.cordon_server(&server, true, &operator()).await.unwrap(), Some(true));
    assert_eq!(store.cordon_server(&server, true, &operator()).await.unwrap(), Some(false));
    assert_eq!(store.cordon_server(&"vps-9".parse().unwrap(), true, &operator()).await.unwrap(), None);
    let new = accept(&store, &unplaced(|_| {})).await;
    let own = accept(&store, &unplaced(|event| event["data"]["project"] = project)).await;
    place(&store, &limits()).await;
    assert_eq!((server_of(&store, new).await, server_of(&store, own).await.as_deref()), (None, Some("vps-1")));
    assert!(store.claim(LONG).await.unwrap().is_some());
    store.cordon_server(&server, false, &operator()).await.unwrap();
    place(&store, &limits()).await;
    assert_eq!(server_of(&store, new).await.as_deref(), Some("vps-1"));
    assert_eq!(store.projects_on(&server).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_on_a_server_while_it_is_maintained() {
    let (database, store) = TestDatabase::migrated("w").await;
    let server = "vps-267179".parse().unwrap();
    add_server(&database, &store, "vps-267179", &facts(4096)).await;
    let hour = jiff::SignedDuration::from_hours(1);
    let (now, later) = (Timestamp::now(), Timestamp::now() + hour);
    // One that is to come changes nothing yet.
    store.add_maintenance(&server, later, later + hour, &operator()).await.unwrap().unwrap();
    accept(&store, &request(|_| {})).await;
    succeed(&store).await;
    store.add_maintenance(&server, now - hour, later, &operator()).await.unwrap().unwrap();
    let named = accept(&store, &request(|_| {})).await;
    let new = accept(&store, &unplaced(|_| {})).await;
    place(&store, &limits()).await;
    assert_eq!(store.claim(LONG).await.unwrap(), None, "what names the server waits as well");
    assert_eq!(server_of(&store, new).await, None);
    let windows = store.server_availability().await.unwrap().remove(0).windows;
    assert_eq!(windows.len(), 2);
    assert_eq!(store.end_maintenance(&server, &operator()).await.unwrap(), Some(2));
    assert_eq!(store.end_maintenance(&server, &operator()).await.unwrap(), Some(0));
    assert_eq!(store.end_maintenance(&"vps-9".parse().unwrap(), &operator()).await.unwrap(), None);
    assert_eq!(store.claim(LONG).await.unwrap().unwrap().lease.deployment, named);
    place(&store, &limits()).await;
    assert!(server_of(&store, new).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_cordons_a_server_once_and_its_result_says_whether_it_changed() {
    let (database, store) = TestDatabase::migrated("outside").await;
    add_server(&database, &store, "vps-1", &facts(4096)).await;
    let amqp = vhost();
    let done = ScriptedStages::new(|_| async { Ok(report(slipway_protocol::Change::Changed)) });
    let worker = TestWorker::start(database.store("w"), &amqp, done, WorkerOptions::default());
    let mut client = TestClient::new(&amqp).await;
    let event = |server: &str, cordoned: bool| {
        let mut event: Value =
            serde_json::from_slice(include_bytes!("../../../../protocol/samples/server-cordon.v1.json")).unwrap();
        event["id"] = uuid::Uuid::new_v4().to_string().into();
        event["data"]["server"] = server.into();
        event["data"]["cordoned"] = cordoned.into();
        let mut message = outgoing(&serde_json::to_vec(&event).unwrap(), &[]);
        message.routing_key = "slipway.server.cordon.v1".to_owned();
        message
    };
    for (cordoned, outcome) in [(true, "succeeded"), (true, "succeeded"), (false, "succeeded"), (false, "succeeded")] {
        client.publisher.publish(&event("vps-1", cordoned)).await.unwrap();
        let result = client.result().await;
        let data = &result["data"];
        assert_eq!((&data["action"], &data["outcome"]), (&json!("cordon"), &json!(outcome)), "{result:#}");
        assert_eq!((&data["server"], data.get("project")), (&json!("vps-1"), None));
        assert_eq!(data["correlation"]["task_id"], 43, "{result:#}");
        let state = store.server_availability().await.unwrap().remove(0).cordoned;
        assert_eq!(state.is_some(), cordoned);
    }
    client.publisher.publish(&event("vps-9", true)).await.unwrap();
    let result = client.result().await;
    assert_eq!(result["data"]["failure"]["code"], "unknown-server", "{result:#}");
    // A second delivery of one event does nothing.
    let twice = event("vps-1", true);
    client.publisher.publish(&twice).await.unwrap();
    client.result().await;
    store.cordon_server(&"vps-1".parse().unwrap(), false, &operator()).await.unwrap();
    client.publisher.publish(&twice).await.unwrap();
    client.publish(&request(|_| {})).await;
    assert_eq!(client.result().await["data"].get("action"), None, "the next result is the deployment's");
    eventually("it's open", || async { store.server_availability().await.unwrap().remove(0).cordoned.is_none() }).await;
    worker.stop().await;
}

/// Takes in an event that says this of the only server, and gives the outcome of its result.
async fn event_says(database: &TestDatabase, store: &Store, cordoned: bool, time: Option<Timestamp>) -> String {
    let mut event: Value =
        serde_json::from_slice(include_bytes!("../../../../protocol/samples/server-cordon.v1.json")).unwrap();
    event["id"] = uuid::Uuid::new_v4().to_string().into();
    event["data"]["server"] = "vps-1".into();
    event["data"]["cordoned"] = cordoned.into();
    event["time"] = json!(time);
    let body = event.to_string().into_bytes();
    let incoming = incoming(&body);
    let Ok(Message::Cordon(request)) = read(&body, &incoming.metadata()) else { panic!("it's valid") };
    assert_eq!(store.accept_cordon(&request, &incoming).await.unwrap(), Ok(Admission::New));
    let sql = "SELECT state FROM deployments WHERE id = $1";
    database.sql.query_one(sql, &[&request.deployment_id().0]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_said_about_a_cordon_the_latest_counts_in_whatever_order_it_comes() {
    let (database, store) = TestDatabase::migrated("w").await;
    add_server(&database, &store, "vps-1", &facts(4096)).await;
    let server = "vps-1".parse().unwrap();
    let is_cordoned = async || store.server_availability().await.unwrap().remove(0).cordoned.is_some();
    let said = async |cordoned, time| event_says(&database, &store, cordoned, time).await;
    let ago = |minutes: i64| Some(Timestamp::now() - jiff::SignedDuration::from_mins(minutes));
    let noon = ago(60);

    assert_eq!(said(true, noon).await, "succeeded");
    assert_eq!(said(false, ago(24 * 60)).await, "superseded");
    assert!(is_cordoned().await);
    assert_eq!(said(false, ago(50)).await, "succeeded");
    // The other way round, though the row of an open server tells no time.
    assert_eq!(said(true, ago(55)).await, "superseded");
    assert!(!is_cordoned().await);
    // What was found to be so already was said as well.
    assert_eq!(said(false, ago(40)).await, "succeeded");
    assert_eq!(said(true, ago(45)).await, "superseded");
    // Of one moment the one that comes later counts, and one without a time is of now.
    let moment = ago(30);
    assert_eq!(said(true, moment).await, "succeeded");
    assert_eq!(said(false, moment).await, "succeeded");
    assert_eq!(said(true, None).await, "succeeded");
    assert_eq!(said(false, ago(1)).await, "superseded");
    // An operator does it now; a clock that is ahead keeps nobody from saying something later.
    assert_eq!(store.cordon_server(&server, false, &operator()).await.unwrap(), Some(true));
    assert_eq!(said(true, ago(1)).await, "superseded");
    assert_eq!(said(true, ago(-24 * 60)).await, "succeeded");
    assert_eq!(said(false, Some(Timestamp::now())).await, "succeeded");
    assert!(!is_cordoned().await);
}
