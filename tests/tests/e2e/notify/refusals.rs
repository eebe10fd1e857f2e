//! What can't be delivered is kept, tried again, and told in `slipway status`, without any secret.

use serde_json::{Value, json};
use slipway_tests::people::ChatFault;

use super::scene::{KEY, OPS, Scene, TOKEN, event, eventually, failed};

const ROUTING: &str = r"channels:
  ops:
    telegram: { token_file: bot, chat: -1001000000001, api: TELEGRAM }
    per_minute: 600
  team:
    slack: { url_file: slack }
    per_minute: 600
rules:
  - { projects: [slack-*], to: [team] }
  - to: [ops]
";

/// The channel as `slipway status --json` has it.
async fn channel(scene: &Scene, name: &str) -> Value {
    let status = scene.json(&["status", "--json"]).await;
    let channels = status["notifications"]["channels"].as_array().unwrap().clone();
    channels.into_iter().find(|channel| channel["name"] == name).unwrap_or_else(|| panic!("{status}"))
}

async fn problems(scene: &Scene) -> String {
    scene.json(&["status", "--json"]).await["problems"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_takes_nothing_holds_up_no_other_and_is_told_in_the_status() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let _notifier = scene.notifier(&[]).await;
    scene.telegram.block("77");
    scene.publish(&failed("shop", |data| data["correlation"] = json!({ "chat": 77 }))).await;
    scene.publish(&failed("shop", |data| data["correlation"] = json!({ "chat": 78 }))).await;
    scene.publish(&event("result-succeeded.v1.json", "shop", |_| {})).await;
    eventually("the others are told", || async { scene.telegram.told().len() == 1 }).await;
    assert_eq!(scene.telegram.told()[0].chat, OPS);
    eventually("both refusals are written down", || async { scene.count("problem IS NOT NULL").await == 2 }).await;
    assert_eq!(
        scene.count("ended_at IS NULL AND event IS NOT NULL AND due_at > now()").await,
        2,
        "they are tried again"
    );
    let told = problems(&scene).await;
    assert!(told.contains("ops") && told.contains("(2)"), "{told}");
    let ops = channel(&scene, "ops").await;
    assert_eq!((&ops["waiting"], &ops["refused"], &ops["failures"]), (&json!(2), &json!(2), &json!(0)), "{ops}");
    assert!(ops["problem"].as_str().unwrap().contains("chat 7"), "{ops}");

    // Half a day later.
    scene
        .database
        .sql
        .execute("UPDATE notifications SET tries = 60, due_at = now() WHERE ended_at IS NULL", &[])
        .await
        .unwrap();
    eventually("they are given up", || async { scene.count("ended_at IS NOT NULL AND NOT told").await == 2 }).await;
    assert_eq!(channel(&scene, "ops").await["given_up"], 2);
    assert!(problems(&scene).await.contains("given up"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_does_not_work_keeps_everything_and_is_told_once_it_does() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    scene.secret("bot", "123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let notifier = scene.notifier(&[]).await;
    scene.slack.plant(ChatFault::Refuse(404, "no_service"));
    scene.slack.plant(ChatFault::Refuse(400, "invalid_payload"));
    for n in 0..4 {
        scene.publish(&failed(&format!("shop-{n}"), |_| {})).await;
        scene.publish(&failed(&format!("slack-{n}"), |_| {})).await;
    }
    eventually("both channels have failed", || async {
        let failing = "SELECT count(*) FROM notification_channels WHERE failures > 0 OR problem IS NOT NULL";
        scene.database.count(failing).await == 2 && scene.count("ended_at IS NULL").await >= 5
    })
    .await;
    let ops = channel(&scene, "ops").await;
    assert!(ops["problem"].as_str().unwrap().contains("Unauthorized") && ops["waiting"] == 4, "{ops}");
    let output = scene.run(&["status"]).await;
    let said = [String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap()].concat();
    assert!(output.status.code() == Some(1) && said.contains("@BotFather"), "{said}");
    assert_eq!(scene.count("tries > 1").await, 0, "that is no fault of the messages");

    // The operator puts the right token into the file.
    scene.secret("bot", TOKEN);
    assert_eq!(notifier.stop(), Some(0));
    let _notifier = scene.notifier(&[]).await;
    eventually("everything is told", || async { scene.telegram.told().len() == 4 }).await;
    scene.database.sql.execute("UPDATE notifications SET due_at = now() WHERE ended_at IS NULL", &[]).await.unwrap();
    eventually("Slack, too", || async { scene.slack.told().len() == 4 }).await;
    eventually("nothing waits", || async { scene.count("ended_at IS NULL OR NOT told").await == 0 }).await;
    for channel in ["ops", "team"] {
        assert_eq!(self::channel(&scene, channel).await["waiting"], 0);
    }

    let rows = "SELECT coalesce(string_agg(concat(n, c), ' '), '') FROM notifications n, notification_channels c";
    let stored: String = scene.database.sql.query_one(rows, &[]).await.unwrap().get(0);
    for text in [scene.log(), said, stored] {
        for secret in [TOKEN, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cccccccccccccccccccccccc", KEY] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_that_is_not_there_is_missed_and_what_it_has_to_tell_is_not_lost() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let notifier = scene.notifier(&[]).await;
    notifier.kill();
    scene.publish(&failed("shop", |_| {})).await;
    eventually("its queue is missed a consumer", || async { problems(&scene).await.contains("slipway notify") }).await;
    let mut old = failed("shop", |_| {});
    old["time"] = "2026-01-01T00:00:00Z".into();
    scene.publish(&old).await;
    let _notifier = scene.notifier(&[]).await;
    eventually("it's told", || async { scene.telegram.told().len() == 1 }).await;
    eventually("nothing is missed any more", || async { !problems(&scene).await.contains("slipway notify") }).await;
    assert_eq!(scene.count("true").await, 1, "nobody is told of what is long over");
}
