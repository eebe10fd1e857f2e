//! Requests for which no server has room: they wait, go on by themselves, and end with what each server lacked.

use slipway_protocol::{ErrorCode, LackKind, PlacementReason};
use slipway_worker::store::State;

use super::*;
use crate::services::test_worker::{ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, report};
use crate::services::vhost;

fn done() -> ScriptedStages {
    ScriptedStages::new(|_| async { Ok(report(slipway_protocol::Change::Changed)) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_room_waits_and_goes_on_by_itself_once_there_is_some() {
    let (database, store) = TestDatabase::migrated("outside").await;
    let amqp = vhost();
    let worker = TestWorker::start(database.store("w"), &amqp, done(), WorkerOptions::default());
    let mut client = TestClient::new(&amqp).await;
    let wanted = |event: &mut Value| event["data"]["resources"] = json!({ "ram_mb": 2000 });
    add_server(&database, &store, "vps-1", &facts(1024)).await;
    client.publish(&unplaced(wanted)).await;
    eventually("it waits", || async { store.waiting_for_room().await.unwrap() == 1 }).await;
    eventually("why is told", || async {
        database
            .count("SELECT count(*) FROM deployments WHERE placement -> 'servers' -> 0 -> 'lacks' IS NOT NULL")
            .await
            == 1
    })
    .await;
    // New facts are enough.
    tell(&store, "vps-1", &facts(4096)).await;
    let result = client.result().await;
    let data = &result["data"];
    assert_eq!((&data["outcome"], &data["server"]), (&json!("succeeded"), &json!("vps-1")), "{result:#}");
    assert_eq!(data["placement"]["reason"], "best_score");
    assert_eq!(data["placement"]["ports"]["backend"], 20_000);
    assert!(data["placement"]["servers"][0]["score"].is_number(), "{result:#}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waited_as_long_as_it_may_says_what_each_server_lacked() {
    let (database, store) = TestDatabase::migrated("outside").await;
    let amqp = vhost();
    let worker = TestWorker::start(database.store("w"), &amqp, done(), WorkerOptions::default());
    let mut client = TestClient::new(&amqp).await;
    add_server(&database, &store, "vps-1", &facts(256)).await;
    add_server(&database, &store, "vps-2", &facts(8192)).await;
    let cordon = "UPDATE servers SET cordoned_at = now(), cordon_reason = 'a new disk' WHERE handle = 'vps-2'";
    database.sql.execute(cordon, &[]).await.unwrap();
    client.publish(&unplaced(|event| event["data"]["placement"] = json!({ "wait_seconds": 1 }))).await;
    let result = client.result().await;
    let data = &result["data"];
    assert_eq!((&data["outcome"], &data["failure"]["code"]), (&json!("failed"), &json!("no-capacity")), "{result:#}");
    assert_eq!(data["failure"]["class"], "infrastructure");
    assert!(data.get("server").is_none() && data["attempts"] == 0, "{result:#}");
    let message = data["failure"]["message"].as_str().unwrap();
    assert!(message.contains("512 MiB of memory") && message.contains("vps-2 lacks cordoned"), "{message}");
    let placement = &data["placement"];
    assert_eq!((&placement["reason"], placement["servers"].as_array().unwrap().len()), (&json!("no_room"), 2));
    assert_eq!(placement["servers"][0]["lacks"][0]["what"], "cordoned");
    let letter = client.dead_letter().await;
    assert_eq!(letter.headers["dlq-error-code"], "no-capacity");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_server_can_be_cancelled_and_superseded() {
    let (database, store) = TestDatabase::migrated("w").await;
    let body = unplaced(|_| {});
    let first = accept(&store, &body).await;
    let project = serde_json::from_slice::<Value>(&body).unwrap()["data"]["project"].clone();
    let second = accept(&store, &unplaced(|event| event["data"]["project"] = project.clone())).await;
    assert!(matches!(store.deployment(first).await.unwrap().unwrap().state, State::Ended(_)), "a newer one came");
    store.cancel(second).await.unwrap();
    assert!(matches!(store.deployment(second).await.unwrap().unwrap().state, State::Ended(_)));
    place(&store, &limits()).await;
    assert_eq!(database.count("SELECT count(*) FROM reservations").await, 0);
    // One that names its server takes the place of one that waits.
    let third = accept(&store, &unplaced(|event| event["data"]["project"] = project.clone())).await;
    accept(&store, &request(|event| event["data"]["project"] = project)).await;
    assert!(matches!(store.deployment(third).await.unwrap().unwrap().state, State::Ended(_)));
    assert_eq!(store.waiting_for_room().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_ruled_out_by_labels_sources_slugs_and_age() {
    let (database, store) = TestDatabase::migrated("w").await;
    for handle in ["vps-1", "vps-2", "vps-3", "vps-4"] {
        add_server(&database, &store, handle, &facts(4096)).await;
    }
    let body = unplaced(|event| event["data"]["placement"] = json!({ "required": { "labels": ["ssd"] } }));
    let slug = serde_json::from_slice::<Value>(&body).unwrap()["data"]["project"]["slug"].as_str().unwrap().to_owned();
    let sql = format!(
        "UPDATE servers SET labels = '{{ssd}}' WHERE handle <> 'vps-1';
         INSERT INTO slug_owners (server, project_slug, project_id) VALUES ('vps-2', '{slug}', gen_random_uuid());
         UPDATE server_facts SET seen_at = now() - interval '1 hour' WHERE server = 'vps-3';
         INSERT INTO server_circuits VALUES ('vps-4', 4, now(), now() + interval '1 hour')"
    );
    database.sql.batch_execute(&sql).await.unwrap();
    let id = accept(&store, &body).await;
    place(&store, &limits()).await;
    let placement = store.deployment(id).await.unwrap().unwrap().placement.unwrap();
    assert_eq!(placement.reason, PlacementReason::NoRoom);
    let lacks: Vec<_> = placement.servers.iter().map(|s| (s.server.as_str(), s.lacks[0].what)).collect();
    let expected = [
        ("vps-1", LackKind::Labels),
        ("vps-2", LackKind::Slug),
        ("vps-3", LackKind::Facts),
        ("vps-4", LackKind::Unreachable),
    ];
    assert!(expected.iter().all(|lack| lacks.contains(lack)), "{lacks:?}");
    let failure = ErrorCode::NoCapacity;
    assert_eq!(failure.class(), slipway_protocol::Class::Infrastructure);
    database.sql.execute("DELETE FROM server_circuits", &[]).await.unwrap();
    place(&store, &limits()).await;
    assert_eq!(server_of(&store, id).await.as_deref(), Some("vps-4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_database_fails_to_place_keeps_no_other_from_its_server() {
    let (database, store) = TestDatabase::migrated("outside").await;
    let amqp = vhost();
    add_server(&database, &store, "vps-1", &facts(8192)).await;
    let poison = "
        CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
        CREATE TRIGGER poison BEFORE UPDATE ON deployments FOR EACH ROW WHEN (NEW.project_slug = 'poison')
        EXECUTE FUNCTION poison()";
    let slugged = |slug: &'static str| unplaced(move |event| event["data"]["project"]["slug"] = slug.into());
    let poisoned = accept(&store, &slugged("poison")).await;
    database.sql.batch_execute("UPDATE deployments SET server = NULL, placement = NULL").await.unwrap();
    database.sql.batch_execute(poison).await.unwrap();
    let worker = TestWorker::start(database.store("w"), &amqp, done(), WorkerOptions::default());
    let mut client = TestClient::new(&amqp).await;
    for slug in ["first", "second"] {
        client.publish(&slugged(slug)).await;
        assert_eq!(client.result().await["data"]["outcome"], "succeeded");
    }
    let due = "UPDATE held_deployments SET next_try_at = now(), tried_at = NULL";
    eventually("it's held", || async { database.sql.execute(due, &[]).await.unwrap() == 1 }).await;
    // It's due, and has no server: no claim takes it.
    client.publish(&slugged("third")).await;
    assert_eq!(client.result().await["data"]["outcome"], "succeeded");
    database.sql.batch_execute(&format!("DROP TRIGGER poison ON deployments; {due}")).await.unwrap();
    let result = client.result().await;
    assert_eq!(
        (&result["data"]["deployment_id"], &result["data"]["server"]),
        (&json!(poisoned.to_string()), &json!("vps-1"))
    );
    worker.stop().await;
}
