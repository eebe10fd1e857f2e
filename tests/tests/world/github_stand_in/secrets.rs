//! Actions secrets: nothing gets in that the repository's key doesn't open.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use slipway_tests::github::Level;

use crate::github_stand_in::support::{ApiAnswer, OTHER, SHOP, StandInWorld, seal};

const NOT_SEALED: &str = "Bad request - validation failed due to an improperly encrypted secret";

fn path(name: &str) -> String {
    format!("/repos/{SHOP}/actions/secrets/{name}")
}

async fn key(world: &StandInWorld, repository: &str, token: &str) -> anyhow::Result<Value> {
    Ok(world.get(&format!("/repos/{repository}/actions/secrets/public-key"), token).await?.body)
}

async fn put(world: &StandInWorld, token: &str, encrypted: &str, key_id: &Value) -> anyhow::Result<ApiAnswer> {
    let body = json!({ "encrypted_value": encrypted, "key_id": key_id });
    world.send(Method::PUT, &path("NAME"), token, &body).await
}

#[tokio::test]
async fn a_sealed_value_is_created_then_updated() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    assert_eq!(world.put_secret(SHOP, "deploy_host", "192.0.2.1", &token).await?.status, 201);
    assert_eq!(world.put_secret(SHOP, "DEPLOY_HOST", "192.0.2.2", &token).await?.status, 204);

    let secrets = world.github.secrets(SHOP);
    assert_eq!(secrets.into_iter().collect::<Vec<_>>(), [("DEPLOY_HOST".to_owned(), "192.0.2.2".to_owned())]);
    let created: Vec<_> = world.github.secret_writes().iter().map(|write| write.created).collect();
    assert_eq!(created, [true, false]);
    Ok(())
}

#[tokio::test]
async fn a_box_sealed_for_another_key_is_refused() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let (ours, other) = (key(&world, SHOP, &token).await?, key(&world, OTHER, &token).await?);
    let sealed = seal(other["key"].as_str().context("a key")?, b"value")?;
    put(&world, &token, &sealed, &ours["key_id"]).await?.is(422, NOT_SEALED)?;
    assert!(world.github.secrets(SHOP).is_empty());
    assert!(world.github.secret_writes().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_plain_value_is_refused() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let key = key(&world, SHOP, &token).await?;
    put(&world, &token, "cGxhaW4=", &key["key_id"]).await?.is(422, NOT_SEALED)?;
    let answer = put(&world, &token, "not base64", &key["key_id"]).await?;
    assert_eq!(answer.status, 422);
    assert!(answer.message().starts_with("Invalid request.\n\nnot base64 does not match /^"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn the_key_must_be_named_and_be_the_present_one() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let old = key(&world, SHOP, &token).await?;
    let sealed = seal(old["key"].as_str().context("a key")?, b"value")?;
    put(&world, &token, &sealed, &Value::Null).await?.is(422, "Invalid request.\n\n\"key_id\" wasn't supplied.")?;

    world.github.rotate_public_key(SHOP);
    assert_eq!(put(&world, &token, &sealed, &old["key_id"]).await?.status, 422);
    assert_eq!(world.put_secret(SHOP, "NAME", "value", &token).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn names_follow_githubs_rule() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    for name in ["1ST", "WITH-HYPHEN", "WITH%20SPACE", "GITHUB_TOKEN", "github_token"] {
        assert_eq!(world.put_secret(SHOP, name, "value", &token).await?.status, 422, "{name}");
    }
    assert_eq!(world.put_secret(SHOP, "_GITHUB_2", "value", &token).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn a_value_has_at_most_48_kilobytes() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let largest = "x".repeat(48 * 1024);
    assert_eq!(world.put_secret(SHOP, "LARGE", &largest, &token).await?.status, 201);
    assert_eq!(world.put_secret(SHOP, "LARGE", &format!("{largest}x"), &token).await?.status, 422);
    Ok(())
}

#[tokio::test]
async fn writing_needs_the_permission_to_write() -> anyhow::Result<()> {
    let world = StandInWorld::start_with(&[("secrets", Level::Read)])?;
    let token = world.token(&json!({})).await?;
    let answer = world.put_secret(SHOP, "NAME", "value", &token).await?;
    answer.is(403, "Resource not accessible by integration")?;
    assert_eq!(answer.header("x-accepted-github-permissions"), "secrets=write");
    Ok(())
}

#[tokio::test]
async fn an_archived_repository_is_read_only() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.archive(SHOP, true);
    assert_eq!(world.get(&format!("/repos/{SHOP}"), &token).await?.body["archived"], true);
    let answer = world.put_secret(SHOP, "NAME", "value", &token).await?;
    answer.is(403, "Repository was archived so is read-only.")
}

#[tokio::test]
async fn secrets_are_listed_in_pages_without_their_values() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    for name in ["A", "B", "C"] {
        world.put_secret(SHOP, name, "hidden-value", &token).await?;
    }
    let first = world.get(&format!("/repos/{SHOP}/actions/secrets?per_page=2"), &token).await?;
    assert_eq!(first.body["total_count"], 3);
    assert_eq!(first.body["secrets"].as_array().map(Vec::len), Some(2));
    assert!(first.header("link").contains("page=2>; rel=\"next\""), "{first:?}");
    let second = world.get(&format!("/repos/{SHOP}/actions/secrets?per_page=2&page=2"), &token).await?;
    assert_eq!(second.body["secrets"][0]["name"], "C");
    assert!(!first.text.contains("hidden-value"));
    Ok(())
}

#[tokio::test]
async fn a_deleted_secret_is_gone() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.put_secret(SHOP, "NAME", "value", &token).await?;
    let delete = || world.send(Method::DELETE, "/repos/acme/shop.front/actions/secrets/name", &token, &Value::Null);
    // A body isn't looked at.
    assert_eq!(delete().await?.status, 204);
    assert_eq!(delete().await?.status, 404);
    world.get(&path("NAME"), &token).await?.is(404, "Not Found")
}
