//! The fleet by the command line: windows, names of one machine, what stays of a server that was removed, and placement.

use super::*;

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake";

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_of_a_server_that_is_unknown_or_of_no_length_is_refused() {
    let (database, _store) = TestDatabase::migrated("w").await;
    let maintenance = async |words: &[&str]| {
        let words: Vec<&str> = ["servers", "maintenance"].iter().chain(words).copied().collect();
        run(operator(Some(&database), None), &words).await
    };
    for words in [&["nosuch", "--end"][..], &["nosuch", "--for", "1h"]] {
        let said = maintenance(words).await;
        assert!(said.starts_with("exit: 2\n") && said.contains("nosuch isn't in the inventory"), "{said}");
    }
    let said = maintenance(&["nosuch"]).await;
    for way in ["--until", "--for", "--end"] {
        assert!(said.starts_with("exit: 2\n") && said.contains(way), "{said}");
    }
    for words in [&["--until", "2999-01-01T00:00:00Z", "--for", "1h"][..], &["--end", "--for", "1h"]] {
        let said = maintenance(&[&["vps-1"], words].concat()).await;
        assert!(said.starts_with("exit: 2\n") && said.contains("cannot be used with"), "{said}");
    }
    run(operator(Some(&database), None), &["servers", "add", "vps-1", "--address", "203.0.113.10"]).await;
    let said = maintenance(&["vps-1", "--for", "1h"]).await;
    assert!(said.starts_with("exit: 0\n"), "{said}");
    for ended in ["(1)", "(0)"] {
        let said = maintenance(&["vps-1", "--end"]).await;
        assert!(said.starts_with("exit: 0\n") && said.contains(ended), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_name_of_one_machine_is_told_when_it_is_given() {
    let (database, _store) = TestDatabase::migrated("w").await;
    let add = async |handle: &str, words: &[&str]| {
        let words: Vec<&str> = ["servers", "add", handle].iter().chain(words).copied().collect();
        let said = run(operator(Some(&database), None), &words).await;
        assert!(said.starts_with("exit: 0\n"), "{said}");
        said.contains("it's one machine")
    };
    assert!(!add("vps-1", &["--address", "203.0.113.10", "--host-key", HOST_KEY]).await);
    assert!(add("vps-2", &["--address", "203.0.113.10"]).await);
    assert!(!add("vps-2", &["--port", "2222"]).await, "another port may lead to another machine");
    assert!(add("vps-3", &["--address", "vps.example.org", "--host-key", HOST_KEY]).await);
    let told = json_of(operator(Some(&database), None), &["servers", "add", "vps-3", "--note", "4 GB"]).await;
    assert_eq!(told["same_machine_as"], json!(["vps-1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_servers_front_door_is_shown_once_it_was_removed() {
    let (database, store) = TestDatabase::migrated("w").await;
    let nobody: SecretString = "amqp://me:hunter2@127.0.0.1:1".to_owned().into();
    run(operator(Some(&database), None), &["servers", "add", "vps-1", "--address", "203.0.113.10"]).await;
    let facts = json!({ "version": "v2.11.4", "image": "caddy", "projects": [], "certificates": [] });
    store.record_front_door(&"vps-1".parse().unwrap(), &facts).await.unwrap();
    let status = async || run(operator(Some(&database), Some(&nobody)), &["status"]).await;
    assert!(status().await.contains("FRONT DOOR"));
    run(operator(Some(&database), None), &["servers", "remove", "vps-1"]).await;
    let left = status().await;
    assert!(!left.contains("FRONT DOOR") && !left.contains("v2.11.4"), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_no_room_is_told_for_how_long_it_would_wait() {
    let (database, _store) = TestDatabase::migrated("w").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("request.json");
    let mut event: Value = serde_json::from_slice(&sample()).unwrap();
    let data = event["data"].as_object_mut().unwrap();
    data.remove("server");
    data.remove("expires_at");
    for (wait, told) in [(600, "It would wait for room for 10 min 00 s"), (0, "at once, since it waits for no time")] {
        event["data"]["placement"] = json!({ "wait_seconds": wait });
        std::fs::write(&file, event.to_string()).unwrap();
        let words = ["placement", "explain", file.to_str().unwrap()];
        let said = run(operator(Some(&database), None), &words).await;
        assert!(said.starts_with("exit: 1\n") && said.contains(told), "{said}");
        assert_eq!(json_of(operator(Some(&database), None), &words).await["wait_seconds"], wait);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_for_a_missing_queue_or_a_time_that_ends_before_it_begins_is_refused() {
    let (database, _store) = TestDatabase::migrated("w").await;
    let amqp = vhost();
    let replay = async |words: &[&str]| {
        let words: Vec<&str> = ["events", "replay", "--to", "nosuch"].iter().chain(words).copied().collect();
        run(operator(Some(&database), Some(&amqp)), &words).await
    };
    // There is nothing to send, and still it's refused.
    let said = replay(&["--since", "2h"]).await;
    assert!(said.starts_with("exit: 2\n") && said.contains("there is no queue nosuch"), "{said}");
    for words in
        [["--since", "1h", "--until", "2h"], ["--since", "2026-11-01T00:00:00Z", "--until", "2026-11-01T00:00:00Z"]]
    {
        let said = replay(&words).await;
        assert!(said.starts_with("exit: 2\n") && said.contains("--until isn't after --since"), "{said}");
    }
}
