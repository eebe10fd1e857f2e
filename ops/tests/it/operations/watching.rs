//! Watching: history, presence, the end, and what a terminal shows.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn watching_tells_history_and_presence_once_each_and_in_order() {
    let (database, store) = TestDatabase::migrated("w").await;
    let id = accept(&store, &with_secrets("corner-shop")).await;
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    let first = stage(&store, &claim.lease, Stage::Preflight).await;
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("slipway"))
        .args(["watch", "--json", &id.to_string()])
        .env("SLIPWAY_DATABASE_URL", database.url.expose_secret())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)) {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let _ = sender.send(event["sequence"].as_str().unwrap().parse::<u64>().unwrap());
        }
    });
    // The past has arrived: what follows is the present.
    for sequence in 1..=4 {
        assert_eq!(lines.recv().await, Some(sequence));
    }
    let second = stage(&store, &claim.lease, Stage::Clone).await;
    assert_eq!((lines.recv().await, lines.recv().await), (Some(5), Some(6)));
    let seen = AttemptSummary { stages: vec![first, second], ..AttemptSummary::default() };
    store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &seen).await.unwrap();
    assert_eq!((lines.recv().await, lines.recv().await), (Some(7), None));
    assert_eq!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_running_stage_shows_its_place_and_its_last_line() {
    let (database, store) = TestDatabase::migrated("w").await;
    let id = accept(&store, &with_secrets("corner-shop")).await;
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    let first = stage(&store, &claim.lease, Stage::Preflight).await;
    store.stage_started(&claim.lease, Stage::Clone, b"input").await.unwrap();
    let lines = vec!["Receiving objects: 42 %".to_owned()];
    store.record_progress(&claim.lease, &[ProgressKind::Log { stage: Stage::Clone, lines }]).await.unwrap();

    let binary = assert_cmd::cargo::cargo_bin!("slipway");
    let command = format!("stty cols 100 rows 30; exec {} watch {id}", binary.display());
    let mut child = std::process::Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("SLIPWAY_DATABASE_URL", database.url.expose_secret())
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, mut chunks) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = std::io::Read::read(&mut stdout, &mut chunk) {
            let _ = sender.send(String::from_utf8_lossy(&chunk[..length]).into_owned());
        }
    });
    let mut screen = String::new();
    let spinning = |screen: &str| screen.contains("[2/7] clone") && screen.contains("Receiving objects: 42 %");
    while !spinning(&screen) {
        let chunk = tokio::time::timeout(Duration::from_secs(30), chunks.recv()).await;
        screen.push_str(&chunk.unwrap_or_else(|_| panic!("{screen}")).unwrap_or_else(|| panic!("{screen}")));
    }
    assert!(screen.contains("preflight  changed in 1.5 s"), "{screen}");
    store
        .finish(
            &claim.lease,
            &DeploymentEnd::Succeeded { url: None },
            &AttemptSummary { stages: vec![first], ..AttemptSummary::default() },
        )
        .await
        .unwrap();
    while let Some(chunk) = chunks.recv().await {
        screen.push_str(&chunk);
    }
    assert!(screen.contains("Finished all in"), "{screen}");
    assert_eq!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_watching_is_the_outcome() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let good = accept(&store, &with_secrets("corner-shop")).await;
    succeed(&store).await;
    snapshot("watch-success", &run(operator(), &["watch", &good.to_string()]).await);
    let bad = accept(&store, &with_secrets("bakery")).await;
    fail(&store, ErrorCode::PortOccupied).await;
    snapshot("watch-failure", &run(operator(), &["watch", &bad.to_string()]).await);

    let waiting = accept(&store, &with_secrets("florist")).await;
    snapshot("deployments-cancel", &run(operator(), &["deployments", "cancel", &waiting.to_string()]).await);
    snapshot("watch-cancelled", &run(operator(), &["watch", &waiting.to_string()]).await);
    snapshot("deployments-cancel-again", &run(operator(), &["deployments", "cancel", &waiting.to_string()]).await);

    let nobody = run(operator(), &["watch", "0199c3a2-0000-5000-8000-000000000000", "--appear-within", "100ms"]).await;
    snapshot("watch-unknown", &nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_pruned_long_ago_still_ends_the_watch_with_its_result() {
    let (database, store) = TestDatabase::migrated("w").await;
    let id = accept(&store, &with_secrets("corner-shop")).await;
    succeed(&store).await;
    database.sql.execute("DELETE FROM outbox", &[]).await.unwrap();
    let watched = run(operator(Some(&database), None), &["watch", &id.to_string()]).await;
    assert!(watched.starts_with("exit: 0\n") && watched.contains("Finished all in"), "{watched}");
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_and_watch_together_end_with_the_outcome() {
    let (database, store) = TestDatabase::migrated("w").await;
    let amqp = vhost();
    let _outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(
        store,
        &amqp,
        ScriptedStages::new(|_| async { Ok(report(Change::Changed)) }),
        WorkerOptions::default(),
    );
    let mut submit = operator(Some(&database), Some(&amqp));
    submit.write_stdin(request(|_| {}));
    let told = run(submit, &["submit", "-", "--watch"]).await;
    worker.stop().await;
    assert!(told.starts_with("exit: 0\n"), "{told}");
    for stage in Stage::ALL {
        assert!(told.contains(&format!("{:<9}  changed in", stage.as_str())), "{stage}: {told}");
    }
    assert!(told.contains("Finished all in"), "{told}");
}
