//! What people read: what happened, what serves now, what to do, and the link, in each channel's own form.

use serde_json::{Value, json};
use slipway_tests::people::ChatFault;

use super::scene::{OPS, Scene, event, eventually, failed};

const ROUTING: &str = r#"link: "https://ops.example.org/deployments/{deployment}"
channels:
  ops:
    telegram: { token_file: bot, chat: -1001000000001, api: TELEGRAM }
    per_minute: 600
  team:
    slack: { url_file: slack }
    per_minute: 600
    template: "{title} ({class})\n{what}\n{url}{next}"
  hook:
    webhook: { url: RECEIVER, secret_files: [key] }
    per_minute: 600
rules:
  - { projects: ["quiet-*"], to: [] }
  - { outcomes: [succeeded], projects: ["shop"], to: [ops] }
  - to: [ops, team, hook]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_says_what_happened_what_serves_what_to_do_and_where_to_look() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let notifier = scene.notifier(&[]).await;
    let serving = json!({ "commit": "89abcdef0123456789abcdef0123456789abcdef", "proven": true });
    let bad = failed("shop", |data| data["serving"] = serving);
    scene.publish(&bad).await;
    eventually("all three are told", || async {
        scene.telegram.told().len() == 1 && scene.slack.told().len() == 1 && scene.receiver.received().len() == 1
    })
    .await;
    let told = &scene.telegram.told()[0];
    let lines: Vec<&str> = told.text.lines().collect();
    let deployment = bad["data"]["deployment_id"].as_str().unwrap();
    assert_eq!((told.chat.as_str(), told.bold.as_slice()), (OPS, [lines[0].to_owned()].as_slice()), "{told:?}");
    assert_eq!(lines[0], "shop 0123456 couldn't be deployed on vps-267179");
    assert!(lines[1].starts_with("compose-not-allowed in compose: ghcr.io/acme-org/corner-shop-backend:"), "{lines:?}");
    assert_eq!(lines[2], "89abcde serves now");
    assert_eq!(lines[3], "Next: Check that the project's CI has built and pushed this commit");
    assert_eq!(lines[4], format!("https://ops.example.org/deployments/{deployment}"));
    assert_eq!(lines[5], format!("Deployment {deployment}, 41.5 s"));
    let slack = &scene.slack.told()[0];
    assert!(
        slack.starts_with("shop 0123456 couldn't be deployed on vps-267179 (permanent)\ncompose-not-allowed in"),
        "{slack}"
    );
    assert!(slack.ends_with("\nNext: Check that the project's CI has built and pushed this commit"), "{slack}");
    let received = &scene.receiver.received()[0];
    assert_eq!(serde_json::from_slice::<Value>(&received.body).unwrap(), bad, "a program gets the event itself");
    assert_eq!(received.id, bad["id"].as_str().unwrap());

    let good = event("result-succeeded.v1.json", "shop", |data| {
        data["correlation"] = json!({ "chat": { "id": -100, "topic": 7 } })
    });
    scene.publish(&event("result-failed.v1.json", "quiet-one", |_| {})).await;
    scene.publish(&good).await;
    eventually("the project's own chat is told", || async { scene.telegram.told().len() == 2 }).await;
    let told = &scene.telegram.told()[1];
    assert_eq!((told.chat.as_str(), told.topic), ("-100", Some(7)), "{told:?}");
    assert!(
        told.text.contains(" is deployed on ") && told.text.contains(good["data"]["url"].as_str().unwrap()),
        "{told:?}"
    );
    assert_eq!(scene.slack.told().len(), 1, "the first rule that matches decides");
    assert_eq!(notifier.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_text_acts_in_no_channel_and_a_long_one_is_shortened() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let _notifier = scene.notifier(&[]).await;
    let tricks = r"_*[]()~`>#+-=|{}.! \ <!channel> @everyone & <https://example.org|x> *bold* {title} %s";
    let token = format!("ghp_{}", "a1B2".repeat(9));
    scene
        .publish(&failed("shop", |data| data["failure"]["message"] = format!("{tricks}\nfatal: {token}").into()))
        .await;
    let long = "gibberish 😀 of_a *compiler* ".repeat(2000);
    scene.publish(&failed("shop", |data| data["failure"]["message"] = long.into())).await;
    eventually("both are told", || async { scene.telegram.told().len() == 2 && scene.slack.told().len() == 2 }).await;
    let telegram = scene.telegram.told();
    assert!(telegram[0].text.contains(tricks), "{}", telegram[0].text);
    assert_eq!(telegram[0].bold, ["shop 0123456 couldn't be deployed on vps-267179"]);
    let length = telegram[1].text.encode_utf16().count();
    assert!((4000..=4096).contains(&length), "{length}");
    let last: Vec<&str> = telegram[1].text.lines().rev().take(3).collect();
    assert!(last[0].starts_with("Deployment ") && last[1].starts_with("https://ops.example.org/"), "{last:?}");
    let slack = scene.slack.told();
    assert!(
        slack[0].contains("&lt;!channel&gt; @\u{200b}everyone &amp; &lt;https://example.org|x&gt;"),
        "{}",
        slack[0]
    );
    assert!((3900..=4000).contains(&slack[1].chars().count()), "{}", slack[1].chars().count());
    for text in telegram.iter().map(|told| &told.text).chain(&slack) {
        assert!(!text.contains(&token), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_telegram_does_not_take_as_it_is_goes_plain_shorter_or_to_the_new_group() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let _notifier = scene.notifier(&[]).await;
    scene.telegram.plant(ChatFault::Refuse(400, "Bad Request: can't parse entities: Character '.' is reserved"));
    scene.publish(&event("result-succeeded.v1.json", "shop", |_| {})).await;
    eventually("it's told without markup", || async { scene.telegram.told().len() == 1 }).await;
    assert!(scene.telegram.told()[0].bold.is_empty());

    scene.telegram.plant(ChatFault::Refuse(400, "Bad Request: message is too long"));
    let long = "word ".repeat(2000);
    scene.publish(&failed("shop", |data| data["failure"]["message"] = long.into())).await;
    eventually("it's told shorter", || async { scene.telegram.told().len() == 2 }).await;
    assert!(scene.telegram.told()[1].text.len() <= 2048);

    scene.telegram.migrate(OPS, -100_200);
    scene.publish(&event("result-succeeded.v1.json", "shop", |_| {})).await;
    eventually("the supergroup is told", || async { scene.telegram.told().len() == 3 }).await;
    assert_eq!(scene.telegram.told()[2].chat, "-100200");
}
