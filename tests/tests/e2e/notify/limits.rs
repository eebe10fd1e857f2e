//! Rates and waits: what Telegram and Slack ask for is kept by all processes, also over a restart, and nothing is lost by it.

use std::time::{Duration, Instant};

use slipway_tests::people::ChatFault;

use super::scene::{Scene, eventually, failed};

const ROUTING: &str = r"channels:
  ops:
    telegram: { token_file: bot, chat: -1001000000001, api: TELEGRAM }
    per_minute: 600
  team:
    slack: { url_file: slack }
    per_minute: 600
  hook:
    webhook: { url: RECEIVER, secret_files: [key] }
    per_minute: 600
rules:
  - to: [ops, team, hook]
";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_channel_asks_to_wait_is_waited_and_then_everything_is_told_in_order() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let _notifier = scene.notifier(&[]).await;
    for _ in 0..3 {
        scene.telegram.plant(ChatFault::Limit(2));
    }
    scene.slack.plant(ChatFault::Limit(3));
    scene.receiver.plant(ChatFault::Limit(1));
    for n in 0..8 {
        scene.publish(&failed(&format!("shop-{n}"), |_| {})).await;
    }
    eventually("all are told everywhere", || async {
        scene.telegram.told().len() == 8 && scene.slack.told().len() == 8 && scene.receiver.received().len() == 8
    })
    .await;
    let early = [scene.telegram.early(), scene.slack.early(), scene.receiver.early()];
    assert_eq!(early, [0, 0, 0], "nobody came before the time");
    for (n, told) in scene.telegram.told().iter().enumerate() {
        assert!(told.text.starts_with(&format!("shop-{n} ")), "{n}: {}", told.text);
    }
    assert_eq!(scene.count("tries > 1 OR problem IS NOT NULL").await, 0, "waiting is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_holds_over_a_restart_and_the_own_rate_among_two_processes() {
    let scene = Scene::new().await;
    let slow = ROUTING.replace("per_minute: 600", "per_minute: 120").replace("[ops, team, hook]", "[ops]");
    scene.route(&slow);
    let first = scene.notifier(&[]).await;
    scene.telegram.plant(ChatFault::Limit(5));
    let asked = Instant::now();
    scene.publish(&failed("shop", |_| {})).await;
    eventually("Telegram's wait is known", || async {
        scene
            .database
            .count("SELECT count(*) FROM notification_channels WHERE limited_until > now() + interval '1 s'")
            .await
            == 1
    })
    .await;
    assert_eq!(first.stop(), Some(0));
    let _second = scene.notifier(&[]).await;
    eventually("it's told", || async { scene.telegram.told().len() == 1 }).await;
    assert!(asked.elapsed() >= Duration::from_secs(5) && scene.telegram.early() == 0);

    let mut third = scene.slipway();
    third.args(["notify", "routing.yaml"]).stderr(std::process::Stdio::null());
    let mut third = third.spawn().unwrap();
    let begun = Instant::now();
    for n in 0..8 {
        scene.publish(&failed(&format!("shop-{n}"), |_| {})).await;
    }
    eventually("all are told", || async { scene.telegram.told().len() == 9 }).await;
    assert!(begun.elapsed() >= Duration::from_millis(3400), "{:?}", begun.elapsed());
    third.kill().unwrap();
    third.wait().unwrap();
}
