//! Deployments: what can be deployed, and what is said of it.

use reqwest::Method;
use serde_json::json;
use slipway_tests::github::Level;

use crate::github_stand_in::support::{ApiAnswer, SHOP, StandInWorld};

fn path() -> String {
    format!("/repos/{SHOP}/deployments")
}

async fn create(world: &StandInWorld, token: &str, body: serde_json::Value) -> anyhow::Result<ApiAnswer> {
    world.send(Method::POST, &path(), token, &body).await
}

#[tokio::test]
async fn a_deployment_of_a_branch_names_its_commit() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let sha = world.commit(SHOP, "main", "one")?;
    let token = world.token(&json!({})).await?;
    let answer = create(&world, &token, json!({ "ref": "main", "environment": "production" })).await?;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["sha"], sha);

    let statuses = format!("{}/{}/statuses", path(), answer.body["id"]);
    for state in ["in_progress", "success"] {
        let status = world.send(Method::POST, &statuses, &token, &json!({ "state": state })).await?;
        assert_eq!(status.status, 201, "{status:?}");
    }
    assert_eq!(world.get(&statuses, &token).await?.body[0]["state"], "success");
    assert_eq!(world.get(&path(), &token).await?.body[0]["id"], answer.body["id"]);
    assert_eq!(world.github.deployments(SHOP)[0].statuses.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_deployment_needs_a_reference_that_exists() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    world.commit(SHOP, "main", "one")?;
    world.commit(SHOP, "main", "two")?;
    let token = world.token(&json!({})).await?;
    create(&world, &token, json!({})).await?.is(422, "Invalid request.\n\n\"ref\" wasn't supplied.")?;
    for absent in ["absent", "main~1", "0000000000000000000000000000000000000000"] {
        create(&world, &token, json!({ "ref": absent })).await?.is(422, &format!("No ref found for: {absent}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_reference_behind_the_default_branch_conflicts_unless_merging_is_declined() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let old = world.commit(SHOP, "main", "one")?;
    world.commit(SHOP, "main", "two")?;
    let token = world.token(&json!({})).await?;
    create(&world, &token, json!({ "ref": old })).await?.is(409, &format!("Conflict merging main into {old}."))?;
    let declined = create(&world, &token, json!({ "ref": old, "auto_merge": false })).await?;
    assert_eq!(declined.status, 201);
    Ok(())
}

#[tokio::test]
async fn checks_that_have_not_passed_conflict_unless_none_is_required() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let sha = world.commit(SHOP, "main", "one")?;
    world.github.report_check(SHOP, &sha, "ci", "pending");
    let token = world.token(&json!({})).await?;
    let refused = create(&world, &token, json!({ "ref": "main" })).await?;
    refused.is(409, "Conflict: Commit status checks failed for main.")?;
    assert_eq!(refused.body["errors"][0]["field"], "required_contexts");
    assert_eq!(create(&world, &token, json!({ "ref": "main", "required_contexts": [] })).await?.status, 201);
    world.github.report_check(SHOP, &sha, "ci", "success");
    assert_eq!(create(&world, &token, json!({ "ref": "main" })).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn a_status_has_one_of_githubs_states_and_a_short_description() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    world.commit(SHOP, "main", "one")?;
    let token = world.token(&json!({})).await?;
    let id = create(&world, &token, json!({ "ref": "main" })).await?.body["id"].clone();
    let statuses = format!("{}/{id}/statuses", path());
    for body in [json!({ "state": "done" }), json!({ "state": "success", "description": "x".repeat(141) })] {
        assert_eq!(world.send(Method::POST, &statuses, &token, &body).await?.status, 422);
    }
    let absent = format!("{}/1/statuses", path());
    world.send(Method::POST, &absent, &token, &json!({ "state": "success" })).await?.is(404, "Not Found")
}

#[tokio::test]
async fn deploying_needs_the_permission() -> anyhow::Result<()> {
    let world = StandInWorld::start_with(&[("contents", Level::Read), ("deployments", Level::Read)])?;
    let sha = world.commit(SHOP, "main", "one")?;
    let token = world.token(&json!({})).await?;
    let refused = create(&world, &token, json!({ "ref": "main" })).await?;
    refused.is(403, "Resource not accessible by integration")?;
    assert_eq!(refused.header("x-accepted-github-permissions"), "deployments=write");

    let commit = world.get(&format!("/repos/{SHOP}/commits/main"), &token).await?;
    assert_eq!(commit.body["sha"], sha);
    world.get(&format!("/repos/{SHOP}/commits/absent"), &token).await?.is(422, "No commit found for SHA: absent")
}
