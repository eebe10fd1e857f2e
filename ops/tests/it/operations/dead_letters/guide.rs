//! The runbook's guide, followed to the letter.

use slipway_protocol::ErrorCode;

use super::{Night, begins, operator};

/// The commands of the runbook's guide, word by word.
fn guide() -> Vec<Vec<String>> {
    let runbook = include_str!("../../../../runbook.md");
    let (_, section) = runbook.split_once("## Dead letters: the night guide").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let words = |line: &str| {
        let parts: Vec<&str> = line.split('"').collect();
        let plain = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let quoted = |(i, part): (usize, &&str)| if i % 2 == 1 { vec![(*part).to_owned()] } else { plain(part) };
        parts.iter().enumerate().flat_map(quoted).collect::<Vec<String>>()
    };
    section.lines().filter_map(|line| line.strip_prefix("slipway ")).map(words).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbooks_guide_does_what_it_says() {
    let night = Night::new().await;
    let dir = tempfile::tempdir().unwrap();
    let commands = guide();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let has = |word: &str| command.iter().any(|w| w == word);
        let id = night.failed("shop", ErrorCode::PortOccupied, |_| {}).await;
        if has("restore") {
            assert!(night.says(&format!("archive {id} --why first")).await.starts_with("exit: 0"));
        }
        let body = night.store.dead_letter(id.0).await.unwrap().unwrap().body.unwrap();
        let file = dir.path().join("edited.json");
        std::fs::write(&file, String::from_utf8(body).unwrap().replace("8000", "8001")).unwrap();
        let real = |word: &String| match word.as_str() {
            "ID" => begins(id),
            "vps-1" => "vps-267179".to_owned(),
            "FILE" => file.display().to_string(),
            "DIR" => dir.path().join("out").display().to_string(),
            other => other.to_owned(),
        };
        let mut operator = operator(Some(&night.database), None);
        operator.env("EDITOR", "sed -i s/8000/8001/").env_remove("VISUAL").args(command.iter().map(real));
        let done = tokio::task::spawn_blocking(move || operator.output().unwrap()).await.unwrap();
        assert!(done.status.success(), "{command:?}: {done:?}");
        let state = night.store.dead_letter(id.0).await.unwrap().unwrap().state.as_str();
        let changes = !has("--dry-run") && !has("--limit") && !has("--until");
        let expected = match command[1].as_str() {
            "replay" if changes => "replayed",
            "archive" if changes => "archived",
            _ => "open",
        };
        assert_eq!(state, expected, "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    assert_eq!(night.database.count("SELECT count(DISTINCT action) FROM operator_audit").await, 6);
}
