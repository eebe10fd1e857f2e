//! Front doors: what is said for a server, and what was seen of its door.

use super::*;

fn facts(not_after: &str, found_down: Option<&str>) -> Value {
    let mut facts = json!({
        "version": "v2.11.4", "image": "docker.io/library/caddy:2@sha256:ab", "projects": ["kiosk", "shop"],
        "certificates": [{ "domain": "shop.example.org", "not_after": not_after }],
    });
    if let Some(found) = found_down {
        facts["found_down"] = found.into();
    }
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_servers_front_door_is_kept_until_something_else_is_said() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let said = async |words: &[&str]| {
        let words: Vec<&str> = ["servers", "add", "vps-1"].iter().chain(words).copied().collect();
        let shown = run(operator(), &words).await;
        assert!(shown.starts_with("exit: 0\n"), "{shown}");
        let handle = "vps-1".parse().unwrap();
        let changed = json_of(operator(), &["audit", "vps-1", "--limit", "1"]).await[0]["details"].clone();
        (store.server(&handle).await.unwrap().unwrap().front_door, changed)
    };
    let (choice, added) = said(&["--address", "203.0.113.10"]).await;
    assert_eq!((choice, &added["added"]["front_door"]), (None, &Value::Null));
    let (choice, changed) = said(&["--front-door", "off", "--why", "it has a proxy of its own"]).await;
    assert_eq!((choice, changed), (Some(false), json!({ "changed": { "front_door": [null, false] } })));
    assert_eq!(said(&["--note", "8 GB"]).await.0, Some(false), "what isn't given stays");
    let listed = json_of(operator(), &["servers", "list"]).await;
    assert_eq!(listed[0]["front_door"], false);
    assert!(run(operator(), &["servers", "list"]).await.contains("off"));
    assert_eq!(said(&["--front-door", "on"]).await.0, Some(true));
    assert_eq!(said(&["--front-door", "default"]).await, (None, json!({ "changed": { "front_door": [true, null] } })));
    let refused = run(operator(), &["servers", "add", "vps-1", "--front-door", "true"]).await;
    assert!(refused.starts_with("exit: 2\n") && refused.contains("must be on, off or default"), "{refused}");
    assert!(run(operator(), &["servers", "show", "vps-9"]).await.starts_with("exit: 2\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_of_a_front_door_is_shown_and_what_is_wrong_with_it_is_told() {
    let (database, store) = TestDatabase::migrated("w").await;
    let nobody: SecretString = "amqp://me:hunter2@127.0.0.1:1".to_owned().into();
    let operator = || operator(Some(&database), Some(&nobody));
    run(operator(), &["servers", "add", "vps-1", "--address", "203.0.113.10", "--front-door", "on"]).await;
    let shown = run(operator(), &["servers", "show", "vps-1"]).await;
    assert!(shown.contains("front door  on") && shown.contains("No front door was seen there yet"), "{shown}");
    assert_eq!(json_of(operator(), &["servers", "show", "vps-1"]).await["front_door_seen"], Value::Null);

    let (vps, other) = ("vps-1".parse().unwrap(), "vps-2".parse().unwrap());
    store.record_front_door(&vps, &facts("2999-01-01T00:00:00Z", None)).await.unwrap();
    let well = run(operator(), &["status"]).await;
    assert!(well.contains("vps-1       v2.11.4  2         1             2999-01-01 00:00:00Z"), "{well}");
    assert!(!well.contains("certificates on") && !well.contains("found down"), "{well}");
    let shown = run(operator(), &["servers", "show", "vps-1"]).await;
    for part in ["kiosk, shop", "shop.example.org until 2999-01-01 00:00:00Z", "docker.io/library/caddy:2@sha256:ab"] {
        assert!(shown.contains(part), "{shown}");
    }

    store.record_front_door(&vps, &facts("2020-01-01T00:00:00Z", Some("exited (137)"))).await.unwrap();
    let failed =
        "INSERT INTO front_doors (server, problem, problem_at) VALUES ('vps-2', 'port 443 is held by nginx', now())";
    database.sql.execute(failed, &[]).await.unwrap();
    let ill = run(operator(), &["status"]).await;
    assert!(ill.contains("problem: the front door of vps-2 has failed since"), "{ill}");
    assert!(
        ill.contains("certificates on vps-1 end within 14 days") && ill.contains("shop.example.org (2020"),
        "{ill}"
    );
    assert!(
        ill.contains("the front door of vps-1 was found down and repaired") && ill.contains("exited (137)"),
        "{ill}"
    );
    let status = json_of(operator(), &["status"]).await;
    let doors = &status["front_doors"];
    assert_eq!(
        (&doors[0]["projects"], &doors[0]["ending_soon"]),
        (&json!(["kiosk", "shop"]), &json!(["shop.example.org"]))
    );
    assert_eq!(
        (&doors[1]["server"], &doors[1]["failed_because"]),
        (&json!("vps-2"), &json!("port 443 is held by nginx"))
    );
    assert!(status["problems"].to_string().contains("vps-2 has failed"), "{status}");
    store.record_front_door(&other, &facts("2999-01-01T00:00:00Z", None)).await.unwrap();
    let status = json_of(operator(), &["status"]).await;
    assert!(!status["problems"].to_string().contains("front door"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_a_domain_is_can_be_looked_up() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let body = request(|e| {
        e["data"]["project"]["slug"] = "kiosk".into();
        e["data"]["allocations"][1]["domains"] = json!(["shop.example.org"]);
    });
    accept(&store, &body).await;
    let found = json_of(operator(), &["projects", "owners", "shop.example"]).await;
    assert_eq!(
        (&found[0]["domain"], &found[0]["server"]),
        (&json!("shop.example.org"), &json!("vps-267179")),
        "{found}"
    );
    let shown = run(operator(), &["projects", "owners"]).await;
    assert!(shown.contains("shop.example.org (kiosk on vps-267179)"), "{shown}");
}
