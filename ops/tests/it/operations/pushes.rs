//! Branches whose pushes Slipway deploys, as operators see them.

use super::*;
use slipway_deploy::github::PushRuns;
use slipway_worker::store::BranchSeen;

#[tokio::test(flavor = "multi_thread")]
async fn watched_branches_are_listed_with_what_they_wait_for_and_what_is_wrong() {
    let (database, store) = TestDatabase::migrated("w").await;
    // What RabbitMQ would say doesn't matter here.
    let nobody: SecretString = "amqp://127.0.0.1:1".to_owned().into();
    let operator = || operator(Some(&database), Some(&nobody));
    snapshot("pushes-none", &run(operator(), &["pushes"]).await);
    let body = request(|e| {
        e["data"]["project"] = json!({ "id": uuid::Uuid::new_v4(), "slug": "corner-shop" });
        e["data"]["repository"]["commit"] = "a".repeat(40).into();
        e["data"]["repository"]["pushes_deployed_by"] = "both".into();
    });
    accept(&store, &body).await;
    succeed(&store).await;
    let minute = Duration::from_secs(60);
    let seen = |letter: &str, runs| BranchSeen { head: letter.repeat(40).parse().unwrap(), etag: None, runs };
    let look = async || {
        database.sql.execute("UPDATE watched_branches SET look_at = now()", &[]).await.unwrap();
        store.next_look().await.unwrap().unwrap()
    };
    store.finish_look(&look().await, &seen("a", None), minute).await.unwrap();
    let failed = PushRuns::Failed { workflow: "CI".to_owned(), conclusion: "failure".to_owned() };
    store.finish_look(&look().await, &seen("b", Some(failed)), minute).await.unwrap();
    snapshot("pushes", &run(operator(), &["pushes"]).await);
    assert!(!json_of(operator(), &["status"]).await["problems"].to_string().contains("slipway pushes"));

    let problem = "github-forbidden: GitHub refuses to list the workflow runs; it needs actions: read";
    for _ in 0..3 {
        store.fail_look(&look().await, problem, minute).await.unwrap();
    }
    let forgotten = "UPDATE watched_branches SET head_since = now() - interval '2 hours'";
    database.sql.execute(forgotten, &[]).await.unwrap();
    let status = json_of(operator(), &["status"]).await;
    assert_eq!(status["pushes"]["held_back"], 1, "{status}");
    assert!(!status["problems"].to_string().contains("workflow run"), "that's no problem of Slipway's: {status}");
    let told = run(operator(), &["status"]).await;
    assert!(told.contains("hint: pushes have waited for more than an hour"), "{told}");
    snapshot("pushes-problem", &run(operator(), &["pushes"]).await);
    let listed = &json_of(operator(), &["pushes"]).await[0];
    assert_eq!(
        (&listed["deployed_by"], &listed["failures"], &listed["problem"]),
        (&json!("both"), &json!(3), &json!(problem))
    );
    let problems = json_of(operator(), &["status"]).await["problems"].to_string();
    assert!(problems.contains("branches can't be looked at (1)"), "{problems}");
    let late = "UPDATE watched_branches SET look_at = now() - interval '1 hour'";
    database.sql.execute(late, &[]).await.unwrap();
    let problems = json_of(operator(), &["status"]).await["problems"].to_string();
    assert!(problems.contains("branches should have been looked at long ago (1)"), "{problems}");
}
