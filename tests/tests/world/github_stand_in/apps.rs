//! The app's tokens: the one it signs, and the ones GitHub hands out for an installation.

use reqwest::Method;
use serde_json::{Value, json};
use slipway_tests::github::{GitHub, GitHubOptions, Level, NewRepository, sign_web_token};

use crate::github_stand_in::support::{ApiAnswer, OTHER, SHOP, StandInWorld, now};

const EXPIRED: &str = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which \
                       the assertion expires";
const ISSUED_AT: &str =
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued";

async fn ask_with(world: &StandInWorld, claims: Value) -> anyhow::Result<ApiAnswer> {
    world.get("/app", &world.jwt(&claims)?).await
}

#[tokio::test]
async fn the_app_is_known_by_its_id_and_by_its_client_id() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let (id, client_id) = (world.github.app_id(), world.github.app_client_id());
    for issuer in [json!(id), json!(id.to_string()), json!(client_id)] {
        let answer = ask_with(&world, json!({ "iss": issuer, "iat": now() - 60, "exp": now() + 600 })).await?;
        assert_eq!(answer.body["id"], id, "{answer:?}");
    }
    let stranger = ask_with(&world, json!({ "iss": 7, "iat": now() - 60, "exp": now() + 540 })).await?;
    stranger.is(404, "Integration not found")
}

#[tokio::test]
async fn a_json_web_token_that_lives_too_long_is_refused() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let answer = ask_with(&world, json!({ "iss": world.github.app_id(), "iat": now(), "exp": now() + 660 })).await?;
    answer.is(401, "'Expiration time' claim ('exp') is too far in the future")
}

#[tokio::test]
async fn a_json_web_token_that_has_expired_is_refused() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let id = world.github.app_id();
    ask_with(&world, json!({ "iss": id, "iat": now() - 660, "exp": now() - 60 })).await?.is(401, EXPIRED)?;
    ask_with(&world, json!({ "iss": id, "iat": now() - 60 })).await?.is(401, EXPIRED)?;

    let good = world.good_jwt()?;
    assert_eq!(world.get("/app", &good).await?.status, 200);
    world.github.set_clock_offset(541);
    world.get("/app", &good).await?.is(401, EXPIRED)
}

#[tokio::test]
async fn a_json_web_token_from_the_future_is_refused() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let id = world.github.app_id();
    ask_with(&world, json!({ "iss": id, "iat": now() + 30, "exp": now() + 300 })).await?.is(401, ISSUED_AT)?;
    ask_with(&world, json!({ "iss": id, "iat": "now", "exp": now() + 300 })).await?.is(401, ISSUED_AT)
}

#[tokio::test]
async fn a_json_web_token_signed_by_another_key_can_not_be_decoded() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let elsewhere = GitHubOptions::loopback(world.directory.path().join("elsewhere"))?;
    let other = GitHub::start(GitHubOptions { app_key: None, ..elsewhere })?;
    let claims = json!({ "iss": world.github.app_id(), "iat": now() - 60, "exp": now() + 540 });
    let forged = sign_web_token(other.app_private_key_pem(), &claims)?;
    world.get("/app", &forged).await?.is(401, "A JSON web token could not be decoded")?;
    world.get("/app", "a.b.c").await?.is(401, "A JSON web token could not be decoded")?;
    let token = world.token(&json!({})).await?;
    world.get("/app", &token).await?.is(401, "A JSON web token could not be decoded")
}

#[tokio::test]
async fn the_installation_is_found_by_a_repository_of_it_alone() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    world.github.add_repository("acme", "without-the-app", &NewRepository::default())?;
    let jwt = world.good_jwt()?;
    let found = world.get(&format!("/repos/{SHOP}/installation"), &jwt).await?;
    assert_eq!(found.body["id"], world.installation);
    world.get("/repos/acme/without-the-app/installation", &jwt).await?.is(404, "Not Found")?;
    world.get("/repos/acme/absent/installation", &jwt).await?.is(404, "Not Found")
}

#[tokio::test]
async fn a_token_for_one_repository_reads_no_other() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let minted = world.mint(&json!({ "repositories": ["shop.front"], "permissions": { "contents": "read" } })).await?;
    assert_eq!(minted.status, 201);
    assert_eq!(minted.body["repositories"][0]["full_name"], SHOP);
    assert_eq!(minted.body["permissions"], json!({ "contents": "read", "metadata": "read" }));
    let token = minted.body["token"].as_str().unwrap_or_default();
    assert_eq!(world.get(&format!("/repos/{SHOP}"), token).await?.status, 200);
    world.get(&format!("/repos/{OTHER}"), token).await?.is(404, "Not Found")?;
    let refused = world.get(&format!("/repos/{SHOP}/actions/secrets/public-key"), token).await?;
    refused.is(403, "Resource not accessible by integration")?;
    assert_eq!(refused.header("x-accepted-github-permissions"), "secrets=read");
    assert_eq!(world.github.tokens_minted(), 1);
    Ok(())
}

#[tokio::test]
async fn no_token_reaches_further_than_its_installation() -> anyhow::Result<()> {
    let world = StandInWorld::start_with(&[("contents", Level::Read)])?;
    let foreign = world.github.add_repository("acme", "foreign", &NewRepository::default())?;
    let repositories = "There is at least one repository that does not exist or is not accessible to the parent \
                        installation.";
    for body in [
        json!({ "repositories": ["foreign"] }),
        json!({ "repositories": ["absent"] }),
        json!({ "repositories": ["acme/other"] }),
        json!({ "repository_ids": [foreign] }),
    ] {
        world.mint(&body).await?.is(422, repositories)?;
    }
    for permissions in [json!({ "contents": "write" }), json!({ "secrets": "read" }), json!({ "contents": "all" })] {
        let answer = world.mint(&json!({ "permissions": permissions })).await?;
        answer.is(422, "The permissions requested are not granted to this installation.")?;
    }
    assert_eq!(world.github.tokens_minted(), 0);
    Ok(())
}

#[tokio::test]
async fn an_empty_list_of_repositories_is_all_of_them() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({ "repositories": [] })).await?;
    assert_eq!(world.get(&format!("/repos/{OTHER}"), &token).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_installation_token_ends_after_an_hour() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.set_clock_offset(3590);
    assert_eq!(world.get(&format!("/repos/{SHOP}"), &token).await?.status, 200);
    world.github.set_clock_offset(3601);
    world.get(&format!("/repos/{SHOP}"), &token).await?.is(401, "Bad credentials")
}

#[tokio::test]
async fn a_revoked_token_is_a_bad_credential() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    assert_eq!(world.send(Method::DELETE, "/installation/token", &token, &json!({})).await?.status, 204);
    world.get(&format!("/repos/{SHOP}"), &token).await?.is(401, "Bad credentials")
}

#[tokio::test]
async fn a_suspended_installation_gives_no_token_and_honours_none() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.suspend_installation(world.installation, true);
    world.mint(&json!({})).await?.is(403, "This installation has been suspended")?;
    world.get(&format!("/repos/{SHOP}"), &token).await?.is(403, "This installation has been suspended")?;
    world.github.suspend_installation(world.installation, false);
    assert_eq!(world.get(&format!("/repos/{SHOP}"), &token).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_deleted_installation_is_not_found_and_its_tokens_are_void() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.delete_installation(world.installation);
    world.mint(&json!({})).await?.is(404, "Not Found")?;
    world.get(&format!("/repos/{SHOP}"), &token).await?.is(401, "Bad credentials")
}

#[tokio::test]
async fn installation_tokens_are_long_unless_the_short_form_is_asked_for() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let long = world.token(&json!({})).await?;
    assert!(long.starts_with("ghs_") && long.len() > 400 && long.matches('.').count() == 2, "{long}");

    let path = format!("/app/installations/{}/access_tokens", world.installation);
    let request = world.request(Method::POST, &path).bearer_auth(world.good_jwt()?);
    let answer = ApiAnswer::read(request.header("x-github-stateless-s2s-token", "disabled").send().await?).await?;
    let short = answer.body["token"].as_str().unwrap_or_default();
    assert!(short.len() == 40 && !short.contains('.'), "{short}");
    assert_eq!(world.get(&format!("/repos/{SHOP}"), short).await?.status, 200);
    Ok(())
}
