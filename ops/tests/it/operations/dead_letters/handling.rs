//! All that is done with dead letters short of sending them again: grouped, put aside, noted, exported, audited.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use slipway_protocol::ErrorCode;

use super::{Night, begins, operator, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_grouped_filtered_archived_exported_and_every_act_is_recorded() {
    let night = Night::new().await;
    snapshot("groups-none", &night.says("groups").await);
    let bakery = night.failed("bakery", ErrorCode::PortOccupied, |_| {}).await;
    let project = uuid::Uuid::new_v4().to_string();
    let same = |event: &mut Value| event["data"]["project"]["id"] = project.as_str().into();
    let florist = night.failed("florist", ErrorCode::PortOccupied, same).await;
    night.failed("florist", ErrorCode::CrashLoop, same).await;
    let old = format!("UPDATE dead_letters SET last_failed_at = now() - interval '3 hours' WHERE id = '{bakery}'");
    night.database.sql.batch_execute(&old).await.unwrap();

    let groups = night.json("groups").await;
    assert_eq!(
        (&groups[0]["code"], &groups[0]["count"], &groups[1]["count"]),
        (&json!("port-occupied"), &json!(2), &json!(1))
    );
    assert_eq!(night.json("groups --by-project").await.as_array().unwrap().len(), 3);
    let count = async |args: &str| night.json(&format!("list {args}")).await.as_array().unwrap().len();
    for (filter, expected) in [
        ("--project florist", 2),
        ("--class permanent", 1),
        ("--code port-occupied --since 2h", 1),
        ("--until 2h", 1),
        ("--stage clone", 0),
        ("--stage preflight --project bakery", 1),
        ("--state archived", 0),
    ] {
        assert_eq!(count(filter).await, expected, "{filter}");
    }

    // Archiving needs a reason, and many at once need consent.
    snapshot("archive-without-reason", &night.says(&format!("archive {}", begins(bakery))).await);
    snapshot("archive-without-consent", &night.says("archive --code port-occupied --why gone").await);
    snapshot("archive-nothing-chosen", &night.says("archive --why gone").await);
    assert_eq!(night.json("archive --code port-occupied --dry-run").await, json!({ "would_archive": 2 }));
    assert_eq!((night.open().await, night.records().await), (3, 0), "nothing was done yet");
    let archived = night.json("archive --code port-occupied --why gone --yes --as ops-bot").await;
    assert_eq!(archived["archived"].as_array().unwrap().len(), 2);
    assert!(night.says(&format!("archive {} --why gone", begins(bakery))).await.contains("isn't open: archived"));
    assert_eq!(night.json(&format!("restore {}", begins(florist))).await, json!({ "restored": [florist] }));
    assert_eq!(night.open().await, 2);

    let mut note = operator(Some(&night.database), None);
    note.args(["dead-letters", "note", &begins(florist), "nginx is asked about"]);
    tokio::task::spawn_blocking(move || note.assert().success()).await.unwrap();
    let shown = night.says(&format!("show {}", begins(florist))).await;
    assert!(shown.contains("nginx is asked about") && shown.contains("archive by ops-bot: gone"), "{shown}");
    // The same project's later failure is newer.
    assert!(shown.contains("A replay:     not without --force:"), "{shown}");

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let body = night.store.dead_letter(florist.0).await.unwrap().unwrap().body.unwrap();
    let exported = night.json(&format!("export {} --out {}", begins(florist), out.display())).await;
    assert_eq!((&exported["exported"], &exported["withheld"]), (&json!(1), &json!(0)));
    assert_eq!(std::fs::read(out.join(format!("{florist}.body"))).unwrap(), body);
    assert_eq!(out.join(format!("{florist}.body")).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let line = night.json("export --project florist --limit 1").await;
    assert_eq!(line["withheld"], false);
    assert!(line["body"].as_str().unwrap().starts_with('{'));

    let audit = night.json("audit").await;
    let acts: Vec<_> = audit.as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(acts, ["export", "export", "note", "restore", "archive", "archive"]);
    let host = audit[0]["who"].as_str().unwrap();
    assert!(host.starts_with("ada@") && host.len() > 4, "{host}");
    assert_eq!((&audit[4]["who"], &audit[4]["why"]), (&json!("ops-bot"), &json!("gone")));
    assert_eq!(night.json(&format!("audit {} --action note", begins(florist))).await.as_array().unwrap().len(), 1);
    assert_eq!(night.json("audit --as ops-bot --since 1h").await.as_array().unwrap().len(), 2);
    assert!(night.says("audit").await.contains("ops-bot"));
}
