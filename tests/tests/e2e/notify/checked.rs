//! `slipway notify --check`: every mistake with its line and what to do, no secret, and nobody is told anything.

use super::scene::Scene;

const WRONG: &str = r#"max_age: 400h
channels:
  ops:
    telegram: { token_file: bot, chat: everybody }
    quiet: { from: "22:00", to: "25:00", timezone: Mars/Base }
    per_minute: 0
  team:
    slack: { url_file: open }
  both:
    slack: { url_file: slack }
    email: { from: a@example.org, to: [], server: mail.example.org, tls: none }
  hook:
    webhook: { url: "https://me:secret@example.org", secret_files: [short] }
    template: "{titel}"
rules:
  - { outcomes: [succeeded], classes: [transient], to: [ops] }
  - to: [opps]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_of_a_routing_file_has_its_line_and_says_what_to_do() {
    let scene = Scene::new().await;
    scene.secret("short", "hunter2");
    std::fs::write(scene.folder.path().join("open"), "https://hooks.example.org/hunter2").unwrap();
    scene.route(WRONG);
    let output = scene.run(&["notify", "--check", "routing.yaml"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for (line, part) in [
        (1, "336 h"),
        (4, "a chat's number"),
        (5, "a time of day"),
        (5, "tzdata"),
        (6, "from 1 to 600"),
        (8, "chmod"),
        (10, "one of `telegram`, `slack`, `webhook` and `email`"),
        (13, "without user and password"),
        (13, "fewer than 24"),
        (14, "there are {title}"),
        (16, "never applies"),
        (17, "there are both, hook, ops, team"),
    ] {
        let place = format!("routing.yaml:{line}: ");
        assert!(said.lines().any(|told| told.contains(&place) && told.contains(part)), "{line} {part}:\n{said}");
    }
    assert!(!said.contains("hunter2") && said.contains("hint: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_routing_file_is_refused_at_its_line_and_a_right_one_is_counted() {
    let scene = Scene::new().await;
    for (text, line, part) in [
        ("channels: {}\nrules: []\n", None, "no `channels`"),
        ("channels:\n  ops:\n    telegramm: {}\nrules: []\n", Some(3), "telegramm"),
        (
            "channels:\n  a:\n    slack: { url_file: slack }\nrules:\n  - { to: [a], outcomes: [failled] }\n",
            Some(5),
            "failled",
        ),
        ("channels: [\n", Some(1), "mapping"),
    ] {
        scene.route(text);
        let output = scene.run(&["notify", "--check", "routing.yaml"]).await;
        let said = String::from_utf8(output.stderr).unwrap();
        let place = line.map_or("routing.yaml: ".to_owned(), |line| format!("routing.yaml:{line}: "));
        assert!(output.status.code() == Some(2) && said.contains(&place) && said.contains(part), "{text}{said}");
    }
    scene.route("channels:\n  team:\n    slack: { url_file: slack }\nrules:\n  - to: [team]\n");
    let right = scene.json(&["notify", "--check", "routing.yaml", "--json"]).await;
    assert_eq!(right, serde_json::json!({ "channels": ["team"], "rules": 1 }));
    assert_eq!(scene.database.count("SELECT count(*) FROM notification_channels").await, 0);
}
