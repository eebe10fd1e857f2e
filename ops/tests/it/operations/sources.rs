//! Rules about producers, as operators make them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rules_about_sources_are_made_listed_and_revoked_with_a_reason() {
    let (database, _store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let source = "/orchestrator/eu-1";
    snapshot("sources-none", &run(operator(), &["sources", "list"]).await);
    snapshot("sources-allow-without-reason", &run(operator(), &["sources", "allow", source]).await);
    let one =
        ["sources", "allow", source, "--user", "eu", "--projects", "eu-*", "--action", "deploy", "--action", "stop"];
    let one = [&one[..], &["--as", "ada", "--why", "its own projects"]].concat();
    snapshot("sources-allow", &run(operator(), &one).await);
    let cli = ["sources", "allow", "/slipway/cli", "--as", "ada", "--why", "operators"];
    assert_eq!(json_of(operator(), &cli).await, json!({ "number": 2, "done": "allowed" }));
    snapshot("sources-list", &run(operator(), &["sources", "list"]).await);
    snapshot(
        "sources-revoke",
        &run(operator(), &["sources", "revoke", "2", "--as", "bob", "--why", "not any more"]).await,
    );
    let again = run(operator(), &["sources", "revoke", "2", "--why", "again"]).await;
    assert!(again.starts_with("exit: 2\n") && again.contains("no rule 2 holds"), "{again}");
    let last = run(operator(), &["sources", "revoke", "1", "--why", "the last one"]).await;
    assert!(last.contains("every source may ask for everything now"), "{last}");
    let all = json_of(operator(), &["sources", "list", "--all"]).await;
    assert_eq!((&all[0]["actions"], &all[0]["user"]), (&json!(["deploy", "stop"]), &json!("eu")));
    assert_eq!((&all[1]["added"]["who"], &all[1]["revoked"]["who"]), (&json!("ada"), &json!("bob")));
}
