//! A dead letter that is corrected before it's sent again.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use slipway_protocol::ErrorCode;
use slipway_worker::store::Admission;

use super::{Night, begins, fail, operator, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_dead_letter_is_checked_and_goes_out_as_a_new_event_of_the_same_source() {
    let night = Night::new().await;
    let letter = night.failed("shop", ErrorCode::NotListening, |_| {}).await;
    let mut event: Value =
        serde_json::from_slice(&night.store.dead_letter(letter.0).await.unwrap().unwrap().body.unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edited.json");
    let with = |event: &Value, more: &str| {
        std::fs::write(&file, event.to_string()).unwrap();
        format!("replay {} --with {} {more}", begins(letter), file.display()).trim().to_owned()
    };
    snapshot("edit-without-reason", &night.says(&with(&event, "")).await);
    snapshot("edit-unchanged", &night.says(&with(&event, "--why port")).await);
    event["data"]["allocations"][1]["container_port"] = 0.into();
    snapshot("edit-refused", &night.says(&with(&event, "--why port")).await);
    event["data"]["allocations"][1]["container_port"] = 8080.into();
    let dry = night.json(&with(&event, "--dry-run")).await;
    assert_eq!((&dry["would_replay"], &dry["edited"]["causationid"]), (&json!(1), &event["id"]));
    assert_eq!((night.open().await, night.records().await, night.sent().await.len()), (1, 0, 0), "nothing was done");

    // In an editor, which here is a program that replaces a word.
    let editor = dir.path().join("editor");
    let script = "#!/bin/sh\nstat -c %a \"$1\" >\"$0.mode\"\n\
                  sed -i 's/\"container_port\": 8[0-9]*/\"container_port\": 9999/' \"$1\"\n";
    std::fs::write(&editor, script).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = operator(Some(&night.database), None);
    command.env("EDITOR", &editor).env_remove("VISUAL").env("TMPDIR", dir.path());
    command.args(["dead-letters", "replay", &begins(letter), "--edit", "--why", "wrong port", "--json"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(std::fs::read_to_string(dir.path().join("editor.mode")).unwrap(), "600\n");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("slipway-edit")), "{left:?}");

    let sent = night.sent().await;
    let body: Value = serde_json::from_slice(&sent[0].body).unwrap();
    assert_eq!((&body["causationid"], &body["source"]), (&event["id"], &event["source"]));
    assert_ne!(body["id"], event["id"]);
    assert_ne!(body["time"], event["time"], "it happens now: with its old time it might be too old");
    assert_eq!(body["data"]["allocations"][1]["container_port"], 9999);
    assert!(!sent[0].headers.contains_key("slipway-replay-id"), "it's an event, not a replay");
    let (id, verdict) = night.taken_in(&sent[0]).await;
    assert_eq!((json!(id), verdict), (told["replayed"][0]["deployment_id"].clone(), Admission::New));
    assert_eq!(night.value(id, "resumes").await, None, "other inputs, another journal");
    let audit = night.json("audit").await;
    assert_eq!((&audit[0]["action"], &audit[0]["why"]), (&json!("edit"), &json!("wrong port")));
    // If it fails, too, the letter tells how often it was tried.
    fail(&night.store, ErrorCode::NotListening).await;
    assert_eq!(night.json(&format!("show {id}")).await["replay_count"], 1);
}
