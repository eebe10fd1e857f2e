//! Stop, start, rollback, undeploy and cancel as an operator asks for them; the workers' side is scripted.

use super::*;
use slipway_protocol::Action;

/// A running system with one deployed version after the other of `corner-shop` on `vps-267179`.
struct Shop {
    database: TestDatabase,
    amqp: SecretString,
    outside: TestClient,
    worker: TestWorker,
}

impl Shop {
    async fn new(commits: &[&str]) -> Self {
        let (database, store) = TestDatabase::migrated("w").await;
        let amqp = vhost();
        let outside = TestClient::new(&amqp).await;
        let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
        let worker = TestWorker::start(store, &amqp, pipeline, WorkerOptions::default());
        let mut shop = Self { database, amqp, outside, worker };
        for commit in commits {
            shop.deploy(commit, "vps-267179").await;
        }
        shop
    }

    async fn deploy(&mut self, commit: &str, server: &str) {
        let body = request(|event| {
            event["data"]["project"]["id"] = "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11".into();
            event["data"]["repository"]["commit"] = commit.repeat(40).into();
            event["data"]["server"]["handle"] = server.into();
            event["data"].as_object_mut().unwrap().remove("sequence");
            event["time"] = jiff::Timestamp::now().to_string().into();
        });
        self.outside.publish(&body).await;
        assert_eq!(self.outside.result().await["data"]["outcome"], "succeeded");
    }

    async fn run(&self, args: &[&str]) -> String {
        run(operator(Some(&self.database), Some(&self.amqp)), args).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        json_of(operator(Some(&self.database), Some(&self.amqp)), args).await
    }

    /// The next result's data.
    async fn result(&mut self) -> Value {
        self.outside.result().await["data"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_stops_starts_rolls_back_and_undeploys_through_the_workers() {
    let mut shop = Shop::new(&["a", "b", "c"]).await;
    snapshot("projects-versions", &shop.run(&["projects", "versions", "corner-shop"]).await);
    snapshot("lifecycle-stop", &shop.run(&["stop", "corner-shop", "--why", "the trial is over"]).await);
    let result = shop.result().await;
    assert_eq!((&result["action"], &result["outcome"]), (&json!("stop"), &json!("succeeded")));
    let id = result["deployment_id"].as_str().unwrap();
    let shown = shop.run(&["deployments", "show", id]).await;
    assert!(shown.contains("Action:       stop") && shown.contains("Reason:       the trial is over"), "{shown}");
    snapshot("lifecycle-start-watched", &shop.run(&["start", "corner-shop", "--watch"]).await);
    shop.result().await;

    let versions = shop.json(&["projects", "versions", "corner-shop"]).await;
    let oldest = versions[2]["deployment_id"].as_str().unwrap().to_owned();
    for (to, commit) in [(&oldest[..8], "a"), ("bbbbbbb", "b"), ("cccc", "c")] {
        shop.json(&["rollback", "corner-shop", "--to", to]).await;
        let result = shop.result().await;
        assert_eq!((&result["commit"], &result["outcome"]), (&json!(commit.repeat(40)), &json!("succeeded")), "{to}");
    }
    snapshot("lifecycle-rollback-unknown", &shop.run(&["rollback", "corner-shop", "--to", "fffff"]).await);

    snapshot("lifecycle-undeploy-unconfirmed", &shop.run(&["undeploy", "corner-shop", "--remove-volumes"]).await);
    shop.json(&["undeploy", "corner-shop", "--remove-volumes", "--yes"]).await;
    let result = shop.result().await;
    let shown = shop.json(&["deployments", "show", result["deployment_id"].as_str().unwrap()]).await;
    assert_eq!((&shown["action"], &shown["remove_volumes"]), (&json!(Action::Undeploy), &json!(true)));
    snapshot("lifecycle-stop-undeployed", &shop.run(&["stop", "corner-shop"]).await);
    snapshot("lifecycle-stop-unknown", &shop.run(&["stop", "nowhere"]).await);
    shop.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_key_is_replaced_by_deploying_the_last_version_without_the_old_key() {
    let mut shop = Shop::new(&["a", "b"]).await;
    let known = async || shop.database.count("SELECT count(*) FROM github_digests WHERE name = 'DEPLOY_SSH_KEY'").await;
    let sql = "INSERT INTO github_digests (project_id, server, name, digest)
               SELECT project_id, server, name, 'x'
               FROM (SELECT project_id, server FROM deployments LIMIT 1) d, unnest(ARRAY['DEPLOY_SSH_KEY', 'DEPLOY_HOST']) name";
    shop.database.sql.execute(sql, &[]).await.unwrap();

    // While somebody acts on the project nothing is done: they'd write down the old key's digest.
    let busy = "UPDATE project_leases SET expires_at = now() + interval '1 hour'";
    shop.database.sql.execute(busy, &[]).await.unwrap();
    snapshot("rotate-key-busy", &shop.run(&["projects", "rotate-key", "corner-shop"]).await);
    assert_eq!(known().await, 1);
    shop.database.sql.execute("UPDATE project_leases SET expires_at = now()", &[]).await.unwrap();

    snapshot("rotate-key-watched", &shop.run(&["projects", "rotate-key", "corner-shop", "--watch"]).await);
    assert_eq!(known().await, 0);
    assert_eq!(shop.database.count("SELECT count(*) FROM github_digests").await, 1, "the others are known still");
    let result = shop.result().await;
    assert_eq!((&result["action"], &result["commit"]), (&json!("rollback"), &json!("b".repeat(40))));
    let shown = shop.json(&["deployments", "show", result["deployment_id"].as_str().unwrap()]).await;
    assert_eq!(shown["reason"], "the deploy key is made anew");
    snapshot("rotate-key-unknown", &shop.run(&["projects", "rotate-key", "nowhere"]).await);
    shop.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_on_two_servers_is_asked_about_and_a_cancellation_keeps_its_reason() {
    let mut shop = Shop::new(&["a"]).await;
    shop.deploy("a", "vps-2").await;
    snapshot("lifecycle-ambiguous", &shop.run(&["stop", "corner-shop"]).await);
    shop.json(&["stop", "corner-shop", "--server", "vps-2"]).await;
    assert_eq!(shop.result().await["server"], "vps-2");
    shop.worker.stop().await;

    let store = shop.database.store("v");
    let waiting = accept(&store, &with_secrets("florist")).await.to_string();
    let operator = || operator(Some(&shop.database), None);
    run(operator(), &["cancel", &waiting, "--why", "the wrong branch", "--by", "ada"]).await;
    let shown = run(operator(), &["deployments", "show", &waiting]).await;
    assert!(shown.contains("asked for by ada at") && shown.contains("Z: the wrong branch"), "{shown}");
    let ended = run(operator(), &["cancel", &waiting]).await;
    assert!(ended.contains("has ended already: cancelled"), "{ended}");
}
