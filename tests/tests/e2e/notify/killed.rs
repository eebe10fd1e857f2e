//! kill -9 in the middle: nothing is lost, and nothing comes twice where the other side can recognise it.

use std::collections::BTreeSet;
use std::time::Duration;

use slipway_tests::people::ChatFault;

use super::scene::{Scene, eventually, failed};

const ROUTING: &str = r"channels:
  ops:
    telegram: { token_file: bot, chat: -1001000000001, api: TELEGRAM }
    per_minute: 600
  hook:
    webhook: { url: RECEIVER, secret_files: [key] }
    per_minute: 600
rules:
  - to: [ops, hook]
";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_notifier_does_when_it_is_killed_every_event_is_told() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let mut ids = BTreeSet::new();
    // Killed before it has a moment, and in the middle of taking in, sending and marking.
    for round in 0..8_u64 {
        let notifier = scene.notifier(&[]).await;
        for n in 0..6 {
            let event = failed(&format!("shop-{round}-{n}"), |_| {});
            ids.insert(event["id"].as_str().unwrap().to_owned());
            scene.publish(&event).await;
        }
        tokio::time::sleep(Duration::from_millis(37 * round)).await;
        notifier.kill();
        // Nobody has to wait for the lease of one who is known to be dead.
        scene.database.sql.execute("UPDATE notification_channels SET leased_until = now()", &[]).await.unwrap();
    }
    let notifier = scene.notifier(&[]).await;
    eventually("everything is told", || async { scene.count("told").await == 96 }).await;
    assert_eq!(notifier.stop(), Some(0));
    let acted: Vec<String> =
        scene.receiver.received().iter().filter(|one| !one.again).map(|one| one.id.clone()).collect();
    assert_eq!(acted.len(), 48, "the receiver acts once for each id");
    assert_eq!(acted.into_iter().collect::<BTreeSet<_>>(), ids);
    let told = scene.telegram.told();
    for round in 0..8 {
        for n in 0..6 {
            let name = format!("shop-{round}-{n} ");
            let times: Vec<_> = told.iter().filter(|told| told.text.starts_with(&name)).collect();
            assert!(!times.is_empty(), "{name} is lost");
            let again = times.iter().skip(1).all(|told| told.text.contains("may have been told before"));
            assert!(again, "{name} came twice without a word: {times:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_is_no_loss_and_what_may_come_twice_says_so() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let notifier = scene.notifier(&[]).await;
    scene.telegram.plant(ChatFault::NoAnswer);
    scene.receiver.plant(ChatFault::LostAnswer);
    scene.publish(&failed("shop", |_| {})).await;
    eventually("both are under way", || async {
        scene.telegram.told().len() == 1 && !scene.receiver.received().is_empty()
    })
    .await;
    notifier.kill();
    // The lease of the dead one is waited for: it might have been frozen alone.
    let _notifier = scene.notifier(&[]).await;
    eventually("it's told again", || async { scene.count("told").await == 2 }).await;
    let (told, received) = (scene.telegram.told(), scene.receiver.received());
    assert!(!told[0].text.contains("before:") && told[1].text.contains("(This may have been told before"), "{told:?}");
    assert_eq!(received.iter().map(|one| one.again).collect::<Vec<_>>(), [false, true]);
    assert_eq!(received[0].body, received[1].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_again_is_told_once_also_after_a_restart() {
    let scene = Scene::new().await;
    scene.route(ROUTING);
    let notifier = scene.notifier(&[]).await;
    let event = failed("shop", |_| {});
    scene.publish(&event).await;
    scene.publish(&event).await;
    eventually("it's told", || async { scene.count("told").await == 2 }).await;
    assert_eq!(notifier.stop(), Some(0));
    let _notifier = scene.notifier(&[]).await;
    scene.publish(&event).await;
    let last = failed("last", |_| {});
    scene.publish(&last).await;
    eventually("what came behind it is told", || async { scene.count("told").await == 4 }).await;
    assert_eq!((scene.telegram.told().len(), scene.receiver.received().len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_key_is_changed_the_receiver_knows_either_and_an_old_message_is_refused() {
    let scene = Scene::new().await;
    let new = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    scene.secret("new", new);
    scene.route(&ROUTING.replace("secret_files: [key]", "secret_files: [new, key]").replace("[ops, hook]", "[hook]"));
    let _notifier = scene.notifier(&[]).await;
    scene.publish(&failed("shop", |_| {})).await;
    eventually("the old key is known", || async { scene.receiver.received().len() == 1 }).await;
    use base64::Engine as _;
    scene.receiver.change_key(&base64::engine::general_purpose::STANDARD.decode(&new[6..]).unwrap());
    scene.publish(&failed("shop", |_| {})).await;
    eventually("the new key is known", || async { scene.receiver.received().len() == 2 }).await;
    let received = &scene.receiver.received()[1];
    assert_eq!(received.signatures.split(' ').count(), 2);

    // Somebody sends what they have seen, later and earlier: the signature holds for its own time alone.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for timestamp in [received.timestamp, received.timestamp - 1, received.timestamp - 3600] {
        let again = client
            .post(scene.receiver.url())
            .header("webhook-id", &received.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", &received.signatures)
            .body(received.body.clone());
        let status = again.send().await.unwrap().status().as_u16();
        assert_eq!(status, if timestamp == received.timestamp { 204 } else { 401 });
    }
    assert!(scene.receiver.received()[2].again, "within its time it's recognised by its id");
}
