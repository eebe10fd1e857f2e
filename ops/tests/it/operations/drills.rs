//! What operators met in drills: an outage that `status` has to tell, a worker that died, a server that is lost or repaired,
//! rows of a later version, and commands that name something that isn't there.

use super::*;

/// A deployment of `slug` that waits for its next attempt, its server's circuit being open.
async fn waiting(database: &TestDatabase, store: &Store, slug: &str) -> DeploymentId {
    let id = accept(store, &with_secrets(slug)).await;
    let later = "UPDATE deployments SET run_at = now() + interval '10 min', accepted_at = now() - interval '20 min' WHERE id = $1";
    database.sql.execute(later, &[&id.0]).await.unwrap();
    let open =
        "INSERT INTO server_circuits VALUES ('vps-267179', 5, now() - interval '20 min', now() + interval '2 min')";
    database.sql.execute(open, &[]).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_and_a_deployment_that_waits_are_problems_and_end_on_a_retry() {
    let (database, store) = TestDatabase::migrated("w").await;
    let nobody: SecretString = "amqp://me:hunter2@127.0.0.1:1".to_owned().into();
    let operator = || operator(Some(&database), Some(&nobody));
    run(operator(), &["servers", "add", "vps-267179", "--address", "203.0.113.10"]).await;
    let id = waiting(&database, &store, "shop").await.to_string();
    let status = json_of(operator(), &["status"]).await;
    let problems = status["problems"].to_string();
    assert!(problems.contains("server vps-267179 can't be reached for 20 min"), "{problems}");
    assert!(
        problems.contains("a deployment was accepted 20 min") && problems.contains("slipway servers check"),
        "{problems}"
    );
    assert_eq!((&status["circuits"][0]["state"], &status["circuits"][0]["failures"]), (&json!("open"), &json!(5)));
    let patient = json_of(operator(), &["status", "--max-wait", "1h"]).await;
    assert!(!patient["problems"].to_string().contains("was accepted"), "{patient}");

    // A window of maintenance is no outage.
    let window = "INSERT INTO maintenance_windows (server, starts_at, ends_at) VALUES ('vps-267179', now(), now() + interval '1 h')";
    database.sql.execute(window, &[]).await.unwrap();
    let maintained = json_of(operator(), &["status"]).await;
    assert!(!maintained["problems"].to_string().contains("was accepted"), "{maintained}");
    database.sql.execute("DELETE FROM maintenance_windows", &[]).await.unwrap();

    assert!(store.claim(Duration::from_secs(60)).await.unwrap().is_none(), "it isn't due");
    let said = run(operator(), &["deployments", "retry", &id[..8]]).await;
    assert!(said.starts_with("exit: 0\n") && said.contains("is due now"), "{said}");
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().expect("it's let through");
    assert_eq!(claim.lease.deployment.to_string(), id);
    let runs = run(operator(), &["deployments", "retry", &id]).await;
    assert!(runs.starts_with("exit: 1\n") && runs.contains("runs"), "{runs}");
    store.finish(&claim.lease, &DeploymentEnd::Cancelled, &AttemptSummary::default()).await.unwrap();
    let ended = run(operator(), &["deployments", "retry", &id]).await;
    assert!(ended.starts_with("exit: 1\n") && ended.contains("has ended as cancelled"), "{ended}");
    // A check that gets through closes the circuit altogether.
    store.record_reachable(&"vps-267179".parse().unwrap()).await.unwrap();
    assert_eq!(json_of(operator(), &["status"]).await["circuits"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_worker_is_missed_until_it_is_relieved_and_forgotten_by_itself_or_by_name() {
    let (database, store) = TestDatabase::migrated("new").await;
    let nobody: SecretString = "amqp://me:hunter2@127.0.0.1:1".to_owned().into();
    let operator = || operator(Some(&database), Some(&nobody));
    let turn = || store.take_turn("1", Duration::from_millis(1));
    let dies = async |name: &str, seconds: f64| {
        let insert = "INSERT INTO workers (name, version, seen_at, next_turn_at)
                      VALUES ($1, '1', now() - $2 * interval '1 second', now() - $2 * interval '1 second')";
        database.sql.execute(insert, &[&name, &seconds]).await.unwrap();
    };
    let missed = async || json_of(operator(), &["status"]).await["problems"].to_string().contains("dead");
    accept(&store, &with_secrets("shop")).await;
    let claim = store.claim(Duration::from_secs(60)).await.unwrap().unwrap();
    dies("dead", 600.0).await;
    database.sql.execute("UPDATE deployments SET owner = 'dead'", &[]).await.unwrap();
    turn().await.unwrap();
    let listed = json_of(operator(), &["workers", "list"]).await;
    assert_eq!((&listed[0]["name"], &listed[0]["runs"]), (&json!("dead"), &json!(1)), "{listed}");
    assert!(missed().await, "nobody has taken over what it ran");

    database.sql.execute("UPDATE deployments SET owner = 'new'", &[]).await.unwrap();
    assert!(!missed().await, "others have");
    turn().await.unwrap();
    let listed = json_of(operator(), &["workers", "list"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    store.finish(&claim.lease, &DeploymentEnd::Cancelled, &AttemptSummary::default()).await.unwrap();

    dies("gone", 45.0).await;
    let alive = run(operator(), &["workers", "forget", "new"]).await;
    assert!(alive.starts_with("exit: 1\n") && alive.contains("gives signs of life"), "{alive}");
    let said = run(operator(), &["workers", "forget", "gone", "--why", "the pod is deleted"]).await;
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let again = run(operator(), &["workers", "forget", "gone"]).await;
    assert!(again.starts_with("exit: 2\n") && again.contains("slipway workers list"), "{again}");
    snapshot("workers-list", &run(operator(), &["workers", "list"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_projects_is_removed_only_by_force_and_for_a_reason_on_record() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake";
    run(operator(), &["servers", "add", "vps-267179", "--address", "203.0.113.10", "--host-key", key]).await;
    for slug in ["shop", "bakery", "kiosk"] {
        accept(&store, &with_secrets(slug)).await;
        succeed(&store).await;
    }
    let refused = run(operator(), &["servers", "remove", "vps-267179"]).await;
    assert!(refused.starts_with("exit: 1\n") && refused.contains("projects live on vps-267179 (3)"), "{refused}");
    let unexplained = run(operator(), &["servers", "remove", "vps-267179", "--force"]).await;
    assert!(unexplained.starts_with("exit: 2\n") && unexplained.contains("--why"), "{unexplained}");
    let forced = ["servers", "remove", "vps-267179", "--force", "--why", "the disk is lost"];
    let said = run(operator(), &forced).await;
    assert!(said.starts_with("exit: 0\n") && said.contains("bakery"), "{said}");
    let row = json_of(operator(), &["audit", "vps-267179", "--action", "servers remove"]).await[0].clone();
    assert_eq!((&row["why"], &row["details"]["was"]["host_key"]), (&json!("the disk is lost"), &json!(key)), "{row}");
    assert_eq!(row["details"]["projects"].as_array().unwrap().len(), 3, "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_chosen_by_server_and_lists_go_on_page_by_page() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    for (slug, server) in [("shop", "vps-1"), ("bakery", "vps-2"), ("kiosk", "vps-1")] {
        let mut event: Value = serde_json::from_slice(&with_secrets(slug)).unwrap();
        event["data"]["server"]["handle"] = server.into();
        accept(&store, event.to_string().as_bytes()).await;
        fail(&store, ErrorCode::ServerUnreachable).await;
    }
    let listed = json_of(operator(), &["dead-letters", "list", "--server", "vps-1"]).await;
    let seen: Vec<_> = listed.as_array().unwrap().iter().map(|l| (&l["project"], &l["server"])).collect();
    let on = json!("vps-1");
    assert_eq!(seen, [(&json!("kiosk"), &on), (&json!("shop"), &on)], "{listed}");
    snapshot("dead-letters-list-server", &run(operator(), &["dead-letters", "list", "--server", "vps-2"]).await);
    assert_eq!(json_of(operator(), &["dead-letters", "groups", "--server", "vps-1"]).await[0]["count"], 2);
    let replayed = json_of(operator(), &["dead-letters", "replay", "--server", "vps-1", "--yes"]).await;
    assert_eq!(replayed["replayed"].as_array().unwrap().len(), 2, "{replayed}");
    let left = json_of(operator(), &["dead-letters", "list"]).await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["server"]), (1, &json!("vps-2")), "{left}");

    for (list, id) in [
        (&["dead-letters", "list", "--state", "all"][..], "id"),
        (&["deployments", "list"], "deployment_id"),
        (&["audit"], "number"),
    ] {
        let all = json_of(operator(), list).await;
        let ids: Vec<String> = all.as_array().unwrap().iter().map(|row| row[id].to_string().replace('"', "")).collect();
        assert!(ids.len() > 1, "{all}");
        let page = [list, &["--limit", "1"]].concat();
        let first = run(operator(), &page).await;
        assert!(first.contains("give --before "), "{first}");
        let second = json_of(operator(), &[&page[..], &["--before", &ids[0]]].concat()).await;
        assert_eq!(second[0][id].to_string().replace('"', ""), ids[1], "{list:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_later_version_is_shown_as_far_as_it_is_understood() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    accept(&store, &with_secrets("shop")).await;
    succeed(&store).await;
    let odd = accept(&store, &with_secrets("bakery")).await.to_string();
    fail(&store, ErrorCode::PortOccupied).await;
    let later = "ALTER TABLE deployments DROP CONSTRAINT deployments_action_is_known, DROP CONSTRAINT deployments_state_check;
                 UPDATE deployments SET action = 'hibernate', state = 'paused', request = '{\"data\": {\"project\": 7}}',
                     failure = failure || '{\"code\": \"warp-core-breach\", \"stage\": \"warp\"}',
                     result = result || '{\"outcome\": \"paused\"}' WHERE project_slug = 'bakery';
                 UPDATE stage_journal SET failure = '[]', facts = '[]' WHERE failure IS NOT NULL";
    database.sql.batch_execute(later).await.unwrap();
    let shown = run(operator(), &["deployments", "list"]).await;
    assert!(shown.starts_with("exit: 0\n") && shown.contains("shop"), "{shown}");
    assert!(shown.contains("hibernate") && shown.contains("paused"), "{shown}");
    assert!(shown.contains("a later version wrote request, failure, result, state of"), "{shown}");
    let listed = json_of(operator(), &["deployments", "list"]).await;
    assert_eq!((&listed[0]["state"], &listed[0]["failure"]["code"]), (&json!("paused"), &json!("warp-core-breach")));
    assert_eq!(listed[0]["unread"], json!(["data", "failure", "result", "state"]));
    assert_eq!((&listed[1]["state"], &listed[1]["unread"]), (&json!("succeeded"), &json!([])));
    let one = run(operator(), &["deployments", "show", &odd]).await;
    assert!(one.starts_with("exit: 0\n") && one.contains("warp-core-breach"), "{one}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_names_a_wrong_server_or_project_says_which_of_them_is_wrong() {
    let (database, store) = TestDatabase::migrated("w").await;
    let nobody: SecretString = "amqp://me:hunter2@127.0.0.1:1".to_owned().into();
    let operator = || operator(Some(&database), Some(&nobody));
    accept(&store, &with_secrets("shop")).await;
    succeed(&store).await;
    run(operator(), &["servers", "add", "vps-9", "--address", "203.0.113.9"]).await;
    for command in ["stop", "start", "rollback", "undeploy"] {
        for (rest, words) in [
            (&["shop", "--server", "nope"][..], "nope isn't in the inventory"),
            (&["shop", "--server", "vps-9"], "shop was never deployed to vps-9"),
            (&["shop", "--project-id", "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c99"], "--project-id"),
            (&["nope"], "no deployment of nope is known"),
            (&["nope", "--server", "vps-267179"], "vps-267179 isn't in the inventory"),
        ] {
            let said = run(operator(), &[&[command][..], rest].concat()).await;
            assert!(said.starts_with("exit: 2\n") && said.contains(words), "{command} {rest:?}: {said}");
        }
    }
    let said = run(operator(), &["stop", "shop", "--server", "vps-9"]).await;
    assert!(said.contains("it's on vps-267179"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_fit_into_the_columns_that_there_are() {
    let (database, store) = TestDatabase::migrated("w").await;
    run(operator(Some(&database), None), &["servers", "add", "vps-1", "--address", "203.0.113.10"]).await;
    accept(&store, &with_secrets("a-project-with-quite-a-long-name")).await;
    fail(&store, ErrorCode::RegistryCredentialRefused).await;
    for list in [&["audit"][..], &["dead-letters", "list"], &["deployments", "list"], &["servers", "list"]] {
        let mut narrow = operator(Some(&database), None);
        narrow.env("COLUMNS", "80").args(list);
        let output = tokio::task::spawn_blocking(move || narrow.output().unwrap()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.chars().count() <= 80), "{list:?}:\n{text}");
    }
}
