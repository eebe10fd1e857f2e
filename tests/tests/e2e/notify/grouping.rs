//! A server that is down is one message, not fifty; and quiet hours are quiet.

use jiff::{Timestamp, ToSpan as _};

use super::scene::{LONG, Scene, event, eventually, failed, server_down};

const ROUTING: &str = r#"channels:
  ops:
    telegram: { token_file: bot, chat: -1001000000001, api: TELEGRAM }
    per_minute: 600
    group: { wait: 2s, every: 8s }
  hook:
    webhook: { url: RECEIVER, secret_files: [key] }
    per_minute: 600
rules:
  - to: [ops, hook]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_one_message_and_those_that_come_later_another() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let _notifier = scene.notifier(&[]).await;
    for n in 0..50 {
        scene.publish(&server_down(&format!("shop-{n}"), "vps-1")).await;
    }
    scene.publish(&server_down("bakery", "vps-9")).await;
    scene.publish(&failed("kiosk", |_| {})).await;
    eventually("the three messages are there", || async { scene.telegram.told().len() == 3 }).await;
    let told = scene.telegram.told();
    let of =
        |part: &str| told.iter().find(|told| told.text.contains(part)).unwrap_or_else(|| panic!("{part}: {told:?}"));
    let down = &of("vps-1").text;
    let lines: Vec<&str> = down.lines().collect();
    assert_eq!(lines[0], "50 deployments failed on vps-1: server-unreachable", "{down}");
    assert_eq!(lines[1], "server-unreachable in preflight: vps-1 doesn't answer on port 22");
    assert!(lines[2].starts_with("- shop-0 0123456 couldn't be deployed") && down.contains("- and 30 more"), "{down}");
    assert!(down.contains("Next: Check the server"), "{down}");
    assert!(of("vps-9").text.starts_with("bakery 0123456 couldn't"), "one alone is told as ever");
    assert!(of("kiosk").text.starts_with("kiosk 0123456 couldn't"));

    for n in 50..55 {
        scene.publish(&server_down(&format!("shop-{n}"), "vps-1")).await;
    }
    eventually("those that came later are told together", || async { scene.telegram.told().len() == 4 }).await;
    assert!(scene.telegram.told()[3].text.starts_with("5 deployments failed on vps-1: server-unreachable"));
    eventually("a program gets each of them", || async { scene.receiver.received().len() == 57 }).await;
    eventually("all of it is marked as told", || async { scene.count("NOT told").await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_quiet_hours_only_what_is_urgent_is_told_and_the_rest_together_afterwards() {
    let scene = Scene::new().await;
    // They began an hour ago, and end soon, at a full minute.
    let now = Timestamp::now();
    let end = now.checked_add(70.seconds()).unwrap();
    let clock = |at: Timestamp| at.strftime("%H:%M").to_string();
    let quiet =
        format!("    quiet: {{ from: \"{}\", to: \"{}\" }}\n", clock(now.checked_sub(1.hour()).unwrap()), clock(end));
    let urgent = "rules:\n  - { classes: [infrastructure], to: [ops], urgent: true }\n  - to: [ops]\n";
    let routing = ROUTING
        .replace("    group: { wait: 2s, every: 8s }\n", &format!("{quiet}    group: {{ wait: 0s, every: 0s }}\n"));
    scene.route(&format!("{}{urgent}", routing.split("rules:").next().unwrap()));
    let _notifier = scene.notifier(&[]).await;
    scene.publish(&event("result-succeeded.v1.json", "shop", |_| {})).await;
    scene.publish(&failed("kiosk", |_| {})).await;
    scene.publish(&server_down("bakery", "vps-1")).await;
    eventually("what is urgent is told", || async { scene.telegram.told().len() == 1 }).await;
    assert!(scene.telegram.told()[0].text.starts_with("bakery"), "{:?}", scene.telegram.told());
    tokio::time::sleep(LONG).await;
    if Timestamp::now() < now.checked_add(9.seconds()).unwrap() {
        assert_eq!(scene.telegram.told().len(), 1, "it's quiet");
    }
    assert_eq!(scene.count("ended_at IS NULL AND due_at > now()").await, 2);
    // Morning comes.
    scene.database.sql.execute("UPDATE notifications SET due_at = now() WHERE ended_at IS NULL", &[]).await.unwrap();
    eventually("the rest is one message", || async { scene.telegram.told().len() == 2 }).await;
    let told = &scene.telegram.told()[1].text;
    assert!(
        told.starts_with("2 deployments have ended") && told.contains("- kiosk") && told.contains("- shop"),
        "{told}"
    );
}
